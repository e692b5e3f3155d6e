"""Which scales of imported scores are warned of, and which are not."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from sdretrieval.teachers.score_file import scale_warnings

QUERIES_P = np.repeat(np.arange(10), 20)
LOGITS_P = np.random.default_rng(2).normal(0, 6, 200)


def said(scores: NDArray[np.floating]) -> str:
    return " ".join(scale_warnings(scores.astype(np.float32), QUERIES_P))


def test_logits_cosines_and_bm25_scores_are_fine() -> None:
    for scores in (LOGITS_P, np.tanh(LOGITS_P / 10), np.abs(LOGITS_P), 0.5 + LOGITS_P / 100):
        assert said(scores) == ""


def test_a_sigmoids_output_is_told_from_its_ends() -> None:
    text = said(1 / (1 + np.exp(-LOGITS_P)))
    assert "they look like a sigmoid's probabilities" in text and "activation_fn=torch.nn.Identity()" in text
    many_at_one = np.where(np.arange(200) % 10 == 0, 0.9995, 0.6 + LOGITS_P / 100)
    assert "10% of them above 0.99" in said(many_at_one)


@pytest.mark.parametrize("value", [0.0, 1.0, -3.5])
def test_one_score_for_all(value: float) -> None:
    assert f"all 200 scores are {value:g}: there is no order to learn" in said(np.full(200, value))


def test_grades_and_ranks() -> None:
    assert "all scores are whole numbers (4 different ones, 0 to 3)" in said(np.arange(200) % 4)
    assert "they look like ranks, where 1 is best" in said(np.tile(np.arange(1, 21), 10))
    assert "whole numbers (2 different ones, 0 to 1)" in said(np.arange(200) % 2)


def test_a_handful_says_nothing_of_a_scale() -> None:
    assert scale_warnings(np.ones(5, np.float32), np.zeros(5, np.int64)) == []
