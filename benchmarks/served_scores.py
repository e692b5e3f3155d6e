"""Does a reranker teach as well by probabilities as by logits? What a sigmoid costs, and what log-odds give back.

    python -m benchmarks.served_scores DATA --vectors FOLDER --reranker MODEL [--collections a,b] [--queries N]

DATA and FOLDER as in benchmarks/mixing.py. For a sample of test queries, the best 20 documents of all-MiniLM-L6-v2 are
ranked by z-scores of its cosines and of the reranker's logits, mixed evenly: as they are, through a sigmoid, through
one rounded to four digits as some servers do, and by the log-odds of these. Prints nDCG@10 and, beside the logits, the
difference with its p (paired, not adjusted). Pairs are kept in FOLDER/pairs.

Test queries are read: this compares methods, and no run chooses anything by it.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mixing import MEASURE, SEED, SPLIT, load_vectors
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.corpus.text import hash_rank
from sdretrieval.evaluation import Run, evaluate, paired_test
from sdretrieval.ragged import Array
from sdretrieval.teachers.cross_encoder import CrossEncoderTeacher, load_cross_encoder
from sdretrieval.teachers.pairs import PairCache
from sdretrieval.teachers.reranker_api import log_odds

STUDENT, DEPTH, MAX_TOKENS = "all-MiniLM-L6-v2", 20, 128


def measure(folder: Path, vectors: Path, reranker: str, queries: int) -> list[dict[str, Any]]:
    """Rows of one collection: how scores came, nDCG@10, difference to logits, p."""
    import torch

    corpus = open_corpus(str(folder))
    rows = sorted(corpus.split_rows(SPLIT), key=lambda row: hash_rank(SEED, corpus.query_ids[row]))[:queries]
    documents_ND, queries_QD = load_vectors(corpus, STUDENT, vectors / STUDENT / folder.name)
    cosine_QN = queries_QD[rows] @ documents_ND.T
    top_QK = np.argsort(-cosine_QN, axis=1, kind="stable")[:, :DEPTH]
    model, digest = load_cross_encoder(reranker, max_tokens=MAX_TOKENS, device="cpu")
    teacher = CrossEncoderTeacher(
        model, name=reranker, query_text=str, document_text=str, cache=PairCache(vectors / "pairs" / digest),
        max_tokens=MAX_TOKENS,
    )  # fmt: skip
    texts = corpus.query_texts(rows)
    pairs = [(texts[q], corpus.document_text(row)) for q, top in enumerate(top_QK.tolist()) for row in top]
    with torch.autocast("cpu", dtype=torch.bfloat16):  # a third of the time; all ways get the same logits
        logits_QK = teacher.score_texts(pairs).reshape(top_QK.shape)
    sigmoid_QK = 1 / (1 + np.exp(-logits_QK.astype(np.float64)))
    ways = {
        "logits": logits_QK, "sigmoid": sigmoid_QK, "sigmoid, 4 digits": sigmoid_QK.round(4),
        "log-odds of the sigmoid": log_odds(sigmoid_QK), "log-odds of 4 digits": log_odds(sigmoid_QK.round(4)),
    }  # fmt: skip
    dense_QK = z_scores(np.take_along_axis(cosine_QN, top_QK, axis=1))
    ids, names = [corpus.query_ids[row] for row in rows], corpus.document_ids

    def by_query(scores_QK: Array) -> Mapping[str, float]:
        run: Run = {
            query: {names[row]: float(score) for row, score in zip(top, scores, strict=True)}
            for query, top, scores in zip(ids, top_QK.tolist(), scores_QK, strict=True)
        }
        judged = {query: corpus.qrels[SPLIT][query] for query in ids}
        return evaluate(judged, run, [MEASURE]).of(MEASURE)

    own, out = by_query(dense_QK + z_scores(logits_QK)), []
    for name, scores_QK in {"dense alone": None, **ways}.items():
        found = by_query(dense_QK if scores_QK is None else dense_QK + z_scores(scores_QK))
        test = paired_test(found, own, SEED, samples=2000)
        mean = float(np.mean(list(found.values())))
        row = {"collection": folder.name, "way": name, "queries": len(found), "ndcg": mean}
        out.append(row | {"difference": test.difference, "p": test.p})
    return out


def z_scores(scores_QK: Array) -> Array:
    """Mean 0 and standard deviation 1 in each list."""
    spread_Q1 = np.maximum(scores_QK.std(axis=1, keepdims=True), 1e-9)
    return np.asarray((scores_QK - scores_QK.mean(axis=1, keepdims=True)) / spread_Q1)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """A way a row, a collection a column; * marks p < 0.05."""
    collections = {row["collection"]: row["queries"] for row in rows}
    lines = [
        f"| the reranker's scores | {' | '.join(f'{name} ({count})' for name, count in collections.items())} |",
        "|---" * (1 + len(collections)) + "|",
    ]
    for way in dict.fromkeys(row["way"] for row in rows):
        cells = [
            f"{row['ndcg']:.4f} ({row['difference']:+.4f}{'*' if row['p'] < 0.05 else ''})"
            for row in rows
            if row["way"] == way
        ]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--reranker", required=True)
    parser.add_argument("--collections", default="scifact,feedbackqa")
    parser.add_argument("--queries", type=int, default=100)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in asked.collections.split(","):
        rows += measure(asked.data / name, asked.vectors, asked.reranker, asked.queries)
        print(table(rows[-6:]), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()
