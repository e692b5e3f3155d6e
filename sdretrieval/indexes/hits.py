"""What a search returns, and the one rule by which hits are ordered: score downwards, then row upwards.

Legend: Q queries, k hits per query, C candidates of one query.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
Scores = NDArray[np.float32]

PADDING_ROW = -1
"""Fills `Hits.rows_Qk` if a query has fewer than k hits; its score is minus infinity."""


class Hits(NamedTuple):
    """The best k documents of each query, best first; row -1 with score -inf pads a short list."""

    rows_Qk: Rows
    scores_Qk: Scores

    @property
    def counts_Q(self) -> NDArray[np.int64]:
        """Number of real hits of each query."""
        counts: NDArray[np.int64] = (self.rows_Qk != PADDING_ROW).sum(axis=1, dtype=np.int64)
        return counts


def empty_hits(queries: int, k: int) -> Hits:
    """Hits of the shape (queries, k) that hold padding only."""
    return Hits(np.full((queries, k), PADDING_ROW, np.int64), np.full((queries, k), -np.inf, np.float32))


def best_of(rows_C: Rows, scores_C: Scores, k: int) -> tuple[Rows, Scores]:
    """The best k of one query's candidates; equal scores are ordered by row, also at the cut."""
    if len(scores_C) > k:
        cut = np.partition(scores_C, len(scores_C) - k)[len(scores_C) - k]
        kept = np.flatnonzero(scores_C >= cut)
        rows_C, scores_C = rows_C[kept], scores_C[kept]
    order = np.lexsort((rows_C, -scores_C))[:k]
    return rows_C[order], scores_C[order]


def ordered(hits: Hits, k: int) -> Hits:
    """The same hits by score downwards, then row upwards, cut or padded to k; faiss' own padding is made ours."""
    rows, scores = hits.rows_Qk.astype(np.int64), hits.scores_Qk.astype(np.float32)
    scores[rows < 0] = -np.inf
    order = np.lexsort((rows, -scores), axis=-1)[:, :k]
    result = empty_hits(len(rows), k)
    result.rows_Qk[:, : order.shape[1]] = np.take_along_axis(rows, order, axis=1)
    result.scores_Qk[:, : order.shape[1]] = np.take_along_axis(scores, order, axis=1)
    return result
