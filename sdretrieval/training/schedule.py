"""Which query is visited when: one array for the whole training, so that a resumed run sees the same batches."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sdretrieval.ragged import Array, Ragged

if TYPE_CHECKING:
    from scipy.sparse import csr_array


def count_updates(queries: int, epochs: float, queries_per_update: int) -> int:
    """Optimiser updates of a training: at least one."""
    return max(1, math.ceil(queries * epochs / queries_per_update - 1e-9))


def visiting_order(queries: int, visits: int, seed: int) -> tuple[Array, Array]:
    """(position, visit number) of each visit, each of shape (visits,): a fresh permutation for every pass."""
    passes = -(-visits // queries)
    generator = np.random.default_rng([seed, queries])
    positions = np.concatenate([generator.permutation(queries) for _ in range(passes)])[:visits]
    return positions, np.repeat(np.arange(passes), queries)[:visits]


def topic_order(lists: Ragged, visits: int, seed: int, batch: int) -> tuple[Array, Array]:
    """As `visiting_order`, but the queries of a batch are those whose lists share most documents.

    Each document of a batch is encoded once, in however many lists it stands: such batches are cheaper, and a query's
    other documents are harder to tell apart. A batch begins with a query drawn at random; `lists`: document rows.
    """
    queries = len(lists)
    passes = -(-visits // queries)
    generator = np.random.default_rng([seed, queries])
    shared_QQ = _shared(lists)
    orders = []
    for number in range(passes):
        first = -(number * queries) % batch  # what the batch that the last pass left open still holds
        orders.append(_grouped(shared_QQ, queries, first, batch, generator))
    return np.concatenate(orders)[:visits], np.repeat(np.arange(passes), queries)[:visits]


def _shared(lists: Ragged) -> csr_array:
    """How many documents any two lists share, sparse (Q, Q)."""
    from scipy.sparse import csr_array

    documents, columns_T = np.unique(lists.values_T, return_inverse=True)
    ones_T = np.ones(len(columns_T), dtype=np.int32)
    holds_QM = csr_array((ones_T, columns_T, lists.offsets), shape=(len(lists), max(len(documents), 1)))
    return csr_array(holds_QM @ holds_QM.T)


def _grouped(shared_QQ: csr_array, queries: int, first: int, batch: int, generator: np.random.Generator) -> Array:
    """A permutation in groups of `batch`, the first of `first` where that is not 0."""
    waiting_Q = np.ones(queries, dtype=bool)
    drawn = generator.permutation(queries)
    order: list[Array] = []
    size = first or batch
    for seed in drawn:
        if not waiting_Q[seed]:
            continue
        waiting_Q[seed] = False
        others = drawn[waiting_Q[drawn]]
        near_Q = np.asarray(shared_QQ[[seed]].todense())[0]
        group = others[np.argsort(-near_Q[others], kind="stable")[: size - 1]]
        waiting_Q[group] = False
        order.append(np.concatenate([[seed], group]))
        size = batch
    return np.concatenate(order)


def sampled_entries(length: int, wanted: int, positives: Array, key: tuple[int, int, int]) -> Array:
    """`wanted` entries of a list: its positives, half of the rest from the front, half sampled behind.

    One place at least is for another document, where the list has one: a query with many positives brings others of
    them at each visit. Deterministic in `key` = (seed, query, visit). Returned in list order.
    """
    if length <= wanted:
        return np.arange(length)
    chance = np.random.default_rng(key)
    others = np.setdiff1d(np.arange(length), positives)
    most = max(wanted - min(len(others), 1), 1)
    kept = positives if len(positives) <= most else chance.choice(positives, size=most, replace=False)
    room = min(wanted - len(kept), len(others))
    front = others[: -(-room // 2)]
    behind = np.setdiff1d(others, front)
    sample = chance.choice(behind, size=room - len(front), replace=False)
    return np.sort(np.concatenate([kept, front, sample]).astype(np.int64))
