"""Is the teacher that the probe names the right one? Its choice beside the truth, over collections and base models.

    python -m benchmarks.teacher_choice DATA --out OUT [--models NAME,...] [--collections NAME,...] [--no-tokens]
    python -m benchmarks.teacher_choice --out OUT          # only the tables again

DATA holds folders in BEIR's layout. As the probe does, each test query's documents (the best 20 of the student and of
BM25) are reranked by every mixture of four teachers: the student itself, BM25, the student's own token vectors (its
first 128 tokens of a document, bfloat16) and another bi-encoder. The truth is a mixture's nDCG@10 less the student's.
Vectors of documents are those of `benchmarks.estimates` in OUT/vectors; one JSON file a case goes into OUT/choice.

Prints what the choice gains and costs if some of the queries are judged (the others are the truth), if they are known
without judgements, and if nothing is known; then the scales on which members can be mixed. Nothing is trained.

Legend: Q queries, N documents, T documents of all lists, M mixtures.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import teacher_choice_table
from benchmarks.estimates import encoder, ndcg, unrelated
from sdretrieval.corpus import Corpus, open_corpus
from sdretrieval.corpus.text import hash_rank
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.views import View
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.ragged import Ragged
from sdretrieval.stages.probe import STRONG, even, pool_lists, weight_grid
from sdretrieval.targets.calibrate import (
    Statistics,
    calibrate,
    log_odds_statistics,
    mix,
    spread_statistics,
    statistics_for,
    top_statistics,
    unit_statistics,
)
from sdretrieval.teachers.multi_vector import MultiVectorTeacher, load_multi_vector, token_idf
from sdretrieval.teachers.pairs import PairCache

Array = np.ndarray[Any, Any]
OTHER = {
    "all-MiniLM-L6-v2": "bge-small-en-v1.5",
    "paraphrase-MiniLM-L3": "bge-small-en-v1.5",
    "bge-small-en-v1.5": "all-MiniLM-L6-v2",
}
"""By student the other bi-encoder: a better one, or, for bge-small, a worse one."""
MEMBERS = ("student", "BM25", "tokens", "other")
SEED, MOST_QUERIES, DEPTH, TOP, TOKENS, CLOSE = 13, 300, 20, 100, 128, 10
SCALES: dict[str, Callable[[Array], Statistics]] = {
    "absolute": spread_statistics,
    "zscore": top_statistics,
    "log_odds": lambda top_Qk: log_odds_statistics(top_Qk, len(top_Qk)),
}


def mixtures() -> list[tuple[float, ...]]:
    """The probe's of four members: quarters, even ones of two or three, much BM25 beside another one."""
    found = dict.fromkeys(weight_grid(len(MEMBERS)))
    for out in range(len(MEMBERS)):
        found[tuple(0.0 if n == out else even(3)[0] for n in range(len(MEMBERS)))] = None
        if out != 1:
            strong = {1: STRONG, out: round(1 - STRONG, 2)}
            found[tuple(strong.get(n, 0.0) for n in range(len(MEMBERS)))] = None
    return list(found)


class Searched(NamedTuple):
    """A member's scores of all documents, float32 (Q, N); no hit of BM25 and a query's own document have `least`.
    `unrelated`: of a bi-encoder, the mean cosine of unrelated texts."""

    scores_QN: Array
    least: float = -np.inf
    unrelated: float = 0.0

    def top(self, k: int) -> Array:
        """Rows of the best (Q, k), best first."""
        rows_Qk = np.argpartition(-self.scores_QN, k - 1, axis=1)[:, :k]
        order_Qk = np.argsort(-np.take_along_axis(self.scores_QN, rows_Qk, 1), axis=1, kind="stable")
        return np.take_along_axis(rows_Qk, order_Qk, 1)

    def top_scores(self, k: int) -> Array:
        """Of the same; no hit is NaN."""
        found_Qk = np.take_along_axis(self.scores_QN, self.top(k), 1)
        return np.where(found_Qk > self.least, found_Qk, np.nan)


