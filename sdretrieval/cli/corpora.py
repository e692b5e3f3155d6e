"""`corpus python-stdlib | convert | check`: make a corpus, write it as BEIR does, look for what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdretrieval.cli.options import Json, Runs
from sdretrieval.cli.output import print_json, say, stdout_kept_clean

if TYPE_CHECKING:
    from sdretrieval.corpus import Corpus
    from sdretrieval.corpus.read.tables import Asking, Columns

app = typer.Typer(help="Make a corpus, convert it, look for what is wrong with it.", no_args_is_help=True)

Source = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="a BEIR folder, beir:NAME, a table (.jsonl, .csv, .tsv, also .gz and .zst; .parquet), a saved dataset, "
        "hf:NAME[:config[:split]], a folder of .txt, .md, .rst, .html or .pdf files, or python-stdlib",
        show_default=False,
    ),
]
Target = Annotated[Path, typer.Argument(metavar="DIR", help="the folder to write, absent or empty", show_default=False)]
MaxDocuments = Annotated[int | None, typer.Option(min=1, help="at most so many", show_default=False)]


@app.command("python-stdlib")
def python_stdlib(folder: Target, max_documents: MaxDocuments = None, as_json: Json = False) -> None:
    """Build the demo's corpus from the standard library of this Python, as a BEIR folder."""
    _write("python-stdlib", folder, max_documents, as_json)


@app.command()
def convert(
    source: Source,
    folder: Target,
    queries: Annotated[
        str | None, typer.Option(metavar="FILE", help="queries: a table, saved dataset or hf:NAME", show_default=False)
    ] = None,
    qrels: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[SPLIT=]FILE",
            help="judgements: a table (query, document, score) or TREC qrels; may be given several times",
            show_default=False,
        ),
    ] = None,
    topics: Annotated[str | None, typer.Option(metavar="FILE", help="TREC topics", show_default=False)] = None,
    log: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="query log: text, clicked ids and count if known", show_default=False),
    ] = None,
    identifier: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="of the documents' ids (default: _id, id, doc_id)")
    ] = None,
    title: Annotated[str | None, typer.Option(metavar="COLUMN", help="of their titles (default: title)")] = None,
    text: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="of their texts; several are joined (default: text, body, content, passage)"
        ),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=COLUMN",
            help="of queries, judgements and logs, where a column has no usual name; roles: query.id, query.text, "
            "qrels.query, qrels.document, qrels.score, log.text, log.clicked, log.count",
        ),
    ] = None,
    max_documents: MaxDocuments = None,
    as_json: Json = False,
) -> None:
    """Write any corpus as a clean BEIR folder, and say what was left out on the way."""
    from sdretrieval.corpus.read.tables import Asking, Columns, read_role, split_and_source

    roles = dict(read_role(given) for given in column or ())
    asking = Asking(queries, topics, log, tuple(split_and_source(given) for given in qrels or ()), roles)
    columns = Columns(identifier, title, tuple(text or ()))
    _write(source, folder, max_documents, as_json, asking, columns)


def _write(
    source: str,
    folder: Path,
    max_documents: int | None,
    as_json: bool,
    asking: Asking | None = None,
    columns: Columns | None = None,
) -> None:
    from sdretrieval.corpus import import_corpus, limit_documents, require_absent, with_questions, write_beir

    with stdout_kept_clean():
        require_absent(folder)
        imported = import_corpus(source, max_documents=max_documents, columns=columns)
        if asking is not None:
            imported = with_questions(imported, asking)
        corpus = limit_documents(imported.corpus, max_documents) if max_documents else imported.corpus
        write_beir(corpus, folder, imported.counts)
    record = _card(corpus, folder) | {"imports": [report.to_json() for report in imported.reports]}
    if as_json:
        print_json(record)
        return
    say(*(line for report in imported.reports for line in report.lines()))
    say(
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
    source: Source,
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
