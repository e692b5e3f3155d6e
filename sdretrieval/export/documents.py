"""The indexed documents as a bundle knows them: ids by row, and short texts so that a search result can be read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sdretrieval.corpus.types import Corpus, Texts, joined
from sdretrieval.export.layout import TEXTS
from sdretrieval.ragged import Array

SNIPPET = 300
"""Characters of a document's text that a bundle keeps: enough to judge a result by."""


@dataclass(frozen=True)
class IndexedDocuments:
    """Ids, titles and texts, each by index row: plain lists or texts that stay in an Arrow table."""

    ids: Sequence[str]
    titles: Sequence[str]
    texts: Sequence[str]

    @staticmethod
    def of(corpus: Corpus) -> IndexedDocuments:
        """All documents of `corpus`, in row order."""
        table = corpus.documents
        return IndexedDocuments(corpus.document_ids, Texts(table, "title"), Texts(table, "text"))

    def __len__(self) -> int:
        return len(self.ids)

    def full_text(self, row: int) -> str:
        """Title and text as the student saw them."""
        return joined(self.titles[row], self.texts[row])

    def snippet(self, row: int) -> tuple[str, str]:
        """(title, beginning of the text)."""
        return self.titles[row], self.texts[row][:SNIPPET]


def write_snippets(documents: IndexedDocuments, folder: Path) -> None:
    """Write documents.jsonl: id, title and the first `SNIPPET` characters of the text, one line a row."""
    with (folder / TEXTS).open("w", encoding="utf8", newline="\n") as stream:
        for identifier, title, text in zip(documents.ids, documents.titles, documents.texts, strict=True):
            record = {"id": identifier, "title": title, "text": text[:SNIPPET]}
            # ASCII: half of a character pair, which some corpora hold, cannot be written as UTF-8.
            stream.write(json.dumps(record) + "\n")


class Snippets:
    """documents.jsonl, read line by line on demand, so that a large corpus is not held in memory."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def _starts(self) -> Array:
        with self._path.open("rb") as stream:
            lengths = np.fromiter((len(line) for line in stream), dtype=np.int64)
        return np.concatenate([[0], np.cumsum(lengths)])

    def __len__(self) -> int:
        return len(self._starts) - 1

    def snippet(self, row: int) -> tuple[str, str]:
        """(title, beginning of the text) of a row."""
        with self._path.open("rb") as stream:
            stream.seek(int(self._starts[row]))
            record = json.loads(stream.readline())
        return record["title"], record["text"]
