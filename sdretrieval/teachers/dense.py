"""A bi-encoder as a free teacher: cached vectors, all windows of a document, their maximum.

This is the frozen EMA teacher of a generation (the student's own moving average). Its asymmetry over the student is the
full context: the student sees a document's first tokens, the teacher every window.

Legend: Q queries, W windows, M documents, D dims.
"""

from __future__ import annotations

import numpy as np

from sdretrieval.encode.encoder import Embeddings
from sdretrieval.indexes.hits import Hits
from sdretrieval.ragged import Array, Ragged
from sdretrieval.teachers.protocols import lists_from_matrix

QUERIES_PER_BLOCK = 64
"""Bounds the memory of an exhaustive search to this many rows of window scores."""


class DenseTeacher:
    """Scores = max over a document's windows of the inner product with the query's vector."""

    def __init__(self, name: str, queries_QD: Array, documents: Embeddings) -> None:
        self.name = name
        whole = not documents.one_window
        self.asymmetry = (
            "reads every window of a document, the student only its first tokens"
            if whole
            else "an average over the student's past; it sees just what the student sees"
        )
        self._queries_QD, self._documents = queries_QD, documents

    def matrix(self, query_rows_Q: Array, document_rows_M: Array) -> Array:
        """See FreeTeacher.matrix."""
        starts = self._documents.windows[document_rows_M]
        ends = self._documents.windows[np.asarray(document_rows_M) + 1]
        windows = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
        scores_QW = self._queries_QD[query_rows_Q] @ np.asarray(self._documents.vectors_WD[windows]).T
        firsts = np.concatenate([[0], np.cumsum(ends - starts)[:-1]])
        return np.maximum.reduceat(scores_QW, firsts, axis=1).astype(np.float32)

    def query_vectors(self, query_rows: Array) -> Array:
        """See HasVectors."""
        return unit(np.asarray(self._queries_QD[query_rows]))

    def document_vectors(self, document_rows: Array) -> Array:
        """See HasVectors: the mean of a document's windows, of length 1.

        One vector cannot be each window's maximum; the mean is nearest to them all, and speaks of the whole document.
        """
        starts, ends = self._documents.windows[document_rows], self._documents.windows[np.asarray(document_rows) + 1]
        vectors = [np.asarray(self._documents.vectors_WD[a:b]).mean(axis=0) for a, b in zip(starts, ends, strict=True)]
        return unit(np.stack(vectors))

    def score(self, query_rows_Q: Array, candidates: Ragged) -> Ragged:
        """See Teacher.score."""
        return lists_from_matrix(self, query_rows_Q, candidates)

    def top(self, query_rows_Q: Array, k: int) -> Hits:
        """Exhaustive search over all windows, aggregated by document."""
        count = len(self._documents.windows) - 1
        k = min(k, count)
        rows_Qk = np.empty((len(query_rows_Q), k), dtype=np.int64)
        scores_Qk = np.empty((len(query_rows_Q), k), dtype=np.float32)
        for start in range(0, len(query_rows_Q), QUERIES_PER_BLOCK):
            block = slice(start, start + QUERIES_PER_BLOCK)
            scores_QW = self._queries_QD[query_rows_Q[block]] @ self._documents.vectors_WD.T
            scores_QN = np.maximum.reduceat(scores_QW, self._documents.windows[:-1], axis=1)
            best = np.argpartition(-scores_QN, k - 1, axis=1)[:, :k]
            order = np.argsort(-np.take_along_axis(scores_QN, best, axis=1), axis=1, kind="stable")
            rows_Qk[block] = np.take_along_axis(best, order, axis=1)
            scores_Qk[block] = np.take_along_axis(scores_QN, rows_Qk[block], axis=1)
        return Hits(rows_Qk, scores_Qk)


def unit(vectors_XD: Array) -> Array:
    """Rows of length 1, float32; a row of zeros stays."""
    lengths_X1 = np.linalg.norm(vectors_XD, axis=1, keepdims=True)
    return np.asarray(vectors_XD / np.where(lengths_X1 > 0, lengths_X1, 1.0), dtype=np.float32)
