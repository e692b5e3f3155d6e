"""`compare`: two finished runs over the same corpus and split, query by query, from their TREC files."""

from __future__ import annotations

from collections.abc import Sequence
from operator import eq
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from sdretrieval.cli.lookup import Serving
from sdretrieval.cli.options import Json, RunName, Runs
from sdretrieval.cli.output import print_json, print_measures, say, stdout_kept_clean
from sdretrieval.errors import RequestError
from sdretrieval.formatting import quantity
from sdretrieval.store.run_folder import checked, find_run, read_report

if TYPE_CHECKING:
    from sdretrieval.corpus import Corpus
    from sdretrieval.evaluation import Measured

COMPARED = ("final", "hybrid_final")


def compare_command(
    run: RunName,
    other: Annotated[str, typer.Argument(metavar="OTHER", help="the run to compare with")],
    systems: Annotated[
        list[str] | None,
        typer.Option(
            "--system",
            metavar="NAME",
            help="what of both is compared, instead of final and hybrid_final; several times",
        ),
    ] = None,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Two runs over one corpus, query by query: the first's final student against the second's."""
    with stdout_kept_clean():
        record = compare_runs(run, other, runs, systems or COMPARED)
    if as_json:
        print_json(record)
        return
    a, b = record["a"], record["b"]
    mark = " (estimate)" if record["estimate"] else ""
    say(
        f"{record['corpus']}, {record['split']}{mark}: {quantity(record['n_queries'], 'queries')}",
        f"difference: {a} minus {b}",
    )
    rows = [([row["system"], row["measure"]], [row["value_a"], row["value_b"]], row) for row in record["tests"]]
    print_measures(["system", "measure"], [a, b], rows)


class _Finished(NamedTuple):
    name: str
    folder: Path
    report: dict[str, Any]
    corpus: Corpus


def compare_runs(
    first: str, second: str, runs: Path | None = None, systems: Sequence[str] = COMPARED
) -> dict[str, Any]:
    """The first run's `systems` against the second's by every measure that both report: the final student, alone and
    with BM25, if nothing else is asked for.

    `tests`: one row a system and measure; difference = first - second; p adjusted by Holm over all rows. `estimate`:
    the split's queries were made from documents. Raises RequestError if the runs were not measured on the same
    documents, split and judgements, or one of them lacks a system.
    """
    from sdretrieval.evaluation import holm, paired_test, verdict

    folders = [find_run(name, runs) for name in (first, second)]
    a, b = (_Finished(one.name, one, read_report(one), Serving.of(one).corpus()) for one in folders)
    _require_same(a, b)
    both = [name for name in a.report["systems"] if name in b.report["systems"]]
    if lacking := [name for name in systems if name not in both]:
        raise RequestError(f"--system {lacking[0]}: not in both runs; both have: {', '.join(both)}")
    measures = [name for name in a.report["measures"]["final"] if name in b.report["measures"]["final"]]
    if not measures:
        raise RequestError(f"runs {first} and {second} report no common measure; set evaluate.measures alike")
    split, rows, tests = a.report["split"], [], []
    for system in systems:
        of_a, of_b = (_measured(run, system, split, measures) for run in (a, b))
        for measure in measures:
            values = {"value_a": of_a.mean(measure), "value_b": of_b.mean(measure)}
            rows.append({"system": system, "measure": measure, **values})
            tests.append(paired_test(of_a.of(measure), of_b.of(measure), a.report["seeds"][0]))
    for row, test, p_holm in zip(rows, tests, holm([test.p for test in tests]), strict=True):
        row |= {"difference": test.difference, "interval95": list(test.interval95), "p": test.p, "p_holm": p_holm}
        row["verdict"] = verdict(test, p_holm)
    head = {"schema": 1, "corpus": a.report["corpus"], "split": split, "n_queries": a.report["n_queries"]}
    head["estimate"] = a.report["estimate" if split == "dev" else "split_is_synthetic"]
    return {**head, "a": a.name, "b": b.name, "tests": rows}


def _measured(run: _Finished, system: str, split: str, measures: Sequence[str]) -> Measured:
    """A system of a run, averaged over the run's seeds."""
    from sdretrieval.evaluation import evaluate, read_trec
    from sdretrieval.report.figures import averaged

    repeated = run.report["seeds"][1:] if system in run.report["by_seed"] else ()
    marks = ["", *(f"@{seed}" for seed in repeated)]
    files = [checked(run.folder, f"runs/{system}{mark}.{split}.trec") for mark in marks]
    return averaged([evaluate(run.corpus.qrels[split], read_trec(file), measures) for file in files])


def _require_same(a: _Finished, b: _Finished) -> None:
    for what in ("corpus", "split"):
        if a.report[what] != b.report[what]:
            raise RequestError(
                f"run {a.name} was measured on {what} {a.report[what]}, run {b.name} on {b.report[what]}: only runs "
                "over the same corpus and split can be compared"
            )
    split = a.report["split"]
    # The same documents, and the same queries of the split.
    texts = [
        (of.document_ids, of.document_texts(), of.query_texts(of.split_rows(split))) for of in (a.corpus, b.corpus)
    ]
    same = all(len(x) == len(y) and all(map(eq, x, y)) for x, y in zip(*texts, strict=True))
    if a.corpus.qrels[split] != b.corpus.qrels[split] or not same:
        raise RequestError(
            f"runs {a.name} and {b.name} both name corpus {a.report['corpus']}, {split}, but their documents or "
            "judgements differ: the corpus changed in between; run the older config again"
        )
