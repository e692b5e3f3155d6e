"""`compare`: two finished runs over the same corpus and split, query by query, from their TREC files."""

from __future__ import annotations

from dataclasses import dataclass
from operator import eq
from pathlib import Path
from typing import Any

from sdretrieval.corpus import Corpus
from sdretrieval.errors import RequestError
from sdretrieval.evaluation import Measured, evaluate, holm, paired_test, read_trec, verdict
from sdretrieval.run.commands.serving import serving_of
from sdretrieval.store.run_folder import find_run, read_report

COMPARED = ("final", "hybrid_final")


@dataclass(frozen=True)
class _Finished:
    name: str
    folder: Path
    report: dict[str, Any]
    corpus: Corpus

    def measured(self, system: str, measures: list[str]) -> Measured:
        """A system of the run, measured again from its TREC file."""
        split = self.report["split"]
        run = read_trec(self.folder / "runs" / f"{system}.{split}.trec")
        return evaluate(self.corpus.qrels[split], run, measures)


def compare_runs(first: str, second: str, runs: Path | None = None) -> dict[str, Any]:
    """The first run's final student against the second's by every measure that both report, alone and with BM25.

    `tests`: one row a system and measure; difference = first - second; p adjusted by Holm over all rows. Raises
    RequestError where the runs were not measured on the same documents, split and judgements.
    """
    a, b = _open(first, runs), _open(second, runs)
    _require_same(a, b)
    measures = [name for name in a.report["measures"]["final"] if name in b.report["measures"]["final"]]
    if not measures:
        raise RequestError(f"runs {first} and {second} report no common measure; set evaluate.measures alike")
    rows = [row for system in COMPARED for row in _rows(a, b, system, measures)]
    for row, p_holm in zip(rows, holm([row["test"].p for row in rows]), strict=True):
        test = row.pop("test")
        row |= {"difference": test.difference, "interval95": list(test.interval95), "p": test.p, "p_holm": p_holm}
        row["verdict"] = verdict(test, p_holm)
    head = {"schema": 1, "corpus": a.report["corpus"], "split": a.report["split"], "n_queries": a.report["n_queries"]}
    return {**head, "a": a.name, "b": b.name, "tests": rows}


def _open(name: str, runs: Path | None) -> _Finished:
    folder = find_run(name, runs)
    return _Finished(name, folder, read_report(folder), serving_of(folder).corpus())


def _rows(a: _Finished, b: _Finished, system: str, measures: list[str]) -> list[dict[str, Any]]:
    one, other = a.measured(system, measures), b.measured(system, measures)
    seed = a.report["seed"]
    return [
        {"system": system, "measure": measure, "value_a": one.mean(measure), "value_b": other.mean(measure)}
        | {"test": paired_test(one.of(measure), other.of(measure), seed)}
        for measure in measures
    ]


def _require_same(a: _Finished, b: _Finished) -> None:
    for what in ("corpus", "split"):
        if a.report[what] != b.report[what]:
            raise RequestError(
                f"run {a.name} was measured on {what} {a.report[what]}, run {b.name} on {b.report[what]}: only runs "
                "over the same corpus and split can be compared"
            )
    split = a.report["split"]
    if a.corpus.qrels[split] != b.corpus.qrels[split] or not _same_texts(a.corpus, b.corpus, split):
        raise RequestError(
            f"runs {a.name} and {b.name} both name corpus {a.report['corpus']}, {split}, but their documents or "
            "judgements differ: the corpus changed in between; run the older config again"
        )


def _same_texts(a: Corpus, b: Corpus, split: str) -> bool:
    """Whether both hold the same documents, and ask the same queries of the split."""
    one, other = ((of.document_ids, of.document_texts(), of.query_texts(of.split_rows(split))) for of in (a, b))
    return all(len(x) == len(y) and all(map(eq, x, y)) for x, y in zip(one, other, strict=True))
