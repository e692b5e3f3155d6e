"""Leaving the least confident queries unanswered: the curve, and its area as mteb measures it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.errors import NumericError, RequestError
from sdretrieval.evaluation import nauc, risk_coverage

QUALITIES = st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=2, max_size=40)


def test_the_curve_leaves_out_the_least_confident_first() -> None:
    curve = risk_coverage([3, 1, 2, 4, 5, 6, 7, 8, 9, 10], [0, 1, 1, 1, 0, 1, 0, 1, 1, 1])
    assert [round(point.share, 1) for point in curve] == [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
    assert curve[0].quality == 0.7  # all queries
    assert curve[2].quality == pytest.approx(5 / 8)  # without the two of confidence 1 and 2, both good
    assert curve[9].quality == 1.0


def test_the_area_is_that_of_mteb() -> None:
    # What the definition in mteb/_evaluators/retrieval_metrics.py gives for these lists.
    random = np.random.default_rng(3)
    quality = np.round(random.random(37), 2)
    confidence = quality + random.normal(0, 0.4, 37)
    assert nauc(confidence, quality) == pytest.approx(0.294741, abs=1e-6)


@given(QUALITIES)
def test_perfect_confidence_has_1_and_the_opposite_less(quality: list[float]) -> None:
    if len(set(quality)) == 1:
        assert nauc(quality, quality) is None
        return
    assert nauc(quality, quality) == pytest.approx(1)
    worst = nauc([-value for value in quality], quality)
    assert worst is not None and worst < 1


@given(QUALITIES, st.integers(0, 10_000))
def test_only_the_order_of_confidence_counts(quality: list[float], seed: int) -> None:
    confidence = np.random.default_rng(seed).permutation(len(quality))
    assert nauc(confidence, quality) == nauc(np.exp(confidence / 10) - 7, quality)


def test_what_does_not_match_or_is_no_number_is_refused() -> None:
    with pytest.raises(RequestError, match="2 confidences and 1 qualities: expected one of each a query"):
        nauc([0.1, 0.2], [1.0])
    with pytest.raises(NumericError, match="not finite"):
        risk_coverage([0.1, float("nan")], [1.0, 0.0])
