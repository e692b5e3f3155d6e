"""Can a richer model tell queries without an answer than the probability of the best hit does?

    python -m benchmarks.no_answer DATA --vectors FOLDER [--model NAME] [--collections a,b] [--reranker NAME]

DATA and FOLDER as `benchmarks.mixing` has them. The relevant documents of half of the queries are taken out of the
corpus, and a classifier tells queries that have lost all from the others: AUROC on test. It is taught this very task on
other queries: dev's, else train's, else half of test's. Features: those of the map to probabilities alone, or all that
is known when a query is served (`features`). *Other collections*: taught on all others, features scaled in each one
without labels. With --reranker, a cross-encoder reads each of 100 test queries with its first hit: about the best that
can be said of that pair.

Test queries are read: this looks for the limit, and no run chooses anything by it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.mixing import load_vectors
from benchmarks.probabilities import COLLECTIONS, auroc
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.corpus.types import Corpus
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.stages.lexical import build_lexical

SEED, DEPTH, MOST, READ = 13, 10, 600, 100
PLAIN = ("score", "gap", "coverage of the first", "agreement", "best coverage")
"""What the map to probabilities knows."""


class Half(NamedTuple):
    """Queries in a corpus that half of them lost their answers in: features by name, who has an answer, the first hits'
    (query, document) texts."""

    features: dict[str, np.ndarray]
    answered: np.ndarray
    firsts: list[tuple[str, str]]

    def table(self, names: Iterable[str] | None = None) -> np.ndarray:
        """features_QF, all if `names` is None."""
        return np.column_stack([self.features[name] for name in names or self.features])


def halves(folder: Path, model: str, vectors: Path) -> tuple[Half, Half]:
    """Queries to learn from, and those of test to tell apart."""
    corpus = open_corpus(str(folder))
    documents_ND, queries_QD = load_vectors(corpus, model, vectors / model / folder.name)
    words = build_lexical(corpus.document_texts(), False, "english")
    random = np.random.default_rng(SEED)
    chosen = {split: random.permutation(corpus.split_rows(split))[:MOST] for split in corpus.qrels}
    test = chosen["test"]
    other = next((split for split in ("dev", "train") if split in chosen), None)
    dev, test = (test[: len(test) // 2], test[len(test) // 2 :]) if other is None else (chosen[other], test)
    found = ((dev, other or "test"), (test, "test"))
    first, second = (half(corpus, words, documents_ND, queries_QD, rows, split) for rows, split in found)
    return first, second


def half(
    corpus: Corpus, words: LexicalIndex, documents_ND: np.ndarray, queries_QD: np.ndarray, rows: np.ndarray, split: str
) -> Half:
    """The queries `rows` of a split, half of which lose their relevant documents."""
    positives = [set(corpus.positives(split, row)) for row in rows.tolist()]
    rows, positives = rows[[bool(one) for one in positives]], [one for one in positives if one]
    gone = set().union(*positives[: len(rows) // 2])  # the order is random
    left = np.setdiff1d(np.arange(len(documents_ND)), list(gone))
    texts = corpus.query_texts(rows.tolist())
    dense_QN = queries_QD[rows] @ documents_ND[left].T
    lexical_QN = words.prepare(texts).scores(np.arange(len(rows)), left)
    tops_Qk = [np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH] for scores in (dense_QN, lexical_QN)]
    named = features(words, texts, documents_ND[left], left, dense_QN, lexical_QN, *tops_Qk)
    center_D = documents_ND.mean(axis=0)
    named["likeness to the corpus' mean"] = queries_QD[rows] @ center_D / np.linalg.norm(center_D)
    firsts = list(zip(texts, corpus.document_texts(left[tops_Qk[0][:, 0]].tolist()), strict=True))
    return Half(named, np.array([bool(one - gone) for one in positives]), firsts)


def features(
    words: LexicalIndex, texts: list[str], documents_ND: np.ndarray, left: np.ndarray, dense_QN: np.ndarray,
    lexical_QN: np.ndarray, dense_Qk: np.ndarray, lexical_Qk: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    """What is known when a query is served, each by query."""
    best_Qk, reach_Q = np.take_along_axis(dense_QN, dense_Qk, 1), np.maximum(words.reach(texts), 1e-9)
    by_words_Qk = np.take_along_axis(lexical_QN, lexical_Qk, 1) / reach_Q[:, None]
    coverage_Qk = np.take_along_axis(lexical_QN, dense_Qk, 1) / reach_Q[:, None]
    firsts_QD = documents_ND[dense_Qk[:, 0]]
    near_Qk = np.sort(firsts_QD @ documents_ND.T, axis=1)[:, -DEPTH - 1 : -1]
    among_Q = [np.triu(documents_ND[top[:5]] @ documents_ND[top[:5]].T, 1).sum() / 10 for top in dense_Qk]
    spread_Q = dense_QN.std(axis=1)
    lengths_Q = np.array([len(text.split()) for text in texts])
    return {
        "score": best_Qk[:, 0],
        "gap": best_Qk[:, 0] - best_Qk[:, 1],
        "coverage of the first": coverage_Qk[:, 0],
        "agreement": coverage_Qk[:, 0] - by_words_Qk[:, 0],
        "best coverage": by_words_Qk[:, 0],
        "score over the tenth": best_Qk[:, 0] - best_Qk[:, -1],
        "spread of the top ten": best_Qk.std(axis=1),
        "score over all documents'": (best_Qk[:, 0] - dense_QN.mean(axis=1)) / spread_Q,
        "spread of all scores": spread_Q,
        "best coverage of the top ten": coverage_Qk.max(axis=1),
        "coverage of the top ten, mean": coverage_Qk.mean(axis=1),
        "gap of BM25": by_words_Qk[:, 0] - by_words_Qk[:, 1],
        "words' idf held by the first": held(words, texts, left[dense_Qk[:, :1]], reach_Q),
        "by the top three jointly": held(words, texts, left[dense_Qk[:, :3]], reach_Q),
        "by BM25's first": held(words, texts, left[lexical_Qk[:, :1]], reach_Q),
        "by BM25's top three jointly": held(words, texts, left[lexical_Qk[:, :3]], reach_Q),
        "shared by both top tens": np.array(
            [len(np.intersect1d(a, b)) for a, b in zip(dense_Qk, lexical_Qk, strict=True)]
        ),
        "dense rank of BM25's first": np.log1p(
            (dense_QN > np.take_along_axis(dense_QN, lexical_Qk[:, :1], 1)).sum(axis=1)
        ),
        "BM25's rank of the first": np.log1p(
            (lexical_QN > np.take_along_axis(lexical_QN, dense_Qk[:, :1], 1)).sum(axis=1)
        ),
        "words": np.log(lengths_Q),
        "rarity of a word": reach_Q / lengths_Q,
        "score over the first's neighbours'": best_Qk[:, 0] - near_Qk.mean(axis=1),
        "likeness of the first's neighbours": near_Qk.mean(axis=1),
        "likeness within the top five": np.array(among_Q),
    }


def held(words: LexicalIndex, texts: list[str], rows_Qk: np.ndarray, reach_Q: np.ndarray) -> np.ndarray:
    """The share of each query's summed idf that words make up which some of its documents hold."""
    counts_QV, shares = words._counts(texts), []
    for query, rows in enumerate(rows_Qk):
        terms = counts_QV[query].indices
        inside = np.asarray((words.weights_NV[rows][:, terms] > 0).sum(axis=0)).ravel() > 0
        shares.append(words.idf_V[terms[inside]].sum() / reach_Q[query])
    return np.array(shares)


