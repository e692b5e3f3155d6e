"""The corpus as the pipeline sees it: documents, queries, and judgements by split.

Ids are strings here, at the edge; everything behind it works on row numbers (int64) into `documents` and `queries`.
Texts and ids stay in Arrow, without a Python string for each: a million of them take 300 MB. Legend: N rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset

ROWS_AT_ONCE = 1000

Qrels = Mapping[str, Mapping[str, int]]
"""query id -> document id -> relevance (a judgement above 0 is a known positive)."""


class Texts(Sequence[str]):
    """A table's columns as texts, joined by a space where there are several; read from Arrow as they are asked for.

    It can be used as a list can, and is equal to one that holds the same. Going through it is fast, single rows are
    not: the table may be on the disk.
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


def joined(title: str, text: str) -> str:
    """Title and text joined by one space, as BEIR does."""
    return f"{title} {text}".strip()


@dataclass(frozen=True)
class Corpus:
    """Documents (columns id, title, text), queries (columns id, text) and qrels by split.

    The two tables are Arrow (`datasets.Dataset`), so that a corpus larger than memory stays on disk.
    """

    name: str
    documents: Dataset
    queries: Dataset
    qrels: Mapping[str, Qrels]

    @cached_property
    def document_ids(self) -> Sequence[str]:
        """All document ids, in row order; they stay in the table."""
        return Texts(self.documents, "id")

    @cached_property
    def query_ids(self) -> list[str]:
        """All query ids, in row order."""
        return list(Texts(self.queries, "id"))

    @cached_property
    def document_row(self) -> Mapping[str, int]:
        """Document id -> row."""
        return RowByName(self.document_ids)

    @cached_property
    def query_row(self) -> dict[str, int]:
        """Query id -> row."""
        return {identifier: row for row, identifier in enumerate(self.query_ids)}

    def document_texts(self, rows: Sequence[int] | None = None) -> Sequence[str]:
        """Title and text of the given rows (all rows if None), joined as BEIR joins them; all stay in the table."""
        if rows is None:
            return Texts(self.documents, "title", "text")
        return [*Texts(self.documents.select(rows), "title", "text")]

    def document_text(self, row: int) -> str:
        """Title and text of one row."""
        return self.document_texts()[row]

    def query_texts(self, rows: Sequence[int] | None = None) -> list[str]:
        """Texts of the given query rows (all rows if None)."""
        return list(Texts(self.queries if rows is None else self.queries.select(rows), "text"))

    def split_rows(self, split: str) -> list[int]:
        """Rows of the judged queries of `split`, in query order. Raises KeyError if the split is absent."""
        judged = self.qrels[split]
        return [row for row, identifier in enumerate(self.query_ids) if identifier in judged]

    def positives(self, split: str, query_row: int) -> list[int]:
        """Rows of the documents judged relevant (above 0) to a query in `split`."""
        judged = self.qrels[split].get(self.query_ids[query_row], {})
        return sorted(self.document_row[d] for d, grade in judged.items() if grade > 0 and d in self.document_row)

    @cached_property
    def digest(self) -> str:
        """blake2b over every id, text and judgement: the key that all later artifacts depend on."""
        hasher = hashlib.blake2b(digest_size=16)
        for table, columns in ((self.documents, ("id", "title", "text")), (self.queries, ("id", "text"))):
            for batch in table.iter(batch_size=1000):
                for record in zip(*(batch[column] for column in columns), strict=True):
                    hasher.update("\x1f".join(record).encode("utf8", "surrogatepass") + b"\x1e")
            hasher.update(b"\x1d")
        for split in sorted(self.qrels):
            for query in sorted(self.qrels[split]):
                for document, grade in sorted(self.qrels[split][query].items()):
                    hasher.update(f"{split}\x1f{query}\x1f{document}\x1f{grade}\x1e".encode("utf8", "surrogatepass"))
        return hasher.hexdigest()
