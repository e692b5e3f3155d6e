"""`evaluate`, `compare`: how good, and is the difference real?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sdretrieval.cli.options import Json, RunName, Runs
from sdretrieval.cli.output import TEST_COLUMNS, paired_cells, print_json, print_table, say, stdout_kept_clean


def evaluate(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="a hub id, a folder, a run; or bm25; or hybrid:MODEL", show_default=False),
    ],
    corpus: Annotated[
        str,
        typer.Option(metavar="CORPUS", help="a BEIR folder, beir:NAME or python-stdlib", show_default=False),
    ],
    split: Annotated[str, typer.Option(help="whose queries are asked")] = "test",
    against: Annotated[
        list[str] | None, typer.Option(metavar="MODEL", help="compare with it; may be given several times")
    ] = None,
    measures: Annotated[
        list[str] | None,
        typer.Option("--measures", metavar="M", help="may be given several times (default: nDCG@10 Recall@100)"),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="of a document (default: what the run or the model itself asks for)")
    ] = None,
    index: Annotated[
        str | None,
        typer.Option(metavar="RECIPE", help="search through it: a file of indexes/, or '{kind: PQ16}'"),
    ] = None,
    json_file: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="write JSON to FILE, or to stdout for -")
    ] = None,
    runs: Runs = None,
) -> None:
    """Measure a model on a corpus, beside BM25 and hybrid search, with paired tests."""
    from sdretrieval.config import read_index_section
    from sdretrieval.run.commands.evaluating import MEASURES, evaluate_models

    _check_writable(json_file)
    with stdout_kept_clean():
        record = evaluate_models(
            model, corpus, against=against or (), split=split, measures=_asked(measures) or MEASURES,
            max_tokens=max_tokens, index=read_index_section(index) if index else None, runs=runs,
        )  # fmt: skip
    if json_file == "-":
        print_json(record)
        return
    _print_evaluation(record)
    if json_file is not None:
        from sdretrieval.store.run_folder import write_json

        write_json(Path(json_file), record)
        say(f"written: {json_file}")


def _check_writable(json_file: str | None) -> None:
    """Before the work: a path that cannot be written to would lose it."""
    from sdretrieval.errors import RequestError

    if json_file is not None and Path(json_file).is_dir():
        raise RequestError(f"--json {json_file}: that is a folder; name a file in it")
    if json_file is None or json_file == "-" or Path(json_file).parent.is_dir():
        return
    raise RequestError(f"--json {json_file}: there is no folder {Path(json_file).parent}; make it first")


def _asked(measures: list[str] | None) -> list[str]:
    """`--measures nDCG@10,MRR@10` is understood as well as the option given twice."""
    return [name.strip() for given in measures or () for name in given.split(",") if name.strip()]


def _print_evaluation(record: dict[str, Any]) -> None:
    from sdretrieval.report.page import number

    model, tests = record["model"], {test["b"]: test for test in record["tests"]}
    measures = list(record["measures"][model])
    say(f"{record['corpus']}, {record['split']}: {record['n_queries']} queries")
    for name, prompts in record["prompts"].items():
        if any(prompts.values()):
            say(f"{name} reads query prompt {prompts['query']!r}, document prompt {prompts['document']!r}")
    say(f"differences of {measures[0]}: {model} less the row's system")
    rows = [
        [name, *(number(record["measures"][name][measure]) for measure in measures), *paired_cells(tests.get(name, {}))]
        for name in record["systems"]
    ]
    print_table(["system", *measures, *TEST_COLUMNS], rows, right=[*measures, "difference", "p (Holm)"])


def compare(
    run: RunName,
    other: Annotated[str, typer.Argument(metavar="RUN", help="what it is compared with", show_default=False)],
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Two runs over one corpus, query by query: the first's final student against the second's."""
    from sdretrieval.run.commands.comparing import compare_runs

    with stdout_kept_clean():
        record = compare_runs(run, other, runs)
    if as_json:
        print_json(record)
        return
    from sdretrieval.report.page import number

    a, b = record["a"], record["b"]
    say(f"{record['corpus']}, {record['split']}: {record['n_queries']} queries; differences: {a} less {b}")
    rows = [
        [row["system"], row["measure"], number(row["value_a"]), number(row["value_b"]), *paired_cells(row)]
        for row in record["tests"]
    ]
    print_table(["system", "measure", a, b, *TEST_COLUMNS], rows, right=[a, b, "difference", "p (Holm)"])
