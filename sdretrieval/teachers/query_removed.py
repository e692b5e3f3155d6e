"""A teacher of queries that were taken from documents: each query's own document is scored with the query removed.

Such a query is in its document word for word. A search for words would find it at once, and a teacher would be
praised for what no real query gives it. So the score of that one document is that of what is left of it.

Legend: Q queries, T candidates of all lists together, k hits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from sdretrieval.indexes.hits import Hits, ordered
from sdretrieval.ragged import Array, Ragged
from sdretrieval.teachers.protocols import FreeTeacher, HasUnit, Teacher


class QueryRemovedScores(NamedTuple):
    """By query row: the document that the query was taken from, and its score with the query removed."""

    document: Mapping[int, int]
    score: Mapping[int, float]

    def without_zeros(self) -> QueryRemovedScores:
        """The same, but a document whose score is not above 0 is no hit at all."""
        return self._replace(score={query: score if score > 0 else -np.inf for query, score in self.score.items()})

    def correct_hits(self, query_rows_Q: Array, hits: Hits, k: int) -> Hits:
        """Hits with each query's own document put where its corrected score belongs, the best k of them.

        Ask for one hit more than k: a document that falls behind leaves its place empty.
        """
        rows_Qk, scores_Qk = hits.rows_Qk.astype(np.int64), hits.scores_Qk.astype(np.float32)
        own_Q = np.asarray([self.document.get(int(row), -1) for row in query_rows_Q], dtype=np.int64)
        scores_Q = np.asarray([self.score.get(int(row), -np.inf) for row in query_rows_Q], dtype=np.float32)
        # The own document leaves its old place, and comes back as one hit more with the corrected score.
        gone_Qk = (rows_Qk == own_Q[:, None]) & (rows_Qk >= 0)
        own_Q = np.where(np.isneginf(scores_Q), -1, own_Q)
        rows_Qk, scores_Qk = np.where(gone_Qk, -1, rows_Qk), np.where(gone_Qk, -np.inf, scores_Qk)
        rows_Qk = np.concatenate([rows_Qk, own_Q[:, None]], axis=1)
        scores_Qk = np.concatenate([scores_Qk, scores_Q[:, None]], axis=1)
        return ordered(Hits(rows_Qk, scores_Qk), k)

    def correct(self, query_rows_Q: Array, candidates: Ragged, scores: Ragged) -> Ragged:
        """Scores of candidates with those of the queries' own documents replaced."""
        values_T = scores.values_T.copy()
        for position, row in enumerate(query_rows_Q.tolist()):
            if row in self.document:
                span = slice(candidates.offsets[position], candidates.offsets[position + 1])
                values_T[span][candidates[position] == self.document[row]] = self.score[row]
        return scores.with_values(values_T)


class QueryRemovedTeacher:
    """`teacher`, its scores corrected by `masks`; `whole` is the teacher itself."""

    def __init__(self, teacher: Teacher, masks: QueryRemovedScores) -> None:
        self.name, self.asymmetry = teacher.name, teacher.asymmetry
        self.whole, self._by_query = teacher, masks

    def score(self, query_rows_Q: Array, candidates: Ragged) -> Ragged:
        """See Teacher.score."""
        return self._by_query.correct(query_rows_Q, candidates, self.whole.score(query_rows_Q, candidates))


class FreeQueryRemovedTeacher(QueryRemovedTeacher):
    """`QueryRemovedTeacher` for a free teacher. `zero_is_no_hit`: see `with_query_removed`."""

    def __init__(self, teacher: FreeTeacher, masks: QueryRemovedScores, zero_is_no_hit: bool) -> None:
        super().__init__(teacher, masks)
        self._free, self._hits = teacher, masks.without_zeros() if zero_is_no_hit else masks

    def matrix(self, query_rows_Q: Array, document_rows_M: Array) -> Array:
        """See FreeTeacher.matrix."""
        scores_QM = self._free.matrix(query_rows_Q, document_rows_M).copy()
        for position, row in enumerate(np.asarray(query_rows_Q).tolist()):
            if row in self._by_query.document:
                scores_QM[position, np.asarray(document_rows_M) == self._by_query.document[row]] = self._by_query.score[
                    row
                ]
        return scores_QM

    def top(self, query_rows_Q: Array, k: int) -> Hits:
        """See FreeTeacher.top."""
        return self._hits.correct_hits(query_rows_Q, self._free.top(query_rows_Q, k + 1), k)


class HasUnitQueryRemovedTeacher(FreeQueryRemovedTeacher):
    """The same of a teacher that has a unit, which is the query's and stays."""

    def __init__(self, teacher: HasUnit, masks: QueryRemovedScores, zero_is_no_hit: bool) -> None:
        super().__init__(teacher, masks, zero_is_no_hit)
        self.unit = teacher.unit


def whole(teacher: Teacher) -> Teacher:
    """The teacher as it reads every document whole: its vectors are of documents, not of a query with a document."""
    return teacher.whole if isinstance(teacher, QueryRemovedTeacher) else teacher


def with_query_removed(teacher: Teacher, masks: QueryRemovedScores, *, zero_is_no_hit: bool = False) -> Teacher:
    """The teacher corrected by `masks`, free if it was. `zero_is_no_hit`: it never finds what shares no word."""
    if isinstance(teacher, HasUnit):
        return HasUnitQueryRemovedTeacher(teacher, masks, zero_is_no_hit)
    if isinstance(teacher, FreeTeacher):
        return FreeQueryRemovedTeacher(teacher, masks, zero_is_no_hit)
    return QueryRemovedTeacher(teacher, masks)
