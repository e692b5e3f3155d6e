"""Imported scores as a teacher: it says what its file says, and a gap is what `missing` makes of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.errors import MissingScores
from sdretrieval.ragged import Ragged
from sdretrieval.teachers.ensemble import TeacherScores, score_candidates
from sdretrieval.teachers.imported import ImportedTeacher, Missing
from sdretrieval.teachers.protocols import FreeTeacher, PartialTeacher, Teacher
from sdretrieval.teachers.score_file import ScoreTable

QUERIES, DOCUMENTS = [f"q{n}" for n in range(4)], [f"d{n}" for n in range(10)]
ROWS_Q = np.asarray([2, 0])
LISTS = Ragged.of([[3, 1, 7], [1, 9]], np.int64)
WHOLE = {("q2", "d3"): 1.0, ("q2", "d1"): 4.0, ("q2", "d7"): 2.5, ("q0", "d1"): -1.0, ("q0", "d9"): 0.5}


def teacher(pairs: dict[tuple[str, str], float], missing: Missing = "error") -> ImportedTeacher:
    queries = list(dict.fromkeys(query for query, _ in pairs))
    documents = list(dict.fromkeys(document for _, document in pairs))
    table = ScoreTable(
        "scores.tsv", queries, documents,
        np.asarray([queries.index(query) for query, _ in pairs], dtype=np.int64),
        np.asarray([documents.index(document) for _, document in pairs], dtype=np.int64),
        np.asarray(list(pairs.values()), dtype=np.float32),
    )  # fmt: skip
    return ImportedTeacher(table, name="scores:x", query_ids=QUERIES, document_ids=DOCUMENTS, missing=missing)


def without(*pairs: tuple[str, str]) -> dict[tuple[str, str], float]:
    return {pair: score for pair, score in WHOLE.items() if pair not in pairs}


def test_scores_stand_where_their_pairs_stand() -> None:
    raw = teacher(WHOLE).score(ROWS_Q, LISTS)
    assert [entries.tolist() for entries in raw] == [[1.0, 4.0, 2.5], [-1.0, 0.5]]
    assert raw.values_T.dtype == np.float32


def test_it_is_a_teacher_of_lists_alone() -> None:
    one = teacher(WHOLE)
    assert isinstance(one, Teacher) and isinstance(one, PartialTeacher) and not isinstance(one, FreeTeacher)


def test_a_missing_pair_is_an_error_that_names_it_and_holds_all() -> None:
    with pytest.raises(MissingScores) as caught:
        teacher(without(("q2", "d7"), ("q0", "d1"))).score(ROWS_Q, LISTS)
    assert str(caught.value) == (
        "teacher scores:x: scores.tsv lacks 2 of 5 pairs (40.0%), the first of query and document: (q2, d7), (q0, d1)."
    )
    assert caught.value.pairs == [("q2", "d7"), ("q0", "d1")]
    assert caught.value.exit_code == 1


def test_lowest_is_one_mean_gap_below_all_that_the_query_has_in_the_file() -> None:
    known = without(("q2", "d7")) | {("q2", "d0"): -2.0}  # d0 is in no list, but it is the lowest
    raw = teacher(known, "lowest").score(ROWS_Q, LISTS)
    assert raw[0].tolist() == [1.0, 4.0, -5.0]  # three scores from -2 to 4: a gap of 3
    assert raw[1].tolist() == [-1.0, 0.5]


def test_lowest_with_a_single_score_steps_down_by_the_files_spread() -> None:
    known = without(("q0", "d1"))
    spread = np.std([1.0, 4.0, 2.5, 0.5])
    assert teacher(known, "lowest").score(ROWS_Q, LISTS)[1].tolist() == pytest.approx([0.5 - spread, 0.5])


def test_lowest_of_a_list_without_any_score_is_refused() -> None:
    with pytest.raises(
        MissingScores, match=r"Of 1 lists no document has a score, .*set missing: skip, which leaves such"
    ):
        teacher(without(("q0", "d1"), ("q0", "d9")), "lowest").score(ROWS_Q, LISTS)


def test_skip_marks_what_leaves_the_target() -> None:
    one = teacher(without(("q2", "d7"), ("q0", "d1"), ("q0", "d9")), "skip")
    unknown = one.unknown(ROWS_Q, LISTS)
    assert unknown is not None and [mask.tolist() for mask in unknown] == [[False, False, True], [True, True]]
    assert np.isfinite(one.score(ROWS_Q, LISTS).values_T).all()
    assert teacher(WHOLE).unknown(ROWS_Q, LISTS) is None
    assert one.missing_pairs(ROWS_Q, LISTS) == [("q2", "d7"), ("q0", "d1"), ("q0", "d9")]


def test_what_is_to_be_ranked_needs_some_score() -> None:
    teacher(without(("q0", "d1")), "skip").require_some(ROWS_Q, LISTS)
    with pytest.raises(MissingScores, match="Of 1 queries no document has a score, so that they cannot be ranked"):
        teacher(without(("q0", "d1"), ("q0", "d9")), "skip").require_some(ROWS_Q, LISTS)


def test_ids_that_the_corpus_lacks_are_counted_and_named() -> None:
    one = teacher(WHOLE | {("Q9", "d1"): 1.0, ("q0", "x1"): 1.0, ("q0", "x2"): 2.0})
    assert one.unknown_ids == (
        "1 of its 3 query ids are not in the corpus ('Q9') and 2 of its 6 document ids are not in the corpus "
        "('x1', 'x2')"
    )
    assert one.score(ROWS_Q, LISTS)[1].tolist() == [-1.0, 0.5]
    assert teacher(WHOLE).unknown_ids == ""


def test_a_file_of_another_corpus_says_so() -> None:
    with pytest.raises(
        MissingScores, match=r"lacks 5 of 5 pairs .* 1 of its 1 query ids are not in the corpus \('a'\)"
    ):
        teacher({("a", "b"): 1.0}).score(ROWS_Q, LISTS)


@given(st.data())
def test_any_subset_and_order_of_pairs_is_looked_up_right(data: Any) -> None:
    every = [(query, document) for query in range(4) for document in range(10)]
    chosen = data.draw(st.permutations(every).map(lambda pairs: pairs[: data.draw(st.integers(1, 40))]))
    scores = {(QUERIES[query], DOCUMENTS[document]): query * 100.0 + document for query, document in chosen}
    lists = Ragged.of([list(range(10))] * 4, np.int64)
    one = teacher(scores, "skip")
    raw, lacking = one.score(np.arange(4), lists), one.lacking(np.arange(4), lists)
    for query, document in every:
        known = (query, document) in chosen
        assert lacking[query][document] == (not known)
        assert not known or raw[query][document] == query * 100.0 + document


# --- in an ensemble


def test_skipped_pairs_do_not_decide_the_statistics_and_survive_the_disk(tmp_path: Any) -> None:
    gappy, whole = teacher(without(("q2", "d7")), "skip"), teacher(WHOLE)
    scores = score_candidates([gappy, whole], ROWS_Q, LISTS, "zscore")
    assert scores.members[0].statistics.centre_Q.tolist() == [2.5, -0.25]  # of 1 and 4 alone
    scores.save(tmp_path)
    back = TeacherScores.load(tmp_path)
    for one in (scores, back):
        unknown = one.unknown([0.5, 0.5])
        assert unknown is not None and unknown.values_T.tolist() == [False, False, True, False, False]
        assert one.unknown([0.0, 1.0]) is None, "a member without weight has no say"
    assert back.members[1].unknown is None
