"""Targets that move with the student: the live EMA's scores added to the frozen members' before tempering.

Legend: B queries of a batch, M documents of a batch, Q queries of the training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from sdretrieval.targets.calibrate import Statistics
from sdretrieval.training.losses import masked_log_softmax

if TYPE_CHECKING:
    from sdretrieval.teachers.protocols import LiveTeacher


@dataclass
class LiveTargets:
    """`weight` is the live member's share of the mixture (0 to 1); the rest is the frozen members', already mixed.

    `statistics` calibrate the live scores by the snapshot's own top documents; `temperature` was fitted on it.
    """

    teacher: LiveTeacher
    weight: float
    statistics: Statistics
    temperature: float

    def targets(
        self, queries: list[dict[str, Any]], parts: list[dict[str, Any]], labels: dict[str, torch.Tensor]
    ) -> torch.Tensor:
        """Log-probabilities (B, M): softmax over (1 - weight) x frozen + weight x live, both calibrated.

        The batch brings the frozen part as log-probabilities, which are its scores / temperature up to a constant.
        """
        frozen_BM = labels["target_log_probs_BM"]
        live_BM = self.teacher.matrix(queries, labels.get("documents_MD", parts))[:, labels["order_M"]]
        positions = labels["positions_B"].cpu().numpy()
        centre_B = torch.as_tensor(self.statistics.centre_Q[positions], dtype=torch.float32, device=live_BM.device)
        scale_B = torch.as_tensor(self.statistics.scale_Q[positions], dtype=torch.float32, device=live_BM.device)
        calibrated_BM = (live_BM - centre_B[:, None]) / scale_B[:, None]
        if self.statistics.clip:
            calibrated_BM = calibrated_BM.clamp(0.0, 1.0)
        excluded = torch.isneginf(frozen_BM)
        kept_BM = (1 - self.weight) * frozen_BM.masked_fill(excluded, 0.0)
        logits_BM = kept_BM + self.weight * calibrated_BM / self.temperature
        return masked_log_softmax(logits_BM, excluded).masked_fill(excluded, float("-inf"))
