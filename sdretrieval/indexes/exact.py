"""Brute-force top k in numpy: the reference that index cards and tests measure against.

Legend: Q queries, N documents, B documents of a block, D dims, k hits per query.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.indexes.blocks import Floats, check_finite, check_matrix, float32_blocks
from sdretrieval.indexes.hits import PADDING_ROW, Hits, Rows, best_of, empty_hits

QUERIES_AT_ONCE = 256
"""Bounds the score matrix of one step to 256 x one block of documents."""


def exact_search(vectors_ND: NDArray[Any], queries_QD: NDArray[Any], k: int) -> Hits:
    """The true k best documents by inner product in float32; equal scores are ordered by row.

    Reads `vectors_ND` (numpy or memory map) once, block by block. Raises RequestError for shapes that do not fit,
    NumericError for NaN or infinity.
    """
    check_matrix(vectors_ND, "document vectors")
    check_matrix(queries_QD, "query vectors", vectors_ND.shape[1])
    queries = np.ascontiguousarray(queries_QD, dtype=np.float32)
    check_finite(queries, "query vectors")
    hits = empty_hits(len(queries), k)
    for first, block_BD in float32_blocks(vectors_ND, "document vectors"):
        for start in range(0, len(queries), QUERIES_AT_ONCE):
            part = slice(start, start + QUERIES_AT_ONCE)
            _merge(Hits(hits.rows_Qk[part], hits.scores_Qk[part]), queries[part] @ block_BD.T, first)
    return hits


def _merge(hits: Hits, scores_QB: Floats, first: int) -> None:
    """Replace `hits` in place by the best of themselves and one block's scores."""
    for rows_k, scores_k, scores_B in zip(hits.rows_Qk, hits.scores_Qk, scores_QB, strict=True):
        # Rows of this block stand behind all earlier ones, so an equal score cannot displace a full list's last hit.
        better = np.flatnonzero(scores_B > scores_k[-1])
        kept = rows_k != PADDING_ROW
        rows = np.concatenate([rows_k[kept], better + first])
        rows, scores = best_of(rows, np.concatenate([scores_k[kept], scores_B[better]]), len(rows_k))
        rows_k[: len(rows)], scores_k[: len(rows)] = rows, scores


def recall(found_rows_Qk: Rows, true_rows_Qk: Rows) -> float:
    """Mean share of each query's true rows that were found; padding (-1) counts on neither side.

    Where true hits tie at the cut, another choice among equals counts as a miss, so duplicates can cost a little.
    Raises ValueError where no query has a true row.
    """
    shares = []
    for found, true in zip(found_rows_Qk, true_rows_Qk, strict=True):
        wanted = true[true != PADDING_ROW]
        if len(wanted):
            shares.append(np.isin(wanted, found).mean())
    if not shares:
        raise ValueError(f"recall of nothing: none of {len(true_rows_Qk)} queries has a true row")
    return float(np.mean(shares))
