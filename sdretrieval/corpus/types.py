"""The corpus as the pipeline sees it: documents, queries, and judgements by split.

Ids are strings here, at the edge; everything behind it works on row numbers (int64) into `documents` and `queries`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from sdretrieval.corpus.rows import RowByName, Texts

if TYPE_CHECKING:
    from datasets import Dataset

Qrels = Mapping[str, Mapping[str, int]]
"""query id -> document id -> relevance (a judgement above 0 is a known positive)."""


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
        """Title and text of the given rows (all rows where None), joined as BEIR joins them; all stay in the table."""
        if rows is None:
            return Texts(self.documents, "title", "text")
        return [*Texts(self.documents.select(rows), "title", "text")]

    def document_text(self, row: int) -> str:
        """Title and text of one row."""
        return self.document_texts()[row]

    def query_texts(self, rows: Sequence[int] | None = None) -> list[str]:
        """Texts of the given query rows (all rows where None)."""
        return list(Texts(self.queries if rows is None else self.queries.select(rows), "text"))

    def split_rows(self, split: str) -> list[int]:
        """Rows of the judged queries of `split`, in query order. Raises KeyError where the split is absent."""
        judged = self.qrels[split]
        return [row for row, identifier in enumerate(self.query_ids) if identifier in judged]

    def positives(self, split: str, query_row: int) -> list[int]:
        """Rows of the documents judged relevant (above 0) to a query in `split`."""
        judged = self.qrels[split].get(self.query_ids[query_row], {})
        return sorted(self.document_row[d] for d, grade in judged.items() if grade > 0 and d in self.document_row)

    @cached_property
    def digest(self) -> str:
        """blake2b over every id, text and judgement: the key under which all later artifacts stand."""
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
