"""The tiny collection as teachers see it: texts, token ids, vectors of one window and of all, candidate lists."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from sdretrieval.encode.encoder import Embeddings, encode_sequences
from sdretrieval.encode.student import Student, load_student
from sdretrieval.encode.tokens import tokenize
from sdretrieval.encode.views import View
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.ragged import Array, Ragged
from tests.helpers import tiny


@dataclass(frozen=True)
class Collection:
    """12 queries are enough: `query_rows`, and for each its document and some others in `candidates`."""

    student: Student

    @staticmethod
    def load(tiny_student: Path) -> Collection:
        """With the random tiny student, 64 tokens."""
        return Collection(load_student(str(tiny_student), max_tokens=64, device="cpu"))

    @cached_property
    def documents(self) -> list[str]:
        """Texts of all documents."""
        return [f"{record['title']} {record['text']}" for record in tiny.documents()]

    @cached_property
    def queries(self) -> list[str]:
        """Texts of all queries."""
        return [query["text"] for _, query, _ in tiny.queries(tiny.documents())]

    @cached_property
    def query_vectors(self) -> Array:
        """(Q, D)."""
        return self.embed(self.queries, self.student.query_view).vectors_WD

    def embed(self, texts: list[str], view: View) -> Embeddings:
        """Vectors of every window."""
        tokens = tokenize(texts, self.student.model.tokenizer)
        pieces = [view.cut(ids, self.student.document_specials) for ids in tokens]
        windows = np.concatenate([[0], np.cumsum([len(own) for own in pieces])])
        flat = [piece for own in pieces for piece in own]
        return Embeddings(encode_sequences(self.student.model, flat, self.student.document_specials), windows)

    @cached_property
    def lexical(self) -> LexicalIndex:
        """BM25 of the documents."""
        return LexicalIndex.build(self.documents)

    query_rows = np.asarray([3, 0, 41, 7, 79, 12, 5, 60, 33, 2, 18, 25])

    @cached_property
    def candidates(self) -> Ragged:
        """Lists of 4 to 9 documents: random ones before BM25's best."""
        generator = np.random.default_rng(3)
        hits = self.lexical.search([self.queries[row] for row in self.query_rows], 4)
        lists = [
            [*dict.fromkeys([*generator.integers(0, 120, 5).tolist(), *found[found >= 0].tolist()])]
            for found in hits.rows_Qk
        ]
        return Ragged.of(lists, np.int64)
