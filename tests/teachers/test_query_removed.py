"""A query's own document is judged without the query: in hits, in lists, in matrices alike."""

from __future__ import annotations

import numpy as np
import pytest

from sdretrieval.indexes.hits import Hits
from sdretrieval.ragged import Array, Ragged
from sdretrieval.targets.calibrate import Calibration
from sdretrieval.teachers.ensemble import score_candidates
from sdretrieval.teachers.lexical import LexicalTeacher
from sdretrieval.teachers.protocols import FreeTeacher
from sdretrieval.teachers.query_removed import QueryRemovedScores, QueryRemovedTeacher, with_query_removed
from tests.teachers.collection import Collection

ROWS = np.asarray([5, 8])


def test_a_document_moves_to_where_its_masked_score_belongs() -> None:
    hits = Hits(np.asarray([[1, 2, 3], [1, 2, 3]]), np.asarray([[0.9, 0.8, 0.7]] * 2, dtype=np.float32))
    found = QueryRemovedScores({5: 1}, {5: 0.75}).correct_hits(ROWS, hits, 3)
    assert found.rows_Qk.tolist() == [[2, 1, 3], [1, 2, 3]]
    np.testing.assert_allclose(found.scores_Qk[0], [0.8, 0.75, 0.7])


def test_a_document_that_falls_behind_leaves_and_one_that_was_not_found_enters() -> None:
    hits = Hits(np.asarray([[1, 2, 3], [1, 2, 3]]), np.asarray([[0.9, 0.8, 0.7]] * 2, dtype=np.float32))
    found = QueryRemovedScores({5: 1, 8: 9}, {5: 0.1, 8: 0.85}).correct_hits(ROWS, hits, 2)
    assert found.rows_Qk.tolist() == [[2, 3], [1, 9]]


@pytest.fixture
def teacher(collection: Collection) -> LexicalTeacher:
    return LexicalTeacher(collection.lexical, collection.queries)


@pytest.fixture
def masks(collection: Collection) -> QueryRemovedScores:
    """Each query's first candidate is its own document, of which nothing is left."""
    own = {int(row): int(rows[0]) for row, rows in zip(collection.query_rows, collection.candidates, strict=True)}
    return QueryRemovedScores(own, dict.fromkeys(own, 0.0))


def test_lists_and_matrices_say_the_same(
    collection: Collection, teacher: LexicalTeacher, masks: QueryRemovedScores
) -> None:
    query_removed = with_query_removed(teacher, masks)
    assert isinstance(query_removed, FreeTeacher) and query_removed.asymmetry == teacher.asymmetry
    whole, plain = (
        query_removed.matrix(collection.query_rows, np.arange(120)),
        teacher.score(collection.query_rows, collection.candidates),
    )
    scored = query_removed.score(collection.query_rows, collection.candidates)
    for q, rows in enumerate(collection.candidates):
        np.testing.assert_allclose(scored[q], whole[q, rows], rtol=1e-5, atol=1e-6)
        assert scored[q][0] == 0 and (scored[q][1:] == plain[q][1:]).all()
    assert max(values[0] for values in plain) > 0, "the teacher itself is left as it was"
    for q, row in enumerate(collection.query_rows):
        assert masks.document[int(row)] not in query_removed.top(collection.query_rows, 3).rows_Qk[q]


def test_a_teacher_of_lists_stays_one(collection: Collection, masks: QueryRemovedScores) -> None:
    class Ones:
        name, asymmetry = "ones", "none"

        def score(self, query_rows_Q: Array, candidates: Ragged) -> Ragged:
            return candidates.with_values(np.ones(len(candidates.values_T), dtype=np.float32))

    query_removed = with_query_removed(Ones(), masks)
    assert isinstance(query_removed, QueryRemovedTeacher) and not isinstance(query_removed, FreeTeacher)
    calibration: Calibration = "none"
    scores = score_candidates([query_removed], collection.query_rows, collection.candidates, calibration)
    assert all(values[0] == 0 and (values[1:] == 1).all() for values in scores.members[0].raw)


def test_a_document_that_shares_no_word_any_more_is_no_hit() -> None:
    hits = Hits(np.asarray([[1, -1], [1, 2]]), np.asarray([[0.9, -np.inf], [0.9, 0.8]], dtype=np.float32))
    found = QueryRemovedScores({5: 1}, {5: 0.0}).without_zeros().correct_hits(ROWS, hits, 2)
    assert found.rows_Qk.tolist() == [[-1, -1], [1, 2]]


def test_a_teacher_of_words_does_not_find_what_shares_none(collection: Collection, teacher: LexicalTeacher) -> None:
    """A zero among its own best documents would move the scale by which it is calibrated."""
    row = int(collection.query_rows[0])
    own = int(collection.candidates[0][0])
    masks = QueryRemovedScores({row: own}, {row: 0.0})
    found = with_query_removed(teacher, masks, zero_is_no_hit=True)
    plain = with_query_removed(teacher, masks)
    assert isinstance(found, FreeTeacher) and isinstance(plain, FreeTeacher)
    asked, everything = collection.query_rows[:1], 120
    assert own in plain.top(asked, everything).rows_Qk[0]
    assert own not in found.top(asked, everything).rows_Qk[0]
    assert found.score(asked, Ragged.of([[own]], np.int64)).values_T.tolist() == [0.0], "in a list it is judged"
