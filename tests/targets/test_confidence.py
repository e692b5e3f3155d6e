"""Weights by the teacher's confidence."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from score_strategies import gaussian, score_lists

from sdretrieval.errors import NumericError
from sdretrieval.ragged import Ragged
from sdretrieval.targets import corpus_confidence


@given(score_lists())
def test_weights_are_bounded_with_mean_1(raw: Ragged) -> None:
    weight_Q = corpus_confidence(raw)
    assert weight_Q.mean() == pytest.approx(1.0, abs=1e-5)
    assert np.all((weight_Q > 0.5) & (weight_Q < 1.5))


def test_the_surer_list_weighs_more_although_their_z_scores_are_equal() -> None:
    flat = [0.50, 0.49, 0.48, 0.47]
    sure = [0.9, 0.6, 0.3, 0.0]
    weight_Q = corpus_confidence(Ragged.of([flat, sure], np.float32))
    assert weight_Q.tolist() == [0.75, 1.25]


def test_equal_lists_weigh_the_same() -> None:
    assert corpus_confidence(Ragged.of([[1.0, 0.0]] * 4, np.float32)).tolist() == [1.0] * 4


def test_the_scale_of_the_teacher_does_not_matter() -> None:
    raw = gaussian(9, 5)
    np.testing.assert_array_equal(
        corpus_confidence(raw), corpus_confidence(raw.with_values(raw.values_T * np.float32(64) + np.float32(4)))
    )


def test_no_query_or_a_bad_score() -> None:
    assert len(corpus_confidence(Ragged.of([], np.float32))) == 0
    with pytest.raises(NumericError, match="query position 0, candidate position 1 is nan"):
        corpus_confidence(Ragged.of([[0.0, np.nan]], np.float32))
