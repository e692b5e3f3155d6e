"""Do probabilities come true, and do they tell when not to answer? Each collection with labels and without.

    python -m benchmarks.probabilities --data DIR [--collections scifact,wikiqa] [--model NAME] [--runs DIR]
    python -m benchmarks.probabilities --run RUN [--runs DIR]

DIR holds collections in BEIR's layout. The map is fitted in three ways: on judged dev queries, as a run with labels
does; on dev queries of the other collections, leads in units of each one's spread, as the prior was that a run without
labels takes; and on dev queries made from documents. If a collection judges nothing but test queries, half of them
(drawn by seed) are dev. Figures are of the test queries (their other half). The student is the base, without training.

*No answer*: the relevant documents of half of the test queries are taken out of the corpus; AUROC says how well the
best hit's score, its gap to the next, or its probability tells these queries from the others.
With --run, base student, hard_labels and final student of a finished run with labels are compared instead.
Writes RUNS/probabilities-MODEL.json, prints Markdown tables and the prior of all collections together.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np

from sdretrieval.config import Config, load_config, parse_config
from sdretrieval.evaluation import expected_calibration_error
from sdretrieval.files import write_json
from sdretrieval.indexes.hits import Hits, best_of
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.indexes.probability import Probabilities, ProbabilityMap, fit_map, hit_features
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.run.api import open_run, open_stages
from sdretrieval.run.loop import loop, prepare
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.evaluate import measure_student, read_measured
from sdretrieval.stages.index import open_index
from sdretrieval.stages.probability import DEPTH, JudgedHits, figures, fit, judged_hits, spread_of
from sdretrieval.stages.results import Base
from sdretrieval.stages.run import Run
from sdretrieval.store.run_folder import runs_folder
from sdretrieval.store.runner import Artifact

COLLECTIONS = ("scifact", "feedbackqa", "covidqa_passage", "climate_fever_sent", "wikiqa")
SEED, MAX_TOKENS = 13, 256
PRIOR_QUERIES = 120
"""Of each collection, so that all count alike."""
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
    student = {"model": model, "max_tokens": MAX_TOKENS, "encode_precision": "auto"}
    return parse_config({"name": name, "corpus": corpus, "student": student, "teacher": {"kind": "lexical"}})


class Studied(NamedTuple):
    """A collection, searched by a student: judged hits of dev and test, nDCG@10 of test, and both without half of what
    is relevant. `synthetic`: hits of dev queries that were made from documents, if there are any."""

    dev: JudgedHits
    test: JudgedHits
    quality_Q: np.ndarray
    spread: float
    words: LexicalIndex
    reduced_dev: Reduced
    reduced_test: Reduced
    synthetic: JudgedHits | None = None


def searched(base: Base, vectors: Vectors, index: VectorIndex, measured: Artifact) -> Studied:
    """By the student of `vectors`, which was measured in `measured`."""
    collection = base.collection
    dev, test = (judged_hits(collection, one, base.lexical, vectors, index) for one in ("dev", "test"))
    quality, ids = read_measured(measured).of("nDCG@10"), collection.corpus.query_ids
    quality_Q = np.array([quality[ids[row]] for row in collection.rows_of("test")])
    halves = (reduced(base, vectors, split) for split in ("dev", "test"))
    return Studied(dev, test, quality_Q, spread_of(collection, vectors, index), base.lexical.index, *halves)


def study(source: Path, model: str, runs: Path) -> Studied:
    """One collection, searched by the base student, with labels and without."""

    def stages(run: Run) -> tuple[Base, Artifact]:
        base = prepare(run)
        system = measure_student(run, base.collection, "1", "student_0", "the base student", base.vectors)
        return base, system.runs["test"]

    with with_dev(source) as folder:
        with open_stages(config_of(folder, model, labels=False), stages, "study", runs=runs) as run:
            base, _ = stages(run)
            synthetic = judged_hits(base.collection, "dev", base.lexical, base.vectors, open_index(run, base.index))
        with open_stages(config_of(folder, model, labels=True), stages, "study", runs=runs) as run:
            base, measured = stages(run)
            found = searched(base, base.vectors, open_index(run, base.index), measured)
    return found._replace(synthetic=synthetic)


def students(name: str, runs: Path) -> dict[str, Studied]:
    """The base student, the control hard_labels and the final student of a finished run with labels."""
    found = {}
    with open_run(load_config(runs / name / "config.yaml"), runs=runs) as run:
        results = loop(run)
        made = {
            record["stage"]: Artifact(record["key"], run.store.path_of(record["key"])) for record in run.runner.records
        }
        measured = {system.name: system.runs["test"] for system in results.systems}
        for student, owner in {"student_0": "1", "hard_labels": "hard_labels", "final": "final"}.items():
            if student in measured:
                vectors = Vectors(*astuple(made[f"{owner}/encode"]))
                index = open_index(run, made[f"{owner}/index"])
                found[f"{name}, {student}"] = searched(results.base, vectors, index, measured[student])
    return found


def prior_of(collections: Iterable[Studied], *, words: bool = True) -> ProbabilityMap:
    """The map of some collections, as many dev queries of each, leads in units of each one's spread."""
    features, relevant = [], []
    for one in collections:
        chosen = np.random.default_rng(SEED).permutation(len(one.dev.scores_Qk))[:PRIOR_QUERIES]
        hits = JudgedHits(*(part[chosen] for part in (one.dev if words else one.dev.without_words())))
        features.append((hits.features_QkF * [0, 1 / one.spread, 1, 1])[np.isfinite(hits.scores_Qk)])
        relevant.append(hits.relevant_Qk[np.isfinite(hits.scores_Qk)])
    return fit_map(np.concatenate(features), np.concatenate(relevant))


