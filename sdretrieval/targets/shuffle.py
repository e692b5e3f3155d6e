"""The shuffled teacher: a control with the real teacher's score distribution and none of its knowledge.

If a student trained on it gains as much, the gain did not come from the teacher.

Legend: Q lists, B queries of a batch, N documents of a batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import WorkError
from sdretrieval.ragged import Ragged

Unsigned = NDArray[np.uint64]


def shuffled_within_lists(values: Ragged, seed: int, keys_Q: NDArray[np.int64]) -> Ragged:
    """Each list in an order drawn from (`seed`, the list's key) alone; its multiset of values stays.

    `keys_Q`: the query rows, 0 or more, so that a query's shuffle does not depend on the queries beside it.
    """
    if len(keys_Q) != len(values):
        raise WorkError(f"{len(keys_Q)} keys for {len(values)} lists, expected one query row a list")
    parts = [
        entries[np.random.default_rng([seed, int(key)]).permutation(len(entries))]
        for entries, key in zip(values, keys_Q, strict=True)
    ]
    return values.with_values(Ragged.of(parts, values.values_T.dtype).values_T)


def shuffled_columns(
    scores_BN: NDArray[Any], seed: int, query_rows_B: NDArray[np.int64], document_rows_N: NDArray[np.int64]
) -> NDArray[Any]:
    """Each query's row permuted over the batch's documents: every document gets the score of another one.

    For a query the documents are put on a ring in the order of hash(`seed`, query row, document row); each takes its
    successor's score. So the result depends on the seed, the query and the set of documents, not on the order of
    columns or on other queries, no document keeps its own score (where N > 1), and each row keeps its multiset.

    `document_rows_N` must be free of repetition. Raises WorkError if it is not, or if shapes do not fit.
    """
    if scores_BN.shape != (len(query_rows_B), len(document_rows_N)):
        raise WorkError(
            f"scores of shape {scores_BN.shape} for {len(query_rows_B)} queries and {len(document_rows_N)} documents"
        )
    if len(np.unique(document_rows_N)) != len(document_rows_N):
        raise WorkError("a document is in the batch twice, expected each document once")
    base = _hashed(np.asarray([seed], dtype=np.int64).view(np.uint64))
    query_B1 = _hashed(query_rows_B.astype(np.int64).view(np.uint64) ^ base)[:, None]
    order_BN = np.argsort(_hashed(query_B1 ^ _hashed(document_rows_N.astype(np.int64).view(np.uint64))[None]), axis=1)
    out_BN = np.empty_like(scores_BN)
    np.put_along_axis(out_BN, order_BN, np.take_along_axis(scores_BN, np.roll(order_BN, -1, axis=1), axis=1), axis=1)
    return out_BN


def _hashed(values: Unsigned) -> Unsigned:
    """splitmix64's output function (Steele et al. 2014): a bijection on 64 bits that scatters neighbouring rows."""
    mixed = values + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))
