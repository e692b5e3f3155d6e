"""Documents by likeness: k-means of their vectors; and how near each document comes to queries' lists.

Legend: N documents, Q queries, C clusters, B documents of a block, D dims.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.indexes.build import sample_rows
from sdretrieval.indexes.exact import QUERIES_AT_ONCE, Floats, exact_search, float32_blocks

VECTORS_A_CLUSTER, ROUNDS = 128, 8
"""Of k-means: more of either moves documents between clusters, and no decision here hangs on single documents."""


def clusters_of(vectors_ND: NDArray[Any], count: int, seed: int) -> NDArray[np.int64]:
    """The cluster of each document, shape (N,): 0 to at most `count` - 1, none of them empty.

    Spherical k-means on a sample, in numpy: the same on every machine up to rounding, however many threads faiss has.
    """
    sample_BD = sample_rows(vectors_ND, count * VECTORS_A_CLUSTER, seed)
    centres_CD = sample_BD[
        np.random.default_rng(seed).choice(len(sample_BD), min(count, len(sample_BD)), replace=False)
    ]
    for _ in range(ROUNDS):
        nearest_B = np.argmax(sample_BD @ centres_CD.T, axis=1)
        sums_CD = np.zeros_like(centres_CD)
        np.add.at(sums_CD, nearest_B, sample_BD)
        lengths_C1 = np.linalg.norm(sums_CD, axis=1, keepdims=True)
        centres_CD = np.where(lengths_C1 > 0, sums_CD / np.where(lengths_C1 > 0, lengths_C1, 1.0), centres_CD)
    blocks = [np.argmax(block @ centres_CD.T, axis=1) for _, block in float32_blocks(vectors_ND, "document vectors")]
    return np.unique(np.concatenate(blocks), return_inverse=True)[1].astype(np.int64)


def last_scores(vectors_ND: NDArray[Any], queries_QD: Floats, depth: int) -> Floats:
    """The score of each query's document at rank `depth`, shape (Q,)."""
    return exact_search(vectors_ND, queries_QD, min(depth, len(vectors_ND))).scores_Qk[:, -1]


def nearness(vectors_ND: NDArray[Any], queries_QD: Floats, last_Q: Floats) -> Floats:
    """For each document the most by which its score lies above the last of a query's list, shape (N,): at least 0 where
    it stands in a list, little below 0 where it would take little to bring it into one."""
    queries, nearest_N = np.ascontiguousarray(queries_QD, dtype=np.float32), np.empty(len(vectors_ND), np.float32)
    parts = [slice(start, start + QUERIES_AT_ONCE) for start in range(0, len(queries), QUERIES_AT_ONCE)]
    for first, block_BD in float32_blocks(vectors_ND, "document vectors"):
        best = [(queries[part] @ block_BD.T - last_Q[part, None]).max(axis=0) for part in parts]
        nearest_N[first : first + len(block_BD)] = np.max(best, axis=0)
    return nearest_N
