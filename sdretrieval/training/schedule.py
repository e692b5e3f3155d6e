"""Which query is visited when: one array for the whole training, so that a resumed run sees the same batches."""

from __future__ import annotations

import math

import numpy as np

from sdretrieval.ragged import Array


def count_updates(queries: int, epochs: float, queries_per_update: int) -> int:
    """Optimiser updates of a training: at least one."""
    return max(1, math.ceil(queries * epochs / queries_per_update - 1e-9))


def visiting_order(queries: int, visits: int, seed: int) -> tuple[Array, Array]:
    """(position, visit number) of each visit, each of shape (visits,): a fresh permutation for every pass."""
    passes = -(-visits // queries)
    generator = np.random.default_rng([seed, queries])
    positions = np.concatenate([generator.permutation(queries) for _ in range(passes)])[:visits]
    return positions, np.repeat(np.arange(passes), queries)[:visits]


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
