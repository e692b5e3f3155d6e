"""The scale of margins: lists keep their spread."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.errors import NumericError
from sdretrieval.ragged import Ragged
from sdretrieval.training.losses import margin_scale


def lists(seed: int, scale: float = 1.0) -> Ragged:
    values = np.random.default_rng(seed).normal(size=(40, 6)) * scale
    return Ragged.of(list(values), np.float64)


@given(st.floats(0.01, 10), st.floats(0.01, 10), st.floats(-5, 5))
def test_the_teacher_times_the_scale_has_the_students_spread(student: float, teacher: float, constant: float) -> None:
    ours, theirs = lists(1, student), lists(2, teacher)
    scale = margin_scale(ours, theirs.with_values(theirs.values_T + constant))
    spread = [np.std([row - row.mean() for row in one]) for one in (ours, theirs)]
    assert scale * spread[1] == pytest.approx(spread[0], rel=1e-6)


def test_disagreement_does_not_shrink_it() -> None:
    ours = lists(1)
    assert margin_scale(ours, ours.with_values(-ours.values_T)) == pytest.approx(1.0)


def test_what_the_teacher_left_out_counts_on_neither_side() -> None:
    ours = Ragged.of([[0.1, 0.3, 9.0]], np.float64)
    assert margin_scale(ours, Ragged.of([[1.0, 3.0, -np.inf]], np.float64)) == pytest.approx(0.1)


def test_scores_without_any_spread_are_refused_by_name() -> None:
    flat = Ragged.of([[1.0, 1.0], [2.0, 2.0]], np.float64)
    with pytest.raises(NumericError, match="the student's scores are equal within every list"):
        margin_scale(flat, flat)
    with pytest.raises(NumericError, match=r"the teacher's .* set train\.margin_scale to a number"):
        margin_scale(Ragged.of([[1.0, 2.0], [2.0, 1.0]], np.float64), flat)
