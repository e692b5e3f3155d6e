"""Live targets: frozen and moving teacher mixed before tempering; what is excluded stays excluded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from sdretrieval.targets.calibrate import Form, Statistics
from sdretrieval.training.distillation import LiveTargets

SCORES_BM = torch.tensor([[0.9, 0.1, 0.5], [0.2, 0.4, 0.6], [0.3, 0.3, 0.1]])


class Fixed:
    """A live teacher whose scores are known; documents come in the parts' order."""

    def update(self, student: torch.nn.Module, step: int) -> None:
        """Never asked."""

    def matrix(self, queries: list[dict[str, Any]], documents: list[dict[str, Any]] | torch.Tensor) -> torch.Tensor:
        return SCORES_BM[:, [2, 0, 1]]


def targets(
    weight: float, frozen: torch.Tensor, form: Form = "affine", half: torch.Tensor | None = None
) -> torch.Tensor:
    """Log-probabilities at temperature 0.5 of scores with centres 0.1, 0.2, 0.3 and scales 1, 2, 4 (batch: 2, 0, 1)."""
    statistics = Statistics(np.asarray([0.1, 0.2, 0.3]), np.asarray([1.0, 2.0, 4.0]), form)
    labels = {
        "target_log_probs_BM": frozen,
        "order_M": torch.tensor([1, 2, 0]),
        "positions_B": torch.tensor([2, 0, 1]),
    }
    if half is not None:
        labels["half_BM"] = half
    return LiveTargets(Fixed(), weight, statistics, temperature=0.5).targets([], [], labels)


FROZEN_BM = torch.log_softmax(torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 1.0], [2.0, 0.0, -1.0]]), dim=-1)


def test_weight_0_is_the_frozen_teacher_weight_1_the_live_one() -> None:
    torch.testing.assert_close(targets(0.0, FROZEN_BM), FROZEN_BM)
    calibrated = (SCORES_BM - torch.tensor([[0.3], [0.1], [0.2]])) / torch.tensor([[4.0], [1.0], [2.0]])
    torch.testing.assert_close(targets(1.0, FROZEN_BM), torch.log_softmax(calibrated / 0.5, dim=-1))


def test_frozen_and_live_are_mixed_before_the_softmax() -> None:
    calibrated = (SCORES_BM - torch.tensor([[0.3], [0.1], [0.2]])) / torch.tensor([[4.0], [1.0], [2.0]])
    expected = torch.log_softmax(0.75 * FROZEN_BM + 0.25 * calibrated / 0.5, dim=-1)
    torch.testing.assert_close(targets(0.25, FROZEN_BM), expected)


def test_a_live_average_has_the_lexical_half_of_its_student() -> None:
    half_BM = torch.tensor([[0.0, 1.0, 0.0], [0.5, 0.0, 0.0], [0.0, 0.0, 2.0]])
    calibrated = (SCORES_BM + half_BM - torch.tensor([[0.3], [0.1], [0.2]])) / torch.tensor([[4.0], [1.0], [2.0]])
    expected = torch.log_softmax(calibrated / 0.5, dim=-1)
    torch.testing.assert_close(targets(1.0, FROZEN_BM, half=half_BM), expected)


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_excluded_documents_stay_excluded_also_a_whole_row(weight: float) -> None:
    frozen = FROZEN_BM.clone()
    frozen[0, 1], frozen[2] = -torch.inf, -torch.inf
    found = targets(weight, frozen)
    assert torch.equal(torch.isneginf(found), torch.isneginf(frozen))
    torch.testing.assert_close(found[:2].exp().sum(dim=-1), torch.ones(2))
    assert not bool(torch.isnan(found).any())


def test_a_clipped_calibration_clips_the_live_scores_too() -> None:
    calibrated = (SCORES_BM - torch.tensor([[0.3], [0.1], [0.2]])) / torch.tensor([[4.0], [1.0], [2.0]])
    expected = torch.log_softmax(calibrated.clamp(0, 1) / 0.5, dim=-1)
    torch.testing.assert_close(targets(1.0, FROZEN_BM, form="clipped"), expected)
