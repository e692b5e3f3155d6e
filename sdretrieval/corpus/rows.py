"""Texts and ids of a table by row, and rows by id, without a Python string for each: a million of them take 300 MB.

Legend: N rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

ROWS_AT_ONCE = 1000


class Texts(Sequence[str]):
    """A table's columns as texts, joined by a space where there are several; read from Arrow as they are asked for.

    It can be used as a list can, and is equal to one that holds the same. Going through it is fast, single rows are
    not: the table may lie on the disk.
    """

    def __init__(self, table: Dataset, *columns: str) -> None:
        self._table, self._columns = table, columns
        # A selection of rows is a second table of numbers: `datasets` knows how to read through it.
        whole = getattr(table, "_indices", None) is None
        self._arrow = [table.data.column(column) for column in columns] if whole else None

    def __len__(self) -> int:
        return len(self._table)

    @overload
    def __getitem__(self, row: int) -> str: ...
    @overload
    def __getitem__(self, row: slice) -> list[str]: ...
    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return self._joined(self._table[row])
        if self._arrow is None:
            return self._join(tuple(self._table[int(row)][column] for column in self._columns))
        return self._join(tuple(column[int(row)].as_py() for column in self._arrow))

    def __iter__(self) -> Iterator[str]:
        for batch in self._table.iter(batch_size=ROWS_AT_ONCE):
            yield from self._joined(batch)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(mine == theirs for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list has none

    def _joined(self, batch: Mapping[str, Any]) -> list[str]:
        return [self._join(parts) for parts in zip(*(batch[column] for column in self._columns), strict=True)]

    def _join(self, parts: tuple[str, ...]) -> str:
        return parts[0] if len(parts) == 1 else " ".join(parts).strip()


class RowByName(Mapping[str, int]):
    """Row of each of N distinct names, in 16 bytes each where a dictionary takes 150 with its strings."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names
        hashes_N = np.fromiter(map(hash, names), dtype=np.int64, count=len(names))
        self._rows_N = np.argsort(hashes_N, kind="stable")
        self._hashes_N = hashes_N[self._rows_N]

    def __getitem__(self, name: str) -> int:
        wanted = hash(name)
        at = int(np.searchsorted(self._hashes_N, wanted))
        while at < len(self._hashes_N) and self._hashes_N[at] == wanted:  # two names may share a hash
            row = int(self._rows_N[at])
            if self._names[row] == name:
                return row
            at += 1
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)