def told(kind: str, dev: list[Half], test: Half, names: Iterable[str] | None, *, scaled_apart: bool) -> float:
    """AUROC on `test` of a classifier of `kind` that `dev` taught."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    tables = [one.table(names) for one in dev]
    x, last = np.concatenate(tables), test.table(names)
    if scaled_apart:
        x = np.concatenate([StandardScaler().fit_transform(one) for one in tables])
        last = StandardScaler().fit_transform(last)
    else:
        scaler = StandardScaler().fit(x)
        x, last = scaler.transform(x), scaler.transform(last)
    boosted = HistGradientBoostingClassifier(max_iter=60, max_depth=3, learning_rate=0.08, random_state=SEED)
    model = LogisticRegression(C=0.1, max_iter=500) if kind == "logistic" else boosted
    model.fit(x, np.concatenate([one.answered for one in dev]))
    return auroc(model.predict_proba(last)[:, 1], test.answered)


def read_by(reranker: str, test: Half) -> float:
    """AUROC of a cross-encoder's score of the first hit, over `READ` queries."""
    from sdretrieval.teachers.cross_encoder import load_cross_encoder

    chosen = np.random.default_rng(SEED).permutation(len(test.firsts))[:READ]
    model, _ = load_cross_encoder(reranker, max_tokens=256, device="cpu")
    scores = model.predict([test.firsts[n] for n in chosen], show_progress_bar=False)
    return auroc(np.asarray(scores, dtype=np.float64).ravel(), test.answered[chosen])


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--model", default="all-MiniLM-L6-v2")
    parser.add_argument("--collections", default=",".join(COLLECTIONS))
    parser.add_argument("--reranker", default=None, help="a cross-encoder")
    asked = parser.parse_args()
    found = {
        name: halves(asked.data.resolve() / name, asked.model, asked.vectors) for name in asked.collections.split(",")
    }
    columns = ["test queries", "the map's features", "all, logistic", "all, boosted"]
    columns += ["other collections: the map's features", "all, logistic", "all, boosted"]
    print(f"| collection | {' | '.join([*columns, *(['cross-encoder'] if asked.reranker else [])])} |")
    print("|---" * (len(columns) + 1 + bool(asked.reranker)) + "|")
    for name, (dev, test) in found.items():
        others: list[Any] = [one for other, (one, _) in found.items() if other != name]
        cells = [
            told(kind, taught, test, names, scaled_apart=taught is others)
            for taught in ([dev], others)
            for kind, names in (("logistic", PLAIN), ("logistic", None), ("boosted", None))
        ]
        cells += [read_by(asked.reranker, test)] if asked.reranker else []
        print(f"| {name} | {len(test.answered)} | {' | '.join(f'{cell:.2f}' for cell in cells)} |", flush=True)


if __name__ == "__main__":
    main()
