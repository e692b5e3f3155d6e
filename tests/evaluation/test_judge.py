"""Grades are found in whatever a model says; agreement with people is Cohen's."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.chat import Chat, ServedModel
from sdretrieval.evaluation.judge import agreement, grade_in, judge_pairs
from tests.helpers.chat_server import chat_server


@pytest.mark.parametrize(
    ("answer", "grade"),
    [
        ("3", 3), ("0", 0), (" 2.", 2), ("Grade: 1", 1), ("**Grade: 2**", 2), ("##final score: 3", 3),
        ('{"grade": 2}', 2), ('{"M": 1, "T": 2, "O": 3}', 3), ("[1]", 1), ("The relevance is 2", 2),
        ("I would say 1, since 1 is on the topic", 1), ("score 2/3", 2),
        ("4", None), ("-", None), ("", None), ("0 or 1", None), ("1.5", None), ("grade: 10", None), ("12", None),
        ('{"grade": true}', None),
    ],
)  # fmt: skip
def test_the_grade_in_an_answer(answer: str, grade: int | None) -> None:
    assert grade_in(answer) == grade


def test_pairs_are_judged_in_their_order(tmp_path: Path) -> None:
    pairs = [("one two three", "three two one"), ("one two three", "three"), ("one two three", "four")]
    with chat_server() as server:
        chat = Chat(ServedModel(server.url, "m"), "evaluate.judge", tmp_path, temperature=0.0)
        assert judge_pairs(chat, pairs) == [3, 1, 0]
    assert {body["temperature"] for body in server.bodies} == {0.0}


def test_agreement_of_a_known_table() -> None:
    # Cohen's kappa of 20 yes-yes, 5 yes-no, 10 no-yes, 15 no-no: (0.7 - 0.5) / 0.5.
    people = [True] * 25 + [False] * 25
    model = [True] * 20 + [False] * 5 + [True] * 10 + [False] * 15
    found = agreement(people, model, 7)
    assert found is not None
    assert (found.kappa, found.agreed, found.of_relevant, found.pairs, found.queries) == (0.4, 0.7, 0.8, 50, 7)


def test_without_pairs_there_is_no_agreement_and_without_both_words_no_kappa() -> None:
    assert agreement([], [], 0) is None
    found = agreement([True, True], [True, False], 1)
    assert found is not None and found.kappa is None and found.agreed == 0.5


@given(st.lists(st.booleans(), min_size=2, max_size=20))
def test_who_agrees_with_himself_agrees_wholly(people: list[bool]) -> None:
    found = agreement(people, people, 1)
    assert found is not None and found.agreed == 1.0 and found.kappa in (1.0, None)