class Case(NamedTuple):
    """Test queries of a collection with a relevant document, and the grades of each."""

    corpus: Corpus
    texts: list[str]
    grades: list[dict[int, int]]
    own_Q: Array


def load(folder: Path) -> Case:
    """At most so many queries."""
    corpus = open_corpus(str(folder))
    judged = {
        row: {corpus.document_row[d]: grade for d, grade in corpus.qrels["test"][corpus.query_ids[row]].items()
              if grade > 0 and d in corpus.document_row}
        for row in corpus.split_rows("test")
    }  # fmt: skip
    rows = sorted((row for row in judged if judged[row]), key=lambda row: hash_rank(SEED, corpus.query_ids[row]))
    rows = rows[:MOST_QUERIES]
    own_Q = np.asarray([corpus.document_row.get(corpus.query_ids[row], -1) for row in rows])
    return Case(corpus, list(corpus.query_texts(rows)), [judged[row] for row in rows], own_Q)


def dense(case: Case, model: str, name: str, out: Path) -> Searched:
    """By a bi-encoder's vectors."""
    encode = encoder(Path(locate_model(model)))
    scores_QN = encode(case.texts, True) @ np.load(vectors_of(out, model, name)).T
    return Searched(without_own(case, scores_QN, -np.inf), unrelated=unrelated(encode))


def vectors_of(out: Path, model: str, name: str) -> Path:
    """Where `benchmarks.estimates` keeps the vectors of a collection's documents."""
    return out / "vectors" / model / f"{name}.npy"


def without_own(case: Case, scores_QN: Array, value: float) -> Array:
    """A query never retrieves the document with its own id."""
    for q in np.flatnonzero(case.own_Q >= 0):
        scores_QN[q, case.own_Q[q]] = value
    return scores_QN


def read_tokens(case: Case, model: str, lists: Ragged, cache: Path) -> Ragged:
    """By the student's own token vectors, as a `multi_vector` teacher."""
    texts = case.corpus.document_texts()
    network, _ = load_multi_vector(str(locate_model(model)), "multi_vector", device="cpu")
    teacher = MultiVectorTeacher(
        network, kind="multi_vector", name="tokens", query_text=case.texts.__getitem__,
        document_text=texts.__getitem__, cache=PairCache(cache), view=View(TOKENS), idf_V=token_idf(network, texts),
        precision="bfloat16",
    )  # fmt: skip
    return teacher.score(np.arange(len(case.texts)), lists)


def measure(folder: Path, model: str, out: Path, *, with_tokens: bool = True) -> None:
    """One case into its file, unless it is there; without token vectors, their mixtures have no value."""
    file = out / "choice" / f"{folder.name}.{Path(model).name}.json"
    if file.exists() and (json.loads(file.read_text())["tokens"] or not with_tokens):
        return
    began, case = time.process_time(), load(folder)
    student, other = (dense(case, one, folder.name, out) for one in (model, OTHER[model]))
    lexical = LexicalIndex.build(case.corpus.document_texts())
    words = Searched(without_own(case, lexical.scores(case.texts, range(lexical.count)), 0.0), least=0.0)
    k, depth = (min(most, lexical.count - 1) for most in (TOP, DEPTH))
    found_Qk = np.where(np.isnan(words.top_scores(depth)), -1, words.top(depth))
    lists = pool_lists(student.top(depth), found_Qk, case.own_Q)
    middle = time.process_time()
    pairs = out / "choice" / "pairs" / Path(model).name / folder.name
    tokens = read_tokens(case, model, lists, pairs) if with_tokens else None
    read = time.process_time()
    searched = {"student": student, "BM25": words, "other": other}
    raw = {
        name: lists.with_values(one.scores_QN[lists.list_of_entry, lists.values_T].astype(np.float32))
        for name, one in searched.items()
    }
    values: dict[str, list[list[float]]] = {}
    for scale, by_top in SCALES.items():
        statistics = {name: by_top(one.top_scores(k)) for name, one in searched.items()}
        if scale == "absolute":
            statistics["BM25"] = unit_statistics(lexical.norm(case.texts))
        scaled = {name: calibrate(raw[name], statistics[name]) for name in searched}
        unknown = scaled["student"].with_values(np.full(len(lists.values_T), np.nan, np.float32))
        scaled["tokens"] = calibrate(tokens, statistics_for(scale, tokens)) if tokens is not None else unknown
        members = [scaled[name] for name in MEMBERS]
        values[scale] = [mixed(case, lists, members, one) for one in mixtures()]
    record = {
        "collection": folder.name, "model": Path(model).name, "other": OTHER[model], "queries": len(case.texts),
        "tokens": with_tokens, "documents_read": len(np.unique(lists.values_T)), "pairs": len(lists.values_T),
        "values": values, "signals": signals(student, words, other), "unrelated": student.unrelated,
        "cpu_seconds": {"search": middle - began, "tokens": read - middle},
    }  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record))
    print(f"{folder.name} {model}: {record['cpu_seconds']}", file=sys.stderr, flush=True)


