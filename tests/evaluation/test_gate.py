"""The gate's decisions and the sentence that explains them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.errors import RequestError
from sdretrieval.evaluation.gate import decide
from sdretrieval.stages.gate import decision_record

N = 160
BASE = {f"q{number}": float(value) for number, value in enumerate(np.random.default_rng(0).random(N))}


def moved(gain: float, noise: float = 0.0, seed: int = 1) -> dict[str, float]:
    """The base plus a gain; the noise averages to exactly zero, so that the difference is the gain."""
    random = np.random.default_rng(seed).standard_normal(N)
    steps = gain + noise * (random - random.mean())
    return {query: value + float(step) for (query, value), step in zip(BASE.items(), steps, strict=True)}


def test_a_large_gain_is_accepted_and_proven() -> None:
    decision = decide(BASE, moved(0.05, 0.1), tolerance=0.01, seed=13)
    assert (decision.accepted, decision.proven, decision.n) == (True, True, N)
    assert decision.difference == pytest.approx(0.05)
    assert decision.interval90[0] < 0.05 < decision.interval90[1]
    assert decision.detectable == pytest.approx(2.80 * 0.1 / np.sqrt(N), rel=0.15)
    assert decision.reason.startswith("accepted, a proven gain: +0.0500 on 160 dev queries (90% interval +0.0")
    assert f"a gain of about {decision.detectable:.4f} or more would probably have been seen" in decision.reason


def test_a_small_gain_is_accepted_but_not_proven() -> None:
    decision = decide(BASE, moved(0.005, 0.08), tolerance=0.01, seed=13)
    assert (decision.accepted, decision.proven) == (True, False)
    assert "not proven: a gain, and a loss above the tolerance of 0.01 is excluded" in decision.reason


def test_a_gain_that_may_be_a_loss_is_rejected() -> None:
    decision = decide(BASE, moved(0.005, 0.3), tolerance=0.01, seed=13)
    assert not decision.accepted
    assert "above the tolerance of 0.01, is not excluded" in decision.reason
    assert decide(BASE, moved(0.005, 0.3), tolerance=0.1, seed=13).accepted


def test_a_loss_and_no_change_are_rejected() -> None:
    loss = decide(BASE, moved(-0.02, 0.05), tolerance=0.1, seed=13)
    assert (loss.accepted, loss.proven) == (False, False)
    assert loss.reason.startswith("rejected: a loss: -0.0200")
    same = decide(BASE, BASE, tolerance=0.01, seed=13)
    assert not same.accepted
    assert same.reason.startswith("rejected: no gain at all")


def test_the_best_of_several_needs_a_smaller_p_for_a_proof() -> None:
    candidate = moved(0.03, 0.1765)
    alone, chosen = (decide(BASE, candidate, tolerance=0.01, seed=13, of=of) for of in (1, 3))
    assert 0.05 / 3 < alone.p < 0.05, "else this test shows nothing"
    assert (alone.accepted, alone.proven) == (True, True)
    assert (chosen.accepted, chosen.proven) == (True, False)
    assert "chosen of 3" in chosen.reason and "chosen" not in alone.reason


def test_one_query_proves_nothing() -> None:
    decision = decide({"q": 0.1}, {"q": 0.9}, tolerance=0.01, seed=13)
    assert not decision.proven
    assert "a single query cannot tell a gain from noise" in decision.reason


@given(gain=st.floats(-0.1, 0.1), noise=st.floats(0, 0.3), tolerance=st.floats(0, 0.1))
@settings(max_examples=15, deadline=None)
def test_what_is_accepted_has_gained_and_what_is_proven_is_accepted(
    gain: float, noise: float, tolerance: float
) -> None:
    decision = decide(BASE, moved(gain, noise), tolerance, seed=0)
    assert decision.accepted == (decision.difference > 0 and decision.interval90[0] >= -tolerance)
    assert decision.accepted or not decision.proven
    assert decision == decide(BASE, moved(gain, noise), tolerance, seed=0)


def test_other_queries_are_refused() -> None:
    with pytest.raises(RequestError, match="different queries"):
        decide(BASE, {"other": 1.0}, tolerance=0.01, seed=13)


def test_what_is_written_of_a_decision_is_json_even_of_one_query() -> None:
    record = decision_record(decide({"q": 0.1}, {"q": 0.9}, tolerance=0.01, seed=13))
    assert record["detectable"] is None
    json.dumps(record, allow_nan=False)
