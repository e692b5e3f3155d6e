"""What BM25 adds, predicted from queries without judgements."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.evaluation.prediction import SEEN, TYPICAL, Signals, mean_cosine, predict, signals, unlike
from sdretrieval.indexes.hits import Hits

WEIGHTS = (0.25, 0.5, 0.75, 1.0)
TYPICAL_SIGNALS = Signals(*TYPICAL, 100)


def hits(rows: list[list[int]], best: float) -> Hits:
    return Hits(np.asarray(rows), np.full(np.shape(rows), best, dtype=np.float32))


def test_signals_are_the_best_cosine_on_the_models_own_scale_and_the_documents_in_both_tops() -> None:
    ours, theirs = list(range(10)), [*range(5, 8), *range(20, 24), -1, -1, -1]
    found = signals(hits([ours, ours], 0.7), hits([theirs, [-1] * 10], 9.0), 0.4)
    assert found.queries == 2 and found.closeness == pytest.approx(0.5) and found.agreement == pytest.approx(0.15)


def test_texts_are_not_compared_with_themselves() -> None:
    assert mean_cosine(np.eye(3), np.eye(3)) == 0


@pytest.mark.parametrize("weight", WEIGHTS)
def test_the_less_a_model_knows_and_the_less_both_agree_the_more_bm25_adds(weight: float) -> None:
    (near, far), (apart, alike) = SEEN[0][::-1], SEEN[1]
    usual = predict(TYPICAL_SIGNALS, weight)
    assert predict(Signals(far, apart, 9), weight).gain > usual.gain > predict(Signals(near, alike, 9), weight).gain
    assert usual.low < usual.gain < usual.high


@given(st.floats(0, 1), st.floats(-1, 1), st.floats(0, 1))
def test_predictions_stay_between_those_of_the_ends_that_were_seen(weight: float, close: float, agree: float) -> None:
    given = predict(Signals(close, agree, 9), weight).gain
    ends = [predict(Signals(c, a, 9), weight).gain for c in SEEN[0] for a in SEEN[1]]
    assert min(ends) - 1e-9 <= given <= max(ends) + 1e-9
    assert predict(Signals(close, agree, 9), 0.0).gain == 0


def test_queries_unlike_those_of_the_study_are_doubted() -> None:
    assert not list(unlike(TYPICAL_SIGNALS))
    (doubt,) = unlike(Signals(0.2, TYPICAL[1], 9))
    assert doubt.startswith("closeness of the queries that people asked is 0.20, in the study it was 0.5")


@pytest.mark.parametrize("weight", WEIGHTS)
def test_without_queries_it_is_the_average_and_less_certain(weight: float) -> None:
    average, usual = predict(None, weight), predict(TYPICAL_SIGNALS, weight)
    assert average.gain == usual.gain and average.queries == 0
    assert average.low <= usual.low and average.high >= usual.high
