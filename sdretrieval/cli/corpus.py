"""`corpus python-stdlib | convert | check`: make a corpus, write it as a BEIR folder, check it for trouble."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sdretrieval.cli.lookup import FoundModel, find_model, load_found
from sdretrieval.cli.options import Json, Runs
from sdretrieval.cli.output import print_json, say, stdout_kept_clean
from sdretrieval.errors import RequestError
from sdretrieval.formatting import quantity
from sdretrieval.paths import typed_path

if TYPE_CHECKING:
    from sdretrieval.corpus import CorpusCheck
    from sdretrieval.corpus.check import CountTokens

app = typer.Typer(help="Make a corpus, convert it, check it.", no_args_is_help=True)

Source = Annotated[
    str,
    typer.Argument(
        metavar="SRC",
        help="a BEIR folder, beir:NAME, a table (.jsonl, .csv, .tsv, also .gz and .zst; .parquet), a saved dataset, "
        "hf:NAME[:config[:split]], a folder of .txt, .md, .rst, .html, .pdf, .docx or .pptx files, or python-stdlib",
    ),
]
Target = Annotated[Path, typer.Argument(metavar="DIR", help="the folder to write; it must be empty or not exist yet")]
MaxDocuments = Annotated[int | None, typer.Option(min=1, help="keep at most this many documents")]


@app.command("python-stdlib")
def python_stdlib_command(folder: Target, max_documents: MaxDocuments = None, as_json: Json = False) -> None:
    """Build the demo's corpus from the standard library of this Python, as a BEIR folder."""
    convert_command("python-stdlib", folder, max_documents=max_documents, as_json=as_json)


@app.command("convert")
def convert_command(
    source: Source, folder: Target,
    queries: Annotated[
        str | None, typer.Option(metavar="FILE", help="queries: a table, saved dataset or hf:NAME")] = None,
    qrels: Annotated[list[str] | None,
        typer.Option(metavar="[SPLIT=]FILE",
            help="judgements: a table (query, document, score) or TREC qrels; may be given several times")] = None,
    topics: Annotated[str | None, typer.Option(metavar="FILE", help="TREC topics")] = None,
    log: Annotated[
        str | None, typer.Option(metavar="FILE", help="query log: text, and clicked ids and count if known")] = None,
    identifier: Annotated[str | None,
        typer.Option("--id", metavar="COLUMN", help="column of the documents' ids (default: _id, id, doc_id)")] = None,
    title: Annotated[str | None, typer.Option(metavar="COLUMN", help="column of their titles (default: title)")] = None,
    text: Annotated[list[str] | None,
        typer.Option(metavar="COLUMN",
            help="column of their texts; several are joined (default: text, body, content, passage)")] = None,
    column: Annotated[list[str] | None,
        typer.Option(metavar="ROLE=COLUMN",
            help="column of queries, judgements or logs with an unusual name; roles: query.id, query.text, "
            "qrels.query, qrels.document, qrels.score, log.text, log.clicked, log.count")] = None,
    max_documents: MaxDocuments = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Write any corpus as a clean BEIR folder, and say what was left out."""
    from sdretrieval.corpus import import_corpus, limit_documents, require_absent, with_queries, write_beir
    from sdretrieval.corpus.read.tables import Columns, QuerySources, read_role, split_and_source

    roles = dict(read_role(given) for given in column or ())
    asking = QuerySources(queries, topics, log, tuple(split_and_source(given) for given in qrels or ()), roles)
    columns = Columns(identifier, title, tuple(text or ()))
    with stdout_kept_clean():
        require_absent(folder)
        imported = with_queries(import_corpus(source, max_documents=max_documents, columns=columns), asking)
        corpus = limit_documents(imported.corpus, max_documents) if max_documents else imported.corpus
        write_beir(corpus, folder, imported.counts)
    splits = {split: len(judged) for split, judged in corpus.qrels.items()}
    if as_json:
        print_json(
            {
                "folder": str(folder),
                "name": corpus.name,
                "digest": corpus.digest,
                "documents": len(corpus.documents),
                "queries": len(corpus.queries),
                "splits": splits,
                "imports": [report.to_json() for report in imported.reports],
            }
        )
        return
    say(*(line for report in imported.reports for line in report.lines()))
    judged = ", ".join(f"{split} {count:,}" for split, count in splits.items()) or "none"
    amounts = f"{quantity(len(corpus.documents), 'documents')}, {quantity(len(corpus.queries), 'queries')}"
    say(f"{folder}: {amounts}; judged queries: {judged}")


@app.command("check")
def check_command(
    source: Source,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="count lengths in this model's tokens, not in words")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="length of the student's view (default: as a run, 256)")
    ] = None,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Counts, lengths and what each view cuts off, duplicates, empty texts, judgements that point nowhere."""
    with stdout_kept_clean():
        result = check_source(source, model, max_tokens, runs)
    print_json(result.to_json()) if as_json else say(*result.lines())


def check_source(
    source: str, model: str | None = None, max_tokens: int | None = None, runs: Path | None = None
) -> CorpusCheck:
    """Examine the corpus that `source` names; lengths in the tokens of `model`, or in words without one.

    Raises CorpusError, ModelError, and RequestError if `max_tokens` is given without a model.
    """
    from sdretrieval.corpus import check_corpus, dangling_judgements, import_corpus, repeated_judgements
    from sdretrieval.encode.prompts import find_prompts

    if max_tokens is not None and model is None:
        raise RequestError(f"--max-tokens {max_tokens} needs --model: without a model lengths are counted in words")
    model_found = find_model(model, runs, max_tokens) if model is not None else None
    imported = import_corpus(source)
    corpus, folder = imported.corpus, typed_path(source)
    dangling = dangling_judgements(folder, corpus) if folder.is_dir() else ()
    repeated = repeated_judgements(folder) if folder.is_dir() else ()
    warnings = ["\n".join(report.lines()) for report in imported.reports if report.troubles]
    if model_found is None:
        checked = check_corpus(corpus, dangling=dangling, repeated_pairs=repeated)
        return replace(checked, warnings=(*warnings, *checked.warnings))
    views = {"student": model_found.max_tokens}
    checked = check_corpus(corpus, _token_counter(model_found), views, dangling, repeated)
    doubt = find_prompts(model_found.folder, model_found.name).doubt(model_found.name)
    return replace(checked, warnings=(*warnings, *checked.warnings, *([doubt] if doubt else [])))


def _token_counter(model: FoundModel) -> CountTokens:
    """Lengths as the student sees them, special tokens included."""
    import numpy as np

    from sdretrieval.encode.tokens import tokenize

    student = load_found(model, "cpu")
    extra = student.document_specials.count
    return lambda texts: np.asarray(tokenize(texts, student.tokenizer).lengths, dtype=np.int64) + extra
