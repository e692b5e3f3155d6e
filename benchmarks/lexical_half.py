"""A lexical half behind a bi-encoder's dims: what it adds without any training, over collections and base models.

    python -m benchmarks.lexical_half DATA --vectors FOLDER [--models a,b] [--collections a,b] [--json FILE]

DATA and FOLDER as of `benchmarks.mixing`; at most `MOST_QUERIES` test queries a collection. Prints, per model: nDCG@10
of the bi-encoder; what hybrid search adds (on the absolute scale, and z-scores); what the half adds, by its dims, how
it is made (`KINDS`, or terms hashed into dims) and its strength in sigmas, as mean and worst over collections, with
significant losses and gains (p < 0.05, not adjusted); and each collection.

Test queries are read: this compares methods, and no run chooses anything by it.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.mixing import COLLECTIONS, MODELS, load_vectors
from benchmarks.z_scores import fuse
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.evaluation import absolute, paired_test
from sdretrieval.indexes.lexical import LexicalIndex, term_counts
from sdretrieval.indexes.lexical_half import right_directions
from sdretrieval.ragged import Array
from sdretrieval.stages.lexical import build_lexical

DIMS, STRENGTHS = (128, 256, 512), (2.0, 3.0, 4.0, 6.0, 9.0)
KINDS = {"idf in the query": 1.0, "idf in both": 0.5, "idf in documents": 0.0}
"""Names of truncated SVDs: the power of idf that is with the query. The rest is in the matrix that is decomposed."""
SHOWN = (256, 4.0), (512, 4.0), (512, 6.0)
"""Dims and strength of the first kind in the table of collections."""
MOST_QUERIES, DEPTH, SEED = 400, 100, 13
DISCOUNT = 1 / np.log2(np.arange(2, 12))


def ndcg(scores_QN: Array, gain_QN: Array) -> Array:
    """nDCG@10 of each query, as trec_eval has it."""
    top_Qk = np.argpartition(-scores_QN, 10, axis=1)[:, :10]
    order_Qk = np.argsort(-np.take_along_axis(scores_QN, top_Qk, axis=1), axis=1, kind="stable")
    found_Qk = np.take_along_axis(gain_QN, np.take_along_axis(top_Qk, order_Qk, axis=1), axis=1)
    best_Qk = -np.sort(-gain_QN, axis=1)[:, :10]
    return np.asarray((found_Qk @ DISCOUNT) / np.maximum(best_Qk @ DISCOUNT, 1e-9))


def measure(folder: Path, models: Sequence[str], vectors: Path) -> list[dict[str, Any]]:
    """Rows of one collection: model, what is behind its dims, difference, p, seconds to fit."""
    corpus = open_corpus(str(folder))
    judged = corpus.split_rows("test")
    drawn = np.random.default_rng(SEED).permutation(len(judged))[:MOST_QUERIES]
    rows = [judged[n] for n in np.sort(drawn).tolist()]
    texts, ids = corpus.query_texts(rows), [corpus.query_ids[row] for row in rows]
    index, place = build_lexical(corpus.document_texts(), False, "english"), corpus.document_row
    gain_QN = np.zeros((len(rows), len(corpus.documents)))
    own_QN = np.zeros(gain_QN.shape, dtype=bool)
    for q, query in enumerate(ids):
        for document, grade in corpus.qrels["test"][query].items():
            if document in place:
                gain_QN[q, place[document]] = max(grade, 0)
        if query in place:  # a query never finds the document with its own id
            own_QN[q, place[query]], gain_QN[q, place[query]] = True, 0
    norm_Q = index.norm(texts)
    words_QN = index.scores(texts, range(index.count))
    halves = {name: (one, seconds) for name, one, seconds in all_halves(index, texts)}
    out = []
    for model in models:
        documents_ND, queries_QD = load_vectors(corpus, model, vectors / model / folder.name)
        dense_QN = np.where(own_QN, -np.inf, np.asarray(queries_QD[rows]) @ np.asarray(documents_ND).T)
        sigma = float((-np.sort(-dense_QN, axis=1))[:, : min(DEPTH, len(corpus.documents) - 1)].std(axis=1).mean())
        before = ndcg(dense_QN, gain_QN)
        common = {"collection": folder.name, "model": model, "dense": float(before.mean()), "queries": len(rows)}
        systems = hybrids(dense_QN, np.where(own_QN, 0, words_QN), norm_Q)
        for name, (half_QN, _) in halves.items():
            for strength in STRENGTHS:
                systems[f"{name}, {strength:g} sigma"] = dense_QN + strength * sigma * half_QN
        for name, scores_QN in systems.items():
            after = ndcg(scores_QN, gain_QN)
            test = paired_test(
                *(dict(zip(ids, one.tolist(), strict=True)) for one in (after, before)), SEED, samples=1000
            )
            fitted = halves[name.rpartition(", ")[0]][1] if "dims" in name else 0.0
            out.append({**common, "system": name, "difference": test.difference, "p": test.p, "seconds": fitted})
        print(f"{folder.name}, {model}: {len(rows)} queries, sigma {sigma:.3f}", flush=True)
    return out


def all_halves(index: LexicalIndex, texts: Sequence[str]) -> Iterator[tuple[str, Array, float]]:
    """Each half's name, what it adds to the scores (Q, N), for a strength of 1 and a unit of 1, and seconds to fit."""
    from scipy.sparse import diags

    counts_QV, norm_Q = term_counts(index.vocabulary, texts), np.maximum(index.norm(texts), 1e-6)
    for dims in DIMS:
        for name, power in KINDS.items():
            weight_V = index.idf_V**power
            began = time.perf_counter()
            sides = index.weights_NV @ diags(1 / weight_V), diags(1 / norm_Q) @ counts_QV @ diags(weight_V)
            directions_VD = right_directions(sides[0].tocsr(), dims, SEED)
            seconds = time.perf_counter() - began
            yield f"{dims} dims, {name}", (sides[1] @ directions_VD) @ (sides[0] @ directions_VD).T, seconds
        signs_VD, chance = np.zeros((len(index.idf_V), dims), dtype=np.float32), np.random.default_rng(SEED)
        signs_VD[np.arange(len(signs_VD)), chance.permutation(len(signs_VD)) % dims] = chance.choice(
            [-1, 1], len(signs_VD)
        )
        weight_V = np.sqrt(index.idf_V)
        sides = index.weights_NV @ diags(1 / weight_V), diags(1 / norm_Q) @ counts_QV @ diags(weight_V)
        yield f"{dims} dims, hashed", (sides[1] @ signs_VD) @ (sides[0] @ signs_VD).T, 0.0


