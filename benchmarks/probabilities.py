"""Do probabilities come true, and do they tell when not to answer? Each collection with labels and without.

    python -m benchmarks.probabilities --data DIR [--collections scifact,wikiqa] [--model NAME] [--runs DIR]

DIR holds collections in BEIR's layout. The map is fitted as a run fits it, on dev; without labels, dev queries are made
from documents. Where a collection judges nothing but test queries, one half of them (drawn by seed) is dev. Figures are
of the test queries (their other half). The student is the base, without training.

*No answer*: the relevant documents of half of the test queries are taken out of the corpus; AUROC says how well the
best hit's score, its gap to the next, or its probability tells these queries from the others.
Writes RUNS/probabilities-MODEL.json and prints Markdown tables; rows of an earlier call stay.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from sdretrieval.config import Config, parse_config
from sdretrieval.evaluation import expected_calibration_error
from sdretrieval.files import read_json, write_json
from sdretrieval.indexes.hits import Hits, best_of
from sdretrieval.indexes.probability import Probabilities, ProbabilityMap
from sdretrieval.run.api import open_stages
from sdretrieval.run.loop import prepare
from sdretrieval.stages.evaluate import measure_student
from sdretrieval.stages.index import open_index
from sdretrieval.stages.probability import DEPTH, fit_probabilities, judged_hits
from sdretrieval.stages.results import Base
from sdretrieval.stages.run import Run
from sdretrieval.store.run_folder import PROBABILITY, runs_folder
from sdretrieval.store.runner import Artifact

COLLECTIONS = ("scifact", "feedbackqa", "covidqa_passage", "climate_fever_sent", "wikiqa")
SEED = 13
DRAWS = 200
"""Of labels that come true exactly as probabilities say: what error so few queries show by chance."""


@contextmanager
def with_dev(source: Path) -> Iterator[Path]:
    """The collection, with half of its test queries as dev if they are all that it has."""
    if (source / "qrels" / "train.tsv").is_file():
        yield source
        return
    with TemporaryDirectory() as place:
        folder = Path(place) / source.name
        (folder / "qrels").mkdir(parents=True)
        for name in ("corpus.jsonl", "queries.jsonl"):
            (folder / name).symlink_to(source / name)
        head, *rows = (source / "qrels" / "test.tsv").read_text(encoding="utf8").splitlines()
        queries = list(dict.fromkeys(row.split("\t")[0] for row in rows))
        drawn = np.random.default_rng(SEED).permutation(len(queries))
        half = len(queries) // 2
        # A run with labels wants a train split: one query, since nothing is trained.
        parts = {"train": drawn[:1], "dev": drawn[1:half], "test": drawn[half:]}
        for split, numbers in parts.items():
            wanted = {queries[number] for number in numbers}
            lines = [head, *(row for row in rows if row.split("\t")[0] in wanted)]
            (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n", encoding="utf8")
        yield folder


def config_of(source: Path, model: str, labels: bool) -> Config:
    """As short as a config can be: nothing is trained."""
    name = f"probabilities-{source.name}-{Path(model).name}-{'labels' if labels else 'none'}"
    corpus = {"source": str(source), "labels": labels, **({} if labels else {"generated_queries": 1})}
    student = {"model": model, "max_tokens": 256, "encode_precision": "auto"}
    return parse_config({"name": name, "corpus": corpus, "student": student, "teacher": {"kind": "lexical"}})


def measure(source: Path, model: str, labels: bool, runs: Path) -> dict[str, Any]:
    """The figures of one collection."""

    def stages(run: Run) -> Artifact:
        base = prepare(run)
        system = measure_student(run, base.collection, "1", "student_0", "the base student", base.vectors)
        return fit_probabilities(run, base.collection, base.lexical, base.vectors, base.index, system)

    with with_dev(source) as folder, open_stages(config_of(folder, model, labels), stages, "fit", runs=runs) as run:
        record = read_json(stages(run).path / PROBABILITY)
        base = prepare(run)
        fitted = Probabilities(ProbabilityMap.from_json(record["map"]), base.lexical.index, not labels, 0)
        bare = Probabilities(ProbabilityMap.from_json(record["without_words"]), None, not labels, 0)
        return record | {"chance": chance(run, base, fitted), "no_answer": no_answer(base, fitted, bare)}


def chance(run: Run, base: Base, fitted: Probabilities) -> dict[str, float]:
    """The calibration error that probabilities which come true exactly would show, on so many hits and first hits."""
    opened = open_index(run, base.index)
    hits = judged_hits(base.collection, "test", base.lexical, base.vectors, opened)
    found = hits.by(fitted.map)
    random, errors = (
        np.random.default_rng(SEED),
        {"error": found[np.isfinite(hits.scores_Qk)], "first_error": found[:, 0]},
    )
    return {
        name: float(np.mean([expected_calibration_error(p, random.random(p.shape) < p) for _ in range(DRAWS)]))
        for name, p in errors.items()
    }


def no_answer(base: Base, fitted: Probabilities, bare: Probabilities) -> dict[str, Any]:
    """AUROC of telling queries whose relevant documents are gone from those with one: by score, gap, probability."""
    corpus, rows = base.collection.corpus, base.collection.rows_of("test")
    ids, row_of = [corpus.query_ids[row] for row in rows], corpus.document_row
    positives = [
        {row_of[d] for d, grade in corpus.qrels["test"][query].items() if grade > 0 and d in row_of} for query in ids
    ]
    lost = set(np.random.default_rng(SEED).permutation(len(ids))[: len(ids) // 2].tolist())
    gone = np.zeros(len(corpus.documents), dtype=bool)
    gone[[row for number in lost for row in positives[number]]] = True
    left = np.flatnonzero(~gone)
    queries_QD, documents_ND = base.vectors.queries_QD[rows], base.vectors.documents.vectors_WD
    found = [best_of(left, (documents_ND @ query)[left], DEPTH) for query in queries_QD]
    hits = Hits(np.stack([rows for rows, _ in found]), np.stack([scores for _, scores in found]))
    texts = corpus.query_texts(rows.tolist())
    answered = np.array([bool(one - set(np.flatnonzero(gone).tolist())) for one in positives])
    by = {
        "score": hits.scores_Qk[:, 0],
        "gap": hits.scores_Qk[:, 0] - hits.scores_Qk[:, 1],
        "probability": fitted.of(texts, hits).max(axis=1),
        "without_words": bare.of(texts, hits).max(axis=1),
    }
    return {"queries": len(ids), "answered": int(answered.sum())} | {name: auroc(v, answered) for name, v in by.items()}


def auroc(values: np.ndarray, positive: np.ndarray) -> float:
    """The probability that a positive has a higher value than another; ties count half (Mann and Whitney 1947)."""
    from scipy.stats import mannwhitneyu

    counts = int(positive.sum()) * int((~positive).sum())
    return float(mannwhitneyu(values[positive], values[~positive]).statistic / counts)


def tables(results: dict[str, dict[str, Any]]) -> str:
    """All rows, as Markdown."""
    lines = [
        "| collection, fitted | dev queries | error: cosine | **probability** | by chance | first hits: cosine | "
        "probability | by chance | Brier: cosine | probability |",
        "|---" * 10 + "|",
    ]
    for name, one in results.items():
        found = one["figures"]["test"]
        cells = [
            f"{found[part][kind]:.3f}" if kind != "chance" else f"{one['chance'][part]:.3f}"
            for part in ("error", "first_error")
            for kind in ("score", "probability", "chance")
        ]
        brier = [f"{found['brier'][kind]:.3f}" for kind in ("score", "probability")]
        lines.append(f"| {name} | {one['queries']} | {' | '.join([*cells, *brier])} |")
    lines += [
        "",
        "| collection, fitted | nAUC: score | gap | **probability** | no answer, AUROC: score | gap | "
        "**probability** | without words |",
        "|---" * 8 + "|",
    ]
    for name, one in results.items():
        area = [f"{100 * one['figures']['test']['nauc'][kind]:.0f}" for kind in ("score", "gap", "probability")]
        told = [f"{one['no_answer'][kind]:.3f}" for kind in ("score", "gap", "probability", "without_words")]
        lines.append(f"| {name} | {' | '.join([*area, *told])} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--collections", default=",".join(COLLECTIONS))
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--runs", type=Path, default=None)
    asked = parser.parse_args()
    runs = runs_folder(asked.runs)
    path = runs / f"probabilities-{Path(asked.model).name}.json"
    results = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
    for name in asked.collections.split(","):
        for labels in (True, False):
            row = f"{name}, {'labels' if labels else 'no labels'}"
            results[row] = measure(asked.data.resolve() / name, asked.model, labels, runs)
            write_json(path, results)
    print(tables(results))


if __name__ == "__main__":
    main()