def rows(studied: dict[str, Studied]) -> dict[str, dict[str, Any]]:
    """Each collection's figures on test, by each way of fitting the map."""
    results = {}
    for name, one in studied.items():
        others = [other for its_name, other in studied.items() if its_name != name]
        maps = {"labels": fit(one.dev)}
        if one.synthetic is not None:
            maps["synthetic queries"] = fit(one.synthetic)
        if one.synthetic is not None and others:
            elsewhere = prior_of(others)
            maps["other collections"] = replace(elsewhere, lead=elsewhere.lead / one.spread)
        for way, map_ in maps.items():
            found = {"map": map_.to_json(), "figures": figures(one.test, one.test.by(map_), one.quality_Q)}
            told = no_answer(one, map_, taught=way == "labels")
            of = one.synthetic if way == "synthetic queries" else one.dev
            queries = len(of.scores_Qk) if of is not None else 0
            results[f"{name}, {way}"] = {
                **found,
                "queries": queries,
                "chance": chance(one.test, map_),
                "no_answer": told,
            }
    return results


def chance(hits: JudgedHits, map_: ProbabilityMap) -> dict[str, float]:
    """The calibration error that probabilities which come true exactly would show, on so many hits and first hits."""
    found, random = hits.by(map_), np.random.default_rng(SEED)
    errors = {"error": found[np.isfinite(hits.scores_Qk)], "first_error": found[:, 0]}
    return {
        name: float(np.mean([expected_calibration_error(p, random.random(p.shape) < p) for _ in range(DRAWS)]))
        for name, p in errors.items()
    }


class Reduced(NamedTuple):
    """A split's queries in a corpus without the relevant documents of half of them: texts, hits, and which queries have
    a relevant document left."""

    texts: list[str]
    hits: Hits
    answered: np.ndarray


def reduced(base: Base, vectors: Vectors, split: str) -> Reduced:
    """Half of the queries, drawn by seed, lose their relevant documents, which others may lose by it too."""
    corpus, rows = base.collection.corpus, base.collection.rows_of(split)
    row_of = corpus.document_row
    judged = [corpus.qrels[split][corpus.query_ids[row]] for row in rows]
    positives = [{row_of[d] for d, grade in one.items() if grade > 0 and d in row_of} for one in judged]
    lost = np.random.default_rng(SEED).permutation(len(rows))[: len(rows) // 2]
    gone = set().union(*(positives[number] for number in lost))
    left = np.asarray(sorted(set(range(len(corpus.documents))) - gone))
    queries_QD, documents_ND = vectors.queries_QD[rows], np.asarray(vectors.documents.vectors_WD)
    found = [best_of(left, (documents_ND @ query)[left], DEPTH) for query in queries_QD]
    hits = Hits(np.stack([rows for rows, _ in found]), np.stack([scores for _, scores in found]))
    return Reduced(corpus.query_texts(rows.tolist()), hits, np.array([bool(one - gone) for one in positives]))


def signs(words: LexicalIndex, corpus: Reduced) -> np.ndarray:
    """What is known of each query: of its first hit score, gap, coverage and agreement; the best coverage of all."""
    best_Q = words.best_coverage(corpus.texts)
    coverage_Qk = words.coverage_of(corpus.texts, corpus.hits.rows_Qk)
    return np.column_stack([hit_features(corpus.hits.scores_Qk, coverage_Qk, best_Q)[:, 0], best_Q])


def no_answer(one: Studied, map_: ProbabilityMap, *, taught: bool) -> dict[str, Any]:
    """AUROC of telling queries whose relevant documents are gone from those with one: by score, gap, probability, and,
    if `taught`, by a classifier that dev's labels teach this very task, as a ceiling."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    test = one.reduced_test
    known = signs(one.words, test)
    probability = Probabilities(map_, one.words, estimate=False).of(test.texts, test.hits).max(axis=1)
    by = {"score": known[:, 0], "gap": known[:, 1], "probability": probability}
    result: dict[str, Any] = {name: auroc(values, test.answered) for name, values in by.items()}
    result |= {"queries": len(test.texts), "answered": int(test.answered.sum()), "ceiling": None}
    if taught:
        dev = signs(one.words, one.reduced_dev)
        scaler = StandardScaler().fit(dev)
        classifier = LogisticRegression().fit(scaler.transform(dev), one.reduced_dev.answered)
        result["ceiling"] = auroc(classifier.decision_function(scaler.transform(known)), test.answered)
    return result


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
        found = one["figures"]
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
        "**probability** | taught this task |",
        "|---" * 8 + "|",
    ]
    for name, one in results.items():
        area = [f"{100 * one['figures']['nauc'][kind]:.0f}" for kind in ("score", "gap", "probability")]
        kinds = ("score", "gap", "probability", "ceiling")
        told = ["" if (value := one["no_answer"][kind]) is None else f"{value:.3f}" for kind in kinds]
        lines.append(f"| {name} | {' | '.join([*area, *told])} |")
    return "\n".join(lines)


def main() -> None:
    """The command."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--run", default=None, metavar="RUN", help="the students of this run instead of collections")
    parser.add_argument("--collections", default=",".join(COLLECTIONS))
    parser.add_argument("--model", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--runs", type=Path, default=None)
    asked = parser.parse_args()
    runs = runs_folder(asked.runs)
    if asked.run is not None:
        print(tables(rows(students(asked.run, runs))))
        return
    names = asked.collections.split(",")
    studied = {name: study(asked.data.resolve() / name, asked.model, runs) for name in names}
    results = rows(studied)
    write_json(runs / f"probabilities-{Path(asked.model).name}.json", results)
    print(tables(results))
    for words in (True, False):
        print("\nthe prior:", prior_of(studied.values(), words=words))


if __name__ == "__main__":
    main()
