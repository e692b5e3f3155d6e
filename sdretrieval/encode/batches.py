"""Batches by token budget: sequences sorted by length, so that little is padding and memory is bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sdretrieval.ragged import Array


def budget_batches(lengths: Sequence[int] | Array, batch_tokens: int) -> Iterator[Array]:
    """Positions grouped so that (count x longest) stays within `batch_tokens`; longest first: memory fails early.

    A sequence longer than `batch_tokens` gets a batch of its own.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    start = 0
    while start < len(order):
        count = max(1, batch_tokens // max(int(lengths[order[start]]), 1))
        yield order[start : start + count]
        start += count


def pad(sequences: Sequence[Array], pad_id: int) -> tuple[Array, Array]:
    """(ids_BL, mask_BL) int64, padded on the right to the longest sequence."""
    longest = max(map(len, sequences))
    ids_BL = np.full((len(sequences), longest), pad_id, dtype=np.int64)
    mask_BL = np.zeros((len(sequences), longest), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids_BL[row, : len(sequence)] = sequence
        mask_BL[row, : len(sequence)] = 1
    return ids_BL, mask_BL
