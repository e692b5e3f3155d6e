"""Weights by the teacher's confidence."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from score_strategies import gaussian, score_lists

from sdretrieval.errors import NumericError, WorkError
from sdretrieval.ragged import Array, Ragged
from sdretrieval.targets.confidence import (
    QueryWeightReport,
    list_confidence,
    mixture_confidence,
    query_weights,
    ranked_weights,
)


def corpus_confidence(raw: Ragged) -> Array:
    return ranked_weights(list_confidence(raw))


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


def spread(*gaps: float) -> Ragged:
    """Lists of two scores that are so far apart, on a scale from 0 to 1 (two extreme lists set the scale)."""
    return Ragged.of([*([gap, 0.0] for gap in gaps), *[[1.0, 0.0]] * 98], np.float32)


@given(score_lists())
def test_queries_below_the_threshold_weigh_nothing_and_are_counted_and_named(raw: Ragged) -> None:
    trust_Q = mixture_confidence([raw], [1.0])
    below = float(np.median(trust_Q))
    weight_Q, report = query_weights(trust_Q, below)
    assert ((weight_Q == 0) == (trust_Q < below)).all()
    assert weight_Q[weight_Q > 0].mean() == pytest.approx(1.0, abs=1e-5)
    assert (report.silenced, report.queries) == (int((trust_Q < below).sum()), len(raw))
    assert [example.trust for example in report.examples] == sorted(trust_Q[trust_Q < below])[:10]
    assert sum(report.trust_histogram) == len(raw)
    assert QueryWeightReport.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_the_more_trusted_of_those_that_count_weighs_more() -> None:
    trust_Q = mixture_confidence([spread(0.1, 0.4, 0.9)], [1.0])
    np.testing.assert_allclose(trust_Q[:3], [0.1, 0.4, 0.9], atol=1e-6)
    weight_Q, report = query_weights(trust_Q, 0.2)
    assert weight_Q[0] == 0 < weight_Q[1] < weight_Q[2] < weight_Q[3]
    assert [(example.query_position, round(example.trust, 3)) for example in report.examples] == [(0, 0.1)]


def test_a_threshold_that_leaves_no_query_says_how_far_they_are_trusted() -> None:
    expected = r"below is 0\.9, but no query is trusted as much: the highest trust of 3 queries is 0\.500, the median"
    with pytest.raises(WorkError, match=expected):
        query_weights(np.asarray([0.5, 0.2, 0.1]), 0.9)
