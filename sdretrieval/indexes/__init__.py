"""Search over the corpus: vectors through faiss (`VectorIndex`), words through BM25 (`LexicalIndex`)."""

from __future__ import annotations

from sdretrieval.indexes.card import IndexCard
from sdretrieval.indexes.exact import exact_search, recall
from sdretrieval.indexes.hits import PADDING_ROW, Hits
from sdretrieval.indexes.lexical import LexicalIndex, PreparedQueries, coverage
from sdretrieval.indexes.settings import IndexSettings
from sdretrieval.indexes.vector import VectorIndex

__all__ = [
    "PADDING_ROW",
    "Hits",
    "IndexCard",
    "IndexSettings",
    "LexicalIndex",
    "PreparedQueries",
    "VectorIndex",
    "coverage",
    "exact_search",
    "recall",
]
