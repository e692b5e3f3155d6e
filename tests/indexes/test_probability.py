"""Scores become probabilities: monotone, fitted to what was relevant, read back as they were written."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.indexes.probability import ProbabilityMap, fit_map, hit_features

MAP = ProbabilityMap(bias=-6.0, score=8.0, lead=5.0, coverage=2.0, agreement=1.0)
UNIT = st.floats(0, 1, width=32)


def test_the_lead_is_the_gap_to_the_next_and_below_zero_behind_the_first() -> None:
    features = hit_features([[0.9, 0.7, 0.6], [0.5, 0.5, -np.inf]], np.full((2, 3), 0.4), [0.5, 0.4])
    np.testing.assert_allclose(features[0], [[0.9, 0.2, 0.4, -0.1], [0.7, -0.2, 0.4, -0.1], [0.6, -0.3, 0.4, -0.1]])
    np.testing.assert_allclose(features[1, :2, 1], [0, 0])
    assert hit_features([[0.9]], [[0.1]], [0.1])[0, 0].tolist() == [0.9, 0.0, 0.1, 0.0]  # alone, it leads nobody


@given(st.lists(st.tuples(UNIT, UNIT), min_size=2, max_size=6), st.integers(0, 5), UNIT)
def test_a_higher_score_or_coverage_never_makes_a_hit_less_probable(
    hits: list[tuple[float, float]], number: int, more: float
) -> None:
    scores, coverage = np.array(hits).T[:, None]
    number %= len(hits)
    before = MAP.of(scores, coverage, [1.0])[0, number]
    higher, covered = scores.copy(), coverage.copy()
    higher[0, number] += more
    covered[0, number] += more
    assert MAP.of(higher, coverage, [1.0])[0, number] >= before
    assert MAP.of(scores, covered, [1.0])[0, number] >= before


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from([1.0, 0.02, 40.0]))
def test_a_fitted_map_comes_true_whatever_the_scale_of_the_scores(seed: int, scale: float) -> None:
    random = np.random.default_rng(seed)
    scores, coverage = np.sort(random.random((4000, 5)))[:, ::-1], random.random((4000, 5))
    true = MAP.of(scores, coverage, best := coverage.max(axis=1))
    relevant = random.random((4000, 5)) < true
    fitted = fit_map(hit_features(scores * scale, coverage, best).reshape(-1, 4), relevant.ravel())
    found = fitted.of(scores * scale, coverage, best)
    assert np.abs(found - true).mean() < 0.02
    assert abs(found.mean() - relevant.mean()) < 1e-3


def test_weights_stay_at_zero_if_the_data_ask_for_less() -> None:
    random = np.random.default_rng(0)
    scores, coverage = random.random((500, 2)), random.random((500, 2))
    fitted = fit_map(hit_features(scores, coverage, [1.0] * 500).reshape(-1, 4), (coverage < 0.5).ravel())
    assert fitted.coverage == 0
    with pytest.raises(RequestError, match="0 of 4 hits are relevant: expected some and not all"):
        fit_map(np.ones((4, 4)), np.zeros(4, dtype=bool))


def test_padding_has_no_probability() -> None:
    probabilities = MAP.of([[0.9, -np.inf]], [[0.5, 0.0]], [0.5])
    assert probabilities[0, 0] > 0.5 and probabilities[0, 1] == 0


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        {"bias": 1},
        {**MAP.to_json(), "score": -1},
        {**MAP.to_json(), "lead": float("nan")},
        {**MAP.to_json(), "more": 1},
        {**MAP.to_json(), "score": "x"},
    ],
)
def test_what_is_no_map_is_refused(broken: object) -> None:
    with pytest.raises(DamagedArtifact, match="the map from scores to probabilities"):
        ProbabilityMap.from_json(broken)
    assert ProbabilityMap.from_json(MAP.to_json()) == MAP
