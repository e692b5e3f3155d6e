"""The curve of a rule's reach: what it removes, what it catches, and when it recommends nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_strategies import score_lists

from sdretrieval.errors import RequestError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.calibrate import calibrate, corpus_statistics
from sdretrieval.targets.false_negatives import margin_curve


def lists(positives: list[list[float]], others: list[list[float]]) -> tuple[Ragged, Ragged]:
    """Scores and flags of lists whose positives stand first."""
    scores = Ragged.of([[*p, *o] for p, o in zip(positives, others, strict=True)], np.float64)
    flags = [[True] * len(p) + [False] * len(o) for p, o in zip(positives, others, strict=True)]
    return scores, Ragged.of(flags, np.bool_)


def test_counts_by_hand() -> None:
    scores, positive = lists([[0.9, 0.8], [0.5], []], [[0.85, 0.1], [0.46, 0.2], [0.99]])
    curve = margin_curve("margin", scores, positive, [0.0, 0.05, 0.2])
    # 0.9 is caught beside 0.8 at any margin, 0.8 beside 0.9 from 0.1 on; the list without a positive is not judged.
    assert [(one.value, one.removed, one.caught) for one in curve.settings] == [(0.0, 0, 1), (0.05, 1, 1), (0.2, 2, 2)]
    assert (curve.candidates, curve.held_out, curve.lists) == (4, 2, 1)
    assert [one.caught_share for one in curve.settings] == [0.5, 0.5, 1.0]
    assert [one.removed_share for one in curve.settings] == [0.0, 0.25, 0.5]


def test_too_few_hidden_positives_recommend_nothing_and_say_how_many_there_are() -> None:
    curve = margin_curve("margin", *lists([[0.9, 0.8], [0.5]], [[0.1], [0.2]]))
    assert curve.recommended is None
    assert "it takes 20 known positives that are beside another one of their query, found 2;" in curve.advice
    alone = margin_curve("margin", *lists([[0.9]], [[0.1]]))
    assert (alone.held_out, alone.settings[0].caught_share) == (0, None)


def test_the_margin_that_parts_them_best_is_recommended() -> None:
    scores, positive = lists([[0.9, 0.78]] * 15, [[0.5, 0.4, 0.3]] * 15)
    curve = margin_curve("margin", scores, positive)
    assert curve.recommended == 0.15  # 0.12 apart; at 0.4 the others begin to go
    assert curve.advice.startswith(
        "Recommended: margin 0.15, which catches 100% of the known positives that were held out"
    )
    percent = margin_curve("percent_of_positive", scores, positive)
    assert percent.recommended == 85.0  # 0.78 is 87 % of 0.9


def test_a_teacher_that_cannot_tell_recommends_nothing() -> None:
    curve = margin_curve("margin", *lists([[0.9, 0.1]] * 15, [[0.95, 0.94]] * 15))
    assert curve.recommended is None and "this teacher cannot tell them apart" in curve.advice


@given(score_lists(), st.integers(0, 99))
@settings(deadline=None)
def test_a_wider_margin_removes_and_catches_no_less(raw: Ragged, seed: int) -> None:
    scores = calibrate(raw, corpus_statistics(raw))
    positive = raw.with_values(np.random.default_rng(seed).random(len(raw.values_T)) < 0.4)
    for rule in ("margin", "percent_of_positive"):
        found = margin_curve(rule, scores, positive).settings
        assert [one.removed for one in found] == sorted(one.removed for one in found)
        assert [one.caught for one in found] == sorted(one.caught for one in found)


def test_no_rule_has_no_curve() -> None:
    with pytest.raises(RequestError, match="the rule is none, which removes nothing; expected margin or percent"):
        margin_curve("none", *lists([[0.9]], [[0.1]]))
