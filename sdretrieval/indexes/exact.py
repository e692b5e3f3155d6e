"""Brute-force top k in numpy: the reference that index cards and tests measure against.

Vectors are read block by block, so that a memory map larger than memory never becomes one float32 array.

Legend: Q queries, N documents, B documents of a block, D dims, k hits per query.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import NumericError, RequestError
from sdretrieval.indexes.hits import PADDING_ROW, Hits, Rows, best_of, empty_hits

logger = logging.getLogger("sdretrieval")
Floats = NDArray[np.float32]

BLOCK_BYTES = 16 << 20
"""Size of one float32 block: large enough for BLAS, small beside any index."""
QUERIES_AT_ONCE = 1024
"""Bounds the score matrix of one step to 1024 x one block of documents: 45 MB for 384 dims."""
GROUP = 16
"""A step looks at the best of so many scores first: one comparison rules out all of them."""
PRUNE_AT = 0.5
"""Candidates are cut to the best k once there are half as many again: the floor rises, and fewer come after."""


def check_matrix(vectors_ND: NDArray[Any], what: str, dims: int | None = None) -> None:
    """Raise RequestError unless `vectors_ND` is a float matrix, of `dims` columns if that is given."""
    if vectors_ND.ndim != 2 or vectors_ND.dtype.kind != "f":
        raise RequestError(
            f"{what} must be a matrix (rows, dims) of floats, found shape {vectors_ND.shape} of {vectors_ND.dtype}"
        )
    if dims is not None and vectors_ND.shape[1] != dims:
        raise RequestError(
            f"{what} have {vectors_ND.shape[1]} dims but the index holds {dims}: "
            "encode them with the model that the index was built from, or build the index again"
        )


def float32_blocks(vectors_ND: NDArray[Any], what: str) -> Iterator[tuple[int, Floats]]:
    """Yield (first row, block_BD) in row order as contiguous float32. Raises NumericError at NaN or infinity."""
    size = max(1, BLOCK_BYTES // (4 * max(vectors_ND.shape[1], 1)))
    for first in range(0, len(vectors_ND), size):
        block_BD = np.ascontiguousarray(vectors_ND[first : first + size], dtype=np.float32)
        check_finite(block_BD, what, first)
        yield first, block_BD


def check_finite(block_BD: Floats, what: str, first: int = 0) -> None:
    """Raise NumericError that names the first rows holding NaN or infinity; `first` is the row of the block's start."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = block_BD.sum()  # finite only where all are, and three times as fast to find as each by itself
    if np.isfinite(total) or np.isfinite(block_BD).all():
        return
    bad = first + np.flatnonzero(~np.isfinite(block_BD).all(axis=1))
    listed = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
    raise NumericError(
        f"{what} hold NaN or infinity in {len(bad)} of rows {first} to {first + len(block_BD) - 1}: rows {listed}; "
        "look at these texts and at the encoder's precision (float16 overflows at 65504), then encode again"
    )


def all_unit(sample_BD: Floats, *, expected: bool = True) -> bool:
    """Whether sampled vectors have length 1; logs a warning if not, though it is `expected`: the scores then are inner
    products, not cosines."""
    norms = np.linalg.norm(sample_BD, axis=1)
    off = (np.abs(norms - 1) > 0.01) & (norms > 0)  # a text without any token may have the vector 0
    if off.any() and expected:
        logger.warning(
            "%d of %d sampled vectors are not of length 1 (lengths %.3g to %.3g): scores are inner products, "
            "and IVF or HNSW may find less; normalise the vectors if the model means cosine similarity",
            int(off.sum()), len(norms), norms.min(), norms.max(),
        )  # fmt: skip
    return not off.any()


def exact_search(vectors_ND: NDArray[Any], queries_QD: NDArray[Any], k: int) -> Hits:
    """The true k best documents by inner product in float32; equal scores are ordered by row.

    Reads `vectors_ND` (numpy or memory map) block by block, once for each 1024 queries. Nearly all the time is that of
    the matrix product. Raises RequestError for shapes that do not fit, NumericError for NaN or infinity.
    """
    check_matrix(vectors_ND, "document vectors")
    check_matrix(queries_QD, "query vectors", vectors_ND.shape[1])
    queries = np.ascontiguousarray(queries_QD, dtype=np.float32)
    check_finite(queries, "query vectors")
    hits = empty_hits(len(queries), k)
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        part = slice(start, start + QUERIES_AT_ONCE)
        best = _Best(Hits(hits.rows_Qk[part], hits.scores_Qk[part]))
        for first, block_BD in float32_blocks(vectors_ND, "document vectors"):
            best.add(queries[part], block_BD, first)
        best.prune()
    return hits


