"""Two teachers, each for the queries that it has not learned."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.ragged import Ragged
from sdretrieval.teachers.out_of_fold import OutOfFoldTeacher
from sdretrieval.teachers.pair_teacher import PairTeacher


class Stub:
    """Says of each pair who scored it, and which it was."""

    name, asymmetry, newly_scored = "stub", "reads", 3

    def __init__(self, number: int) -> None:
        self.number = number

    def score(self, query_rows_Q: Any, candidates: Ragged) -> Ragged:
        rows_T = np.asarray(query_rows_Q)[candidates.list_of_entry]
        return candidates.with_values((self.number + 10 * rows_T + 1000 * candidates.values_T).astype(np.float32))


@given(
    st.lists(st.tuples(st.integers(0, 50), st.lists(st.integers(0, 9), max_size=4)), max_size=8),
    st.sets(st.integers(0, 50)),
)
def test_every_pair_is_scored_by_the_teacher_that_has_not_learned_its_query(
    lists: list[tuple[int, list[int]]], learned: set[int]
) -> None:
    halves = [cast(PairTeacher, Stub(number)) for number in (1, 2)]
    teacher = OutOfFoldTeacher(*halves, learned)
    rows = np.asarray([row for row, _ in lists], dtype=np.int64)
    found = teacher.score(rows, Ragged.of([documents for _, documents in lists], np.int64))
    expected = [
        [(2 if row in learned else 1) + 10 * row + 1000 * document for document in documents]
        for row, documents in lists
    ]
    assert [one.tolist() for one in found] == expected
    assert teacher.newly_scored == 6 and "learned judgements" in teacher.asymmetry
