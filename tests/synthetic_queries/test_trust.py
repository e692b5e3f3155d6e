"""When an estimate is not to be trusted, and how well synthetic queries are told from real ones."""

from __future__ import annotations

import numpy as np
import pytest

from sdretrieval.synthetic_queries.realism import told_apart
from sdretrieval.synthetic_queries.trust import doubts, true_gain


def test_kinds_that_disagree_and_queries_that_give_themselves_away_are_doubts() -> None:
    assert not list(doubts({"title": 0.7}, {"title": 0.02, "keywords": 0.01}))
    (sign,) = doubts({}, {"title": 0.02, "keywords": -0.01})
    assert sign == "kinds of query disagree about its sign (title +0.0200, keywords -0.0100)"
    (easy,) = doubts({"title": 0.99, "keywords": 0.6}, {"title": 0.02})
    assert easy.startswith("a simple classifier tells its queries from") and easy.endswith("curve: title 0.99)")


def test_the_true_gain_is_near_the_estimate() -> None:
    low, high = true_gain(0.03)
    assert low < 0.03 < high and high - low < 0.4


@pytest.mark.parametrize("alike", [True, False])
def test_queries_of_one_sort_are_not_told_apart_and_those_of_two_are(alike: bool) -> None:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(80, 8)) / 3
    real = [f"how is word{n} done?" for n in range(40)]
    made = [f"how is word{n} done?" for n in range(40, 80)] if alike else [f"word{n} words" for n in range(40)]
    area = told_apart((vectors[:40], real), (vectors[40:], made), seed=3)
    assert area < 0.75 if alike else area > 0.99
