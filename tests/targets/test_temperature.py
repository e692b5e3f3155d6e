"""The maths of soft targets, as properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from score_strategies import gaussian, score_lists

from sdretrieval.errors import NumericError, RequestError, WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.temperature import clip_spread, fit_temperature, log_softmax, perplexity, tempered_log_softmax


@given(score_lists(), st.floats(0.5, 50))
def test_targets_sum_to_1(lists: Ragged, temperature: float) -> None:
    for log_probs in tempered_log_softmax(lists, temperature):
        assert log_probs.dtype == np.float32
        if len(log_probs):
            assert np.exp(log_probs.astype(np.float64)).sum() == pytest.approx(1.0, abs=1e-5)


@given(score_lists(-5, 5), st.integers(-100, 100), st.floats(0.2, 10))
def test_adding_a_constant_changes_nothing(lists: Ragged, constant: int, temperature: float) -> None:
    coarse = lists.with_values((np.round(lists.values_T * 64) / 64).astype(np.float32))
    moved = coarse.with_values(coarse.values_T + np.float32(constant))
    expected = tempered_log_softmax(coarse, temperature).values_T
    np.testing.assert_allclose(tempered_log_softmax(moved, temperature).values_T, expected, atol=1e-5)


@given(st.lists(st.integers(-10, 10), min_size=2, max_size=8, unique=True))
def test_a_temperature_near_0_is_argmax(scores: list[int]) -> None:
    spread = max(scores) - min(scores)
    probs = np.exp(tempered_log_softmax(Ragged.of([scores], np.float32), spread / 99)[0])
    assert probs.argmax() == int(np.argmax(scores))
    assert probs.max() > 0.99


@given(score_lists(min_size=1))
def test_a_large_temperature_is_uniform(lists: Ragged) -> None:
    for log_probs in tempered_log_softmax(lists, 1e6):
        np.testing.assert_allclose(log_probs, -np.log(len(log_probs)), atol=1e-3)


@given(score_lists(min_size=1), st.floats(0.5, 5), st.floats(1.0, 5))
def test_perplexity_lies_between_1_and_the_length_and_rises_with_temperature(
    lists: Ragged, temperature: float, factor: float
) -> None:
    cool = perplexity(tempered_log_softmax(lists, temperature))
    warm = perplexity(tempered_log_softmax(lists, temperature * factor))
    assert np.all((cool > 1 - 1e-6) & (cool < lists.lengths + 1e-4))
    assert np.all(warm >= cool - 1e-4)


@given(st.integers(0, 1000), st.integers(1, 30), st.floats(1.5, 14), st.floats(1e-3, 1e3))
@settings(deadline=None, max_examples=60)
def test_the_fitted_temperature_meets_its_target(seed: int, queries: int, target: float, scale: float) -> None:
    lists = gaussian(queries, 16, seed)
    scaled = lists.with_values(lists.values_T * np.float32(scale))
    # Two candidates in a dead heat share a list down to temperatures that a float32 softmax does not allow.
    coldest = max(float(np.ptp(entries)) for entries in scaled) / 99.9
    assume(np.median(perplexity(tempered_log_softmax(scaled, coldest))) <= target)
    temperature = fit_temperature(scaled, target)
    assert np.median(perplexity(tempered_log_softmax(scaled, temperature))) == pytest.approx(target, rel=1e-3)


@given(score_lists(min_size=2), st.floats(1.01, 8))
@settings(deadline=None)
def test_a_fit_meets_its_target_or_says_what_can_be_had(lists: Ragged, target: float) -> None:
    try:
        temperature = fit_temperature(lists, target)
    except WorkError:
        with pytest.raises(WorkError, match="cannot be reached: the median over .* runs from"):
            fit_temperature(lists, target)
        return
    assume(max(float(np.ptp(entries)) for entries in lists) / temperature <= 100)
    assert np.median(perplexity(tempered_log_softmax(lists, temperature))) == pytest.approx(target, rel=1e-3)


def test_lists_without_a_choice_do_not_disturb_the_fit() -> None:
    lists = gaussian(20, 16)
    padded = Ragged.of([*lists, [1.0], [], *([[2.0]] * 50), [1.0, -np.inf]], np.float32)
    assert fit_temperature(padded, 3.0) == pytest.approx(fit_temperature(lists, 3.0))


def test_uniform_is_a_reachable_target() -> None:
    lists = gaussian(5, 8)
    assert np.median(perplexity(tempered_log_softmax(lists, fit_temperature(lists, 8.0)))) == pytest.approx(8, rel=1e-3)


@pytest.mark.parametrize("target", [0.5, 20.0, float("nan")])
def test_a_target_out_of_reach_names_the_range(target: float) -> None:
    with pytest.raises(WorkError, match=r"runs from 1\.000 \(temperature near 0\) to 16\.000"):
        fit_temperature(gaussian(5, 16), target)


def test_ties_bound_the_range_from_below() -> None:
    tied = Ragged.of([[1.0, 1.0, 1.0, 0.0]] * 3, np.float32)
    with pytest.raises(WorkError, match=r"runs from 3\.000 .* to 4\.000"):
        fit_temperature(tied, 2.0)
    with pytest.raises(WorkError, match=r"runs from 4\.000 .* to 4\.000"):
        fit_temperature(Ragged.of([[1.0] * 4], np.float32), 2.0)


def test_nothing_to_fit_says_so() -> None:
    with pytest.raises(WorkError, match="needs a list of two or more candidates"):
        fit_temperature(Ragged.of([[1.0], []], np.float32), 3.0)


def test_excluded_candidates_leave_the_sum() -> None:
    log_probs = tempered_log_softmax(Ragged.of([[1.0, -np.inf, 1.0], [-np.inf]], np.float32), 1.0)
    np.testing.assert_allclose(log_probs[0], [np.log(0.5), -np.inf, np.log(0.5)], rtol=1e-6)
    assert log_probs[1].tolist() == [-np.inf]
    np.testing.assert_allclose(perplexity(log_probs), [2.0, 1.0], rtol=1e-6)


def test_too_cold_names_the_temperature_to_use() -> None:
    lists = Ragged.of([[0.0, 1.0], [-4.0, 8.03]], np.float32)
    with pytest.raises(NumericError, match=r"query position 1: .*spread 12\.03 / temperature 0\.05 = 240\.6.* 0\.121 "):
        tempered_log_softmax(lists, 0.05)
    tempered_log_softmax(lists, 0.121)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_must_be_positive(temperature: float) -> None:
    with pytest.raises(RequestError, match="expected a number above 0, or auto"):
        tempered_log_softmax(gaussian(1, 2), temperature)


def test_nan_is_named() -> None:
    with pytest.raises(NumericError, match="query position 1, candidate position 0 is nan"):
        tempered_log_softmax(Ragged.of([[1.0], [np.nan, 0.0]], np.float32), 1.0)


def test_one_query_whose_best_are_all_but_alike_is_clipped_and_stops_nothing() -> None:
    lists = Ragged.of([[1.0, 0.5, -0.2], [0.3, 0.1, -104.6, -np.inf]], np.float32)
    with pytest.raises(NumericError, match="above 100"):
        tempered_log_softmax(lists, 0.5)
    clipped, changed = clip_spread(lists, 0.5)
    assert changed == 1
    assert clipped[0].tolist() == lists[0].tolist()
    log_probs = tempered_log_softmax(clipped, 0.5)
    np.testing.assert_allclose(np.exp(log_probs[1].astype(np.float64)), np.exp(log_softmax(lists, 0.5)[1]), atol=1e-12)
    assert np.isneginf(log_probs[1][3])


@given(scores=st.lists(st.floats(-40, 40, width=32), min_size=1, max_size=12))
def test_lists_that_fit_are_left_as_they_are(scores: list[float]) -> None:
    lists = Ragged.of([scores], np.float32)
    clipped, changed = clip_spread(lists, 1.0)
    assert (changed, clipped) == (0, lists)