def mixed(case: Case, lists: Ragged, members: Sequence[Ragged], weights: Sequence[float]) -> list[float | None]:
    """nDCG@10 of each query by a mixture; None if a member of it is not known."""
    of = [(member, weight) for member, weight in zip(members, weights, strict=True) if weight > 0]
    if any(np.isnan(member.values_T).any() for member, _ in of):
        return [None] * len(lists)
    return measured(case, lists, mix([one for one, _ in of], [weight for _, weight in of])).round(4).tolist()


def measured(case: Case, lists: Ragged, scores: Ragged) -> Array:
    """nDCG@10 (Q,) of the lists in the order of the scores."""
    shape = len(lists), int(lists.lengths.max())
    rows, values = np.full(shape, -1), np.full(shape, -np.inf)
    for q in range(len(lists)):
        rows[q, : lists.lengths[q]], values[q, : lists.lengths[q]] = lists[q], scores[q]
    return ndcg(values, rows, case.grades)


def signals(student: Searched, words: Searched, other: Searched) -> list[list[float]]:
    """By query the student's best cosine, and of its best 10 documents the share that BM25, and the other, have too."""
    found = [np.where(np.isnan(one.top_scores(CLOSE)), -1, one.top(CLOSE)) for one in (student, words, other)]
    ours, theirs, others = ([set(some.tolist()) - {-1} for some in one] for one in found)
    return [
        [
            round(float(student.scores_QN[q].max()), 4),
            len(ours[q] & theirs[q]) / CLOSE,
            len(ours[q] & others[q]) / CLOSE,
        ]
        for q in range(len(ours))
    ]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, then print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.teacher_choice", description=__doc__.splitlines()[0])
    parser.add_argument("data", nargs="?", type=Path, help="folder of collections; without it nothing is measured")
    parser.add_argument("--out", type=Path, required=True, help="folder with the vectors of benchmarks.estimates")
    parser.add_argument("--models", default=",".join(OTHER))
    parser.add_argument("--collections", help="names of folders in DATA; all of them by default")
    parser.add_argument("--no-tokens", action="store_true", help="leave token vectors out, which take most of the time")
    given = parser.parse_args(arguments)
    names = given.collections.split(",") if given.collections else None
    for model in given.models.split(","):
        for folder in sorted(given.data.iterdir()) if given.data else ():
            if (folder / "qrels" / "test.tsv").exists() and (names is None or folder.name in names):
                measure(folder, model, given.out, with_tokens=not given.no_tokens)
    print(teacher_choice_table.tables(given.out / "choice", mixtures()))


if __name__ == "__main__":
    main()
