"""Calibration error and latency."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sdretrieval.errors import NumericError, RequestError
from sdretrieval.evaluation import brier_score, expected_calibration_error, latency, reliability


def test_honest_probabilities_have_no_error() -> None:
    random = np.random.default_rng(0)
    probabilities = random.random(50_000)
    honest = (random.random(50_000) < probabilities).astype(int)
    assert expected_calibration_error(probabilities, honest) < 0.01
    assert expected_calibration_error(probabilities**3, honest) > 0.1


def test_worked_examples() -> None:
    assert expected_calibration_error([0.95, 0.95, 0.05, 0.05], [1, 0, 0, 0]) == pytest.approx((0.45 + 0.05) / 2)
    assert expected_calibration_error([1.0, 0.0], [0, 1]) == 1.0
    assert brier_score([1.0, 0.5, 0.0], [1, 1, 1]) == pytest.approx(1.25 / 3)
    assert reliability([0.8, 0.85, 0.1], [1, 0, 0]) == [(0.1, 0.0, 1), (pytest.approx(0.825), 0.5, 2)]


def test_what_is_no_probability_or_label_is_refused() -> None:
    with pytest.raises(NumericError, match=r"between 0\.2 and 1\.5, expected 0\.\.1"):
        expected_calibration_error([0.2, 1.5], [0, 1])
    with pytest.raises(NumericError, match=r"between 0\.2 and 1\.5, expected 0\.\.1"):
        brier_score([0.2, 1.5], [0, 1])
    with pytest.raises(RequestError, match="labels must be 0 or 1"):
        expected_calibration_error([0.2, 0.5], [0, 2])
    with pytest.raises(RequestError, match="2 probabilities and 1 labels"):
        expected_calibration_error([0.2, 0.5], [0])


def test_every_call_but_the_first_is_timed() -> None:
    seen: list[float] = []

    def wait(seconds: float) -> None:
        seen.append(seconds)
        time.sleep(seconds)

    timed = latency(wait, [0.001, 0.002, 0.02], repeats=2)
    assert timed.n == 6
    assert len(seen) == 7
    assert 1 <= timed.p50_ms <= timed.p95_ms
    assert timed.p95_ms >= 15
    with pytest.raises(RequestError, match="0 inputs"):
        latency(wait, [])