class _Best:
    """The best hits so far, in place, and candidates that may displace them.

    Legend: P candidates, G groups of a block, S = GROUP x G its scores, those beyond the block -inf.
    """

    def __init__(self, hits: Hits) -> None:
        self._hits = hits
        self._scores_QS = np.empty((len(hits.rows_Qk), 0), dtype=np.float32)
        self._found: list[tuple[Rows, Rows, Floats]] = []
        self._pending = 0

    def add(self, queries_QD: Floats, block_BD: Floats, first: int) -> None:
        """Take in a block whose first row is `first`; blocks come in the order of their rows."""
        scores_QS = self._products(queries_QD, block_BD)
        query_P, row_P = self._above_floor(scores_QS, fresh=first == 0)
        self._found.append((query_P, row_P + first, scores_QS[query_P, row_P]))
        self._pending += len(query_P)
        if self._pending > PRUNE_AT * self._hits.rows_Qk.size:
            self.prune()

    def _products(self, queries_QD: Floats, block_BD: Floats) -> Floats:
        size = len(block_BD)
        groups = -(-size // GROUP)
        if self._scores_QS.shape[1] != groups * GROUP:
            self._scores_QS = np.empty((len(queries_QD), groups * GROUP), dtype=np.float32)
        np.matmul(queries_QD, block_BD.T, out=self._scores_QS[:, :size])
        self._scores_QS[:, size:] = -np.inf
        return self._scores_QS

    def _above_floor(self, scores_QS: Floats, *, fresh: bool) -> tuple[Rows, Rows]:
        """(query, column) of scores that beat the query's k-th so far. An equal one does not: its row is higher.

        `fresh`: there is none so far, and the k-th best group of the block stands for it: k scores reach that.
        """
        groups, k = scores_QS.shape[1] // GROUP, self._hits.rows_Qk.shape[1]
        highest_QG = scores_QS.reshape(-1, GROUP, groups).max(axis=1)
        floor_Q1 = self._hits.scores_Qk[:, -1:]
        if fresh and k <= groups:
            reached_Q1 = np.partition(highest_QG, groups - k, axis=1)[:, groups - k, None]
            floor_Q1 = np.nextafter(reached_Q1, np.float32(-np.inf))
        query_P, group_P = np.nonzero(highest_QG > floor_Q1)
        column_P = (group_P[:, None] + groups * np.arange(GROUP)).reshape(-1)
        query_P = np.repeat(query_P, GROUP)
        above_P = scores_QS[query_P, column_P] > floor_Q1[query_P, 0]
        return query_P[above_P], column_P[above_P]

    def prune(self) -> None:
        """Replace the hits by the best of themselves and all candidates."""
        if not self._found:
            return
        query_P, row_P, score_P = (np.concatenate(parts) for parts in zip(*self._found, strict=True))
        self._found, self._pending = [], 0
        order_P = np.argsort(query_P, kind="stable")
        ends_Q = np.cumsum(np.bincount(query_P, minlength=len(self._hits.rows_Qk)))
        parts = zip(*(np.split(of_P[order_P], ends_Q[:-1]) for of_P in (row_P, score_P)), strict=True)
        for rows_k, scores_k, (rows, scores) in zip(*self._hits, parts, strict=True):
            if len(rows):
                kept = rows_k != PADDING_ROW
                rows, scores = np.concatenate([rows_k[kept], rows]), np.concatenate([scores_k[kept], scores])
                rows, scores = best_of(rows, scores, len(rows_k))
                rows_k[: len(rows)], scores_k[: len(rows)] = rows, scores


def recall(found_rows_Qk: Rows, true_rows_Qk: Rows) -> float:
    """Mean share of each query's true rows that were found; padding (-1) counts on neither side.

    If true hits tie at the cut, another choice among equals counts as a miss, so duplicates can cost a little.
    Raises ValueError if no query has a true row.
    """
    shares = []
    for retrieved, true in zip(found_rows_Qk, true_rows_Qk, strict=True):
        wanted = true[true != PADDING_ROW]
        if len(wanted):
            shares.append(np.isin(wanted, retrieved).mean())
    if not shares:
        raise ValueError(f"recall of nothing: none of {len(true_rows_Qk)} queries has a true row")
    return float(np.mean(shares))
