"""`corpus python-stdlib | convert | check`: make a corpus, write it as BEIR does, look for what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdretrieval.cli.options import Json, Runs
from sdretrieval.cli.output import print_json, say, stdout_kept_clean

if TYPE_CHECKING:
    from sdretrieval.corpus import Corpus

app = typer.Typer(help="Make a corpus, convert it, look for what is wrong with it.", no_args_is_help=True)

Target = Annotated[Path, typer.Argument(metavar="DIR", help="the folder to write, absent or empty", show_default=False)]
MaxDocuments = Annotated[int | None, typer.Option(min=1, help="at most so many", show_default=False)]


@app.command("python-stdlib")
def python_stdlib(folder: Target, max_documents: MaxDocuments = None, as_json: Json = False) -> None:
    """Build the demo's corpus from the standard library of this Python, as a BEIR folder."""
    _write("python-stdlib", folder, max_documents, as_json)


@app.command()
def convert(
    source: Annotated[
        str, typer.Argument(metavar="SRC", help="a BEIR folder, beir:NAME or python-stdlib", show_default=False)
    ],
    folder: Target,
    max_documents: MaxDocuments = None,
    as_json: Json = False,
) -> None:
    """Write a corpus as a clean BEIR folder: broken judgements left out, one layout."""
    _write(source, folder, max_documents, as_json)


def _write(source: str, folder: Path, max_documents: int | None, as_json: bool) -> None:
    from sdretrieval.corpus import open_corpus, write_beir

    with stdout_kept_clean():
        corpus = open_corpus(source, max_documents=max_documents)
        write_beir(corpus, folder)
    record = _card(corpus, folder)
    print_json(record) if as_json else say(
        f"{folder}: {len(corpus.documents):,} documents, {len(corpus.queries):,} queries; judged queries: "
        + (", ".join(f"{split} {len(judged):,}" for split, judged in corpus.qrels.items()) or "none")
    )


def _card(corpus: Corpus, folder: Path) -> dict[str, object]:
    return {
        "folder": str(folder),
        "name": corpus.name,
        "digest": corpus.digest,
        "documents": len(corpus.documents),
        "queries": len(corpus.queries),
        "splits": {split: len(judged) for split, judged in corpus.qrels.items()},
    }


@app.command()
def check(
    source: Annotated[
        str, typer.Argument(metavar="DIR", help="a BEIR folder, beir:NAME or python-stdlib", show_default=False)
    ],
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="count lengths in this model's tokens, not in words")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="of the student's view (default: what the model itself asks for)")
    ] = None,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Counts, lengths and what each view cuts off, duplicates, empty texts, judgements that point nowhere."""
    from sdretrieval.run.commands.checking import check_source

    with stdout_kept_clean():
        found = check_source(source, model, max_tokens, runs)
    print_json(found.to_json()) if as_json else say(*found.lines())
