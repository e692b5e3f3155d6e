"""Paired tests, intervals, Holm's correction, seeds, and what gain could be seen."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.errors import NumericError, RequestError
from sdretrieval.evaluation import detectable_gain, holm, interval, over_seeds, paired_test, verdict

VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=30)
PAIRS = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=2, max_size=30)
P_VALUES = st.lists(st.floats(0, 1), max_size=10)
FEW = 500


def by_query(values: list[float]) -> dict[str, float]:
    return {f"q{number}": float(value) for number, value in enumerate(values)}


def noisy_pair(gain: float, n: int = 200, noise: float = 0.1) -> tuple[dict[str, float], dict[str, float]]:
    random = np.random.default_rng(3)
    base = random.random(n)
    return by_query((base + gain + noise * random.standard_normal(n)).tolist()), by_query(base.tolist())


@given(values=VALUES)
@settings(max_examples=30, deadline=None)
def test_a_system_against_itself(values: list[float]) -> None:
    test = paired_test(by_query(values), by_query(values), samples=FEW)
    assert (test.difference, test.interval95, test.p, test.n) == (0.0, (0.0, 0.0), 1.0, len(values))
    assert verdict(test) == "no gain within noise"


@given(pairs=PAIRS, seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_turned_round_the_sign_turns_and_p_stays(pairs: list[tuple[float, float]], seed: int) -> None:
    a, b = by_query([x for x, _ in pairs]), by_query([y for _, y in pairs])
    there, back = paired_test(a, b, seed, FEW), paired_test(b, a, seed, FEW)
    assert there.difference == -back.difference
    assert there.p == back.p
    assert there.interval95 == pytest.approx((-back.interval95[1], -back.interval95[0]), abs=1e-9)


@given(values=VALUES, seed=st.integers(0, 100))
@settings(max_examples=30, deadline=None)
def test_the_interval_lies_around_the_mean(values: list[float], seed: int) -> None:
    low, high = interval(values, 0.95, seed, 2000)
    assert low - 1e-12 <= np.mean(values) <= high + 1e-12
    assert min(values) - 1e-12 <= low
    assert high <= max(values) + 1e-12


def test_the_interval_has_the_width_of_the_standard_error() -> None:
    values = np.random.default_rng(0).normal(size=400)
    low, high = interval(values, 0.95)
    assert high - low == pytest.approx(2 * 1.96 * values.std() / math.sqrt(400), rel=0.05)
    assert interval(values, 0.5)[1] < high


def test_p_equals_the_exact_p_of_all_sign_flips() -> None:
    differences = [0.3, 0.1, -0.05, 0.2, 0.0, 0.15, -0.1, 0.05]
    flips = np.array(np.meshgrid(*[[-1, 1]] * 8)).reshape(8, -1).T
    exact = np.mean(np.abs(flips @ differences) >= abs(sum(differences)) - 1e-12)
    test = paired_test(by_query(differences), by_query([0.0] * 8), samples=20_000)
    assert test.p == pytest.approx(exact, abs=0.01)


def test_a_difference_of_noise_is_rarely_significant() -> None:
    random = np.random.default_rng(5)
    zeros = by_query([0.0] * 40)
    p_values = [paired_test(by_query(random.normal(size=40).tolist()), zeros, samples=FEW).p for _ in range(300)]
    assert np.mean(np.array(p_values) < 0.05) < 0.1


def test_a_clear_gain_a_clear_loss_and_noise_are_called_so() -> None:
    better, base = noisy_pair(0.05)
    assert verdict(paired_test(better, base)) == "gain"
    assert verdict(paired_test(base, better)) == "loss"
    assert verdict(paired_test(better, base), p_adjusted=0.2) == "no gain within noise"
    assert verdict(paired_test(*noisy_pair(0.001))) == "no gain within noise"
    assert paired_test(better, base).p == 1 / 10_001


def test_the_seed_and_nothing_else_decides() -> None:
    a, b = noisy_pair(0.01, noise=0.2)
    turned = dict(reversed(a.items()))
    assert paired_test(a, b, seed=4) == paired_test(turned, b, seed=4)
    assert paired_test(a, b, seed=4) != paired_test(a, b, seed=5)


def test_systems_on_different_queries_are_refused() -> None:
    with pytest.raises(RequestError, match=r"1 \('q9'\) only in the first, 2 \('q1', 'q2'\) only in the second"):
        paired_test({"q0": 1.0, "q9": 1.0}, {"q0": 1.0, "q1": 1.0, "q2": 0.0})
    with pytest.raises(RequestError, match="no queries to compare"):
        paired_test({}, {})
    with pytest.raises(NumericError, match="query number 2 has a value that is not finite"):
        paired_test({"q0": 1.0, "q1": math.nan}, {"q0": 1.0, "q1": 0.0})


@given(p_values=P_VALUES)
def test_holm_never_lowers_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert len(adjusted) == len(p_values)
    assert all(raw <= corrected <= 1 for raw, corrected in zip(p_values, adjusted, strict=True))
    in_order = [adjusted[position] for position in np.argsort(p_values, kind="stable")]
    assert in_order == sorted(in_order)


def test_holm_on_a_worked_example() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    with pytest.raises(RequestError, match=r"0\.\.1, found 1\.5"):
        holm([0.5, 1.5])


def test_seeds_are_averaged_by_query() -> None:
    average = over_seeds([{"a": 0.0, "b": 1.0}, {"b": 0.5, "a": 0.5}, {"a": 1.0, "b": 0.9}])
    assert average.per_query == pytest.approx({"a": 0.5, "b": 0.8})
    assert average.spread == pytest.approx(np.std([0.5, 0.5, 0.95], ddof=1))
    assert over_seeds([{"a": 0.3}]) == ({"a": 0.3}, 0.0)
    with pytest.raises(RequestError, match="different queries"):
        over_seeds([{"a": 0.0}, {"b": 0.0}])
    with pytest.raises(RequestError, match="no seeds"):
        over_seeds([])


def test_the_detectable_gain_is_found_about_four_times_in_five() -> None:
    random = np.random.default_rng(11)
    n, noise = 100, 0.2
    gain = detectable_gain(noise * random.standard_normal(5000)) * math.sqrt(5000 / n)
    zeros = by_query([0.0] * n)
    samples = [by_query((gain + noise * random.standard_normal(n)).tolist()) for _ in range(200)]
    found = np.mean([verdict(paired_test(sample, zeros, samples=FEW)) == "gain" for sample in samples])
    assert found == pytest.approx(0.8, abs=0.1)


def test_one_query_can_show_nothing() -> None:
    assert detectable_gain([0.3]) == math.inf