def hybrids(dense_QN: Array, words_QN: Array, norm_Q: Array) -> dict[str, Array]:
    """Scores of hybrid search as a run reports it, and of the even z-scores; -1e9 for what neither finds."""

    def run_of(scores_QN: Array, least: float) -> dict[str, dict[str, float]]:
        best_Qk = np.argsort(-scores_QN, axis=1, kind="stable")[:, :DEPTH]
        return {
            str(q): {str(n): float(scores_QN[q, n]) for n in best if scores_QN[q, n] > least}
            for q, best in enumerate(best_Qk)
        }

    both = [run_of(dense_QN, -np.inf), run_of(words_QN, 0.0)]
    mixed = {
        "hybrid, absolute": absolute(*both, {str(q): float(norm) for q, norm in enumerate(norm_Q)}, 2, DEPTH),
        "hybrid, z-scores": fuse(both, [1, 1], DEPTH),
    }
    found = {}
    for name, run in mixed.items():
        found[name] = np.full(dense_QN.shape, -1e9)
        for query, hits in run.items():
            found[name][int(query), [int(document) for document in hits]] = list(hits.values())
    return found


def summary(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table per model: mean, worst, significant losses and gains of each system."""
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        lines += [f"\n{model}\n", "| system | mean | worst | losses | gains |", "|---|---|---|---|---|"]
        own = [row for row in rows if row["model"] == model]
        for name in dict.fromkeys(row["system"] for row in own):
            of = [row for row in own if row["system"] == name]
            worst = min(of, key=lambda row: row["difference"])
            losses, gains = (sum(row["p"] < 0.05 and sign * row["difference"] > 0 for row in of) for sign in (-1, 1))
            lines.append(
                f"| {name} | {np.mean([row['difference'] for row in of]):+.3f} | {worst['difference']:+.3f} "
                f"({worst['collection']}) | {losses} of {len(of)} | {gains} |"
            )
    return "\n".join(lines)


def by_collection(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table per model: a collection a row; * marks p < 0.05."""
    shown = ["hybrid, absolute", "hybrid, z-scores"]
    shown += [f"{dims} dims, {next(iter(KINDS))}, {strength:g} sigma" for dims, strength in SHOWN]
    lines = []
    for model in dict.fromkeys(row["model"] for row in rows):
        lines += [
            f"\n{model}\n",
            f"| collection | queries | dense | {' | '.join(shown)} | seconds to fit {SHOWN[0][0]} |",
        ]
        lines.append("|---" * (4 + len(shown)) + "|")
        of = {(row["collection"], row["system"]): row for row in rows if row["model"] == model}
        for collection in dict.fromkeys(name for name, _ in of):
            found = [of[collection, name] for name in shown]
            cells = " | ".join(f"{row['difference']:+.3f}{'*' if row['p'] < 0.05 else ''}" for row in found)
            seconds = found[2]["seconds"]
            lines.append(
                f"| {collection} | {found[0]['queries']} | {found[0]['dense']:.3f} | {cells} | {seconds:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--collections", default=",".join(COLLECTIONS))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name in asked.collections.split(","):
        rows += measure(asked.data / name, asked.models.split(","), asked.vectors)
        if asked.json:
            asked.json.write_text(json.dumps(rows, indent=1), encoding="utf8")
    print(summary(rows), by_collection(rows), sep="\n")


if __name__ == "__main__":
    main()
