"""BM25 as a free teacher: exact terms are evidence that a small bi-encoder loses. Robertson and Zaragoza (2009)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sdretrieval.indexes.hits import Hits
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.ragged import Array, Ragged
from sdretrieval.teachers.protocols import lists_from_matrix


class LexicalTeacher:
    """BM25 scores over the whole corpus, any pair on demand."""

    asymmetry = "sees exact terms of the whole document and their rarity in the corpus"

    def __init__(self, index: LexicalIndex, query_texts: Sequence[str], name: str = "lexical") -> None:
        self.name, self._index, self._texts = name, index, query_texts
        self._prepared = index.prepare(query_texts)

    def matrix(self, query_rows_Q: Array, document_rows_M: Array) -> Array:
        """See FreeTeacher.matrix."""
        return self._prepared.scores(np.asarray(query_rows_Q), np.asarray(document_rows_M))

    def score(self, query_rows_Q: Array, candidates: Ragged) -> Ragged:
        """See Teacher.score."""
        return lists_from_matrix(self, query_rows_Q, candidates)

    def top(self, query_rows_Q: Array, k: int) -> Hits:
        """See FreeTeacher.top."""
        return self._index.search([self._texts[row] for row in query_rows_Q], k)

    def unit(self, query_rows_Q: Array) -> Array:
        """See HasUnit.unit."""
        return self._index.norm([self._texts[row] for row in query_rows_Q])
