"""Lists of differing lengths as one flat array and offsets: token ids, candidates, scores, targets.

Legend: Q lists, T entries in all lists together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Ragged:
    """`values_T` cut at `offsets` (int64, Q + 1 entries, first 0, last T). `ragged[q]` is a view, not a copy."""

    values_T: Array
    offsets: NDArray[np.int64]

    @staticmethod
    def of(lists: Sequence[Sequence[Any] | Array], dtype: Any) -> Ragged:
        """Build from a sequence of lists."""
        lengths = np.fromiter((len(entries) for entries in lists), dtype=np.int64, count=len(lists))
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        parts = [np.asarray(entries, dtype=dtype) for entries in lists if len(entries)]
        return Ragged(np.concatenate(parts) if parts else np.empty(0, dtype=dtype), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, position: int) -> Array:
        return self.values_T[self.offsets[position] : self.offsets[position + 1]]

    def __iter__(self) -> Iterator[Array]:
        return (self[position] for position in range(len(self)))

    def first(self, count: int) -> Ragged:
        """The first `count` lists, not copied."""
        return Ragged(self.values_T[: self.offsets[count]], self.offsets[: count + 1])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Length of each list, shape (Q,)."""
        return np.diff(self.offsets)

    @property
    def list_of_entry(self) -> NDArray[np.int64]:
        """For each entry the list that it is in, shape (T,)."""
        return np.repeat(np.arange(len(self)), self.lengths)

    def with_values(self, values_T: Array) -> Ragged:
        """The same lists with other values (same count)."""
        if len(values_T) != len(self.values_T):
            raise ValueError(f"{len(values_T)} values for lists of {len(self.values_T)} entries in all")
        return Ragged(values_T, self.offsets)

    def only(self, kept_T: NDArray[np.bool_]) -> Ragged:
        """The same lists without the entries that are not `kept_T`; a list may end up empty."""
        ends_T = np.concatenate([[0], np.cumsum(kept_T)]).astype(np.int64)
        return Ragged(self.values_T[kept_T], ends_T[self.offsets])


LISTS_PER_COPY = 65_536


def gathered(
    count: int,
    parts: Sequence[tuple[Array, Ragged, Array]],
    dtype: Any,
    allocate: Callable[[int, Any], Array] = np.empty,
) -> Ragged:
    """`count` lists put together from `parts` (rows here, source, rows there), which name each row here once.

    `allocate(entries, dtype)` makes the flat array, which may be on the disk.
    """
    lengths = np.zeros(count, dtype=np.int64)
    for rows, source, their_rows in parts:
        lengths[rows] = source.lengths[their_rows]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values_T = allocate(int(offsets[-1]), dtype)
    for rows, source, their_rows in parts:
        for start in range(0, len(rows), LISTS_PER_COPY):  # positions take twice what 32-bit values take
            here, there = rows[start : start + LISTS_PER_COPY], their_rows[start : start + LISTS_PER_COPY]
            values_T[_positions(offsets[here], lengths[here])] = source.values_T[
                _positions(source.offsets[there], lengths[here])
            ]
    return Ragged(values_T, offsets)


def _positions(starts: Array, lengths: Array) -> Array:
    """Positions of the entries of lists that start at `starts`, list after list."""
    before = np.cumsum(lengths) - lengths
    return np.repeat(starts - before, lengths) + np.arange(lengths.sum())
