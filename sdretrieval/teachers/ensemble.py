"""Several teachers as one: every member scores every candidate, calibrated, then mixed.

Legend: Q lists, T candidates of all lists, B queries of a batch, M documents of a batch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sdretrieval.ragged import Array, Ragged
from sdretrieval.targets.calibrate import (
    Calibration,
    Statistics,
    apply,
    calibrate,
    check_finite,
    log_odds_statistics,
    mix,
    mix_matrices,
    spread_statistics,
    statistics_for,
    top_statistics,
    unit_statistics,
)
from sdretrieval.teachers.protocols import FreeTeacher, HasUnit, PartialTeacher, Teacher

CALIBRATION_DEPTH = 100
"""A free teacher is calibrated on its own best documents, this many a query."""
BY_OWN_TOP: dict[str, Callable[[Array], Statistics]] = {
    "absolute": spread_statistics,
    "zscore": top_statistics,
    "log_odds": lambda top_Qk: log_odds_statistics(top_Qk, len(top_Qk)),
}


class MemberScores(NamedTuple):
    """One member's raw scores of all candidates, and the numbers that make them comparable."""

    name: str
    asymmetry: str
    free: bool
    raw: Ragged
    statistics: Statistics
    unknown: Ragged | None = None
    """bool: candidates that leave the soft target, since this member has no score of them."""


@dataclass(frozen=True)
class TeacherScores:
    """The members' scores of the candidates; weights come later, so that another mixture costs nothing."""

    members: tuple[MemberScores, ...]

    def calibrated(self) -> list[Ragged]:
        """Each member's calibrated scores."""
        return [calibrate(member.raw, member.statistics, member.name) for member in self.members]

    def mixed(self, weights: Sequence[float]) -> Ragged:
        """The ensemble's score of every candidate: weights x calibrated, weights normalised to 1."""
        return mix(self.calibrated(), weights)

    def unknown(self, weights: Sequence[float]) -> Ragged | None:
        """bool: candidates that a member of weight above 0 has no score of; None if there is none."""
        pairs = zip(self.members, weights, strict=True)
        masks = [m.unknown for m, weight in pairs if weight > 0 and m.unknown is not None]
        if not masks:
            return None
        return masks[0].with_values(np.logical_or.reduce([mask.values_T for mask in masks]))

    def save(self, folder: Path) -> None:
        """Write `scores.safetensors` and `scores.json`."""
        from safetensors.numpy import save_file

        tensors: dict[str, Array] = {"offsets": self.members[0].raw.offsets}
        for number, member in enumerate(self.members):
            tensors[f"raw_{number}"] = np.ascontiguousarray(member.raw.values_T)
            tensors[f"centre_{number}"] = member.statistics.centre_Q
            tensors[f"scale_{number}"] = member.statistics.scale_Q
            if member.unknown is not None:
                tensors[f"unknown_{number}"] = member.unknown.values_T
        save_file(tensors, folder / "scores.safetensors")
        cards = [
            {
                "name": m.name, "asymmetry": m.asymmetry, "free": m.free, "form": m.statistics.form,
                "height": m.statistics.height,
            }
            for m in self.members
        ]  # fmt: skip
        (folder / "scores.json").write_text(json.dumps(cards, indent=2) + "\n", encoding="utf8")

    @staticmethod
    def load(folder: Path) -> TeacherScores:
        """Read what `save` wrote."""
        from safetensors.numpy import load_file

        tensors = load_file(folder / "scores.safetensors")
        cards = json.loads((folder / "scores.json").read_text(encoding="utf8"))
        members = []
        for number, card in enumerate(cards):
            statistics = Statistics(
                tensors[f"centre_{number}"], tensors[f"scale_{number}"], card["form"], card["height"]
            )
            raw = Ragged(tensors[f"raw_{number}"], tensors["offsets"])
            unknown = tensors.get(f"unknown_{number}")
            mask = None if unknown is None else raw.with_values(unknown)
            members.append(MemberScores(card["name"], card["asymmetry"], card["free"], raw, statistics, mask))
        return TeacherScores(tuple(members))


def score_candidates(
    teachers: Sequence[Teacher], query_rows_Q: Array, candidates: Ragged, calibration: Calibration
) -> TeacherScores:
    """Every teacher's raw scores of every candidate (document rows); NumericError names a member that is not finite.

    A free teacher is calibrated on its own best `CALIBRATION_DEPTH` documents (`minmax` and `none` apart), or, on the
    absolute scale, by its unit if it has one; another on the lists.
    """
    members = []
    for teacher in teachers:
        raw = teacher.score(query_rows_Q, candidates)
        check_finite(raw, teacher.name)
        free = isinstance(teacher, FreeTeacher)
        unknown = teacher.unknown(query_rows_Q, candidates) if isinstance(teacher, PartialTeacher) else None
        if calibration == "absolute" and isinstance(teacher, HasUnit):
            statistics = unit_statistics(teacher.unit(query_rows_Q))
        elif isinstance(teacher, FreeTeacher) and calibration in BY_OWN_TOP:
            hits = teacher.top(query_rows_Q, CALIBRATION_DEPTH)
            statistics = BY_OWN_TOP[calibration](np.where(hits.rows_Qk >= 0, hits.scores_Qk, np.nan))
        else:
            # Scores that only stand in for missing pairs must not decide what is usual.
            known = raw if unknown is None else raw.only(~unknown.values_T)
            statistics = statistics_for(calibration, known, teacher.name)
        members.append(MemberScores(teacher.name, teacher.asymmetry, free, raw, statistics, unknown))
    return TeacherScores(tuple(members))


@dataclass(frozen=True)
class BatchTeacher:
    """Free teachers that score all documents of a batch: the calibrated mixture as a matrix.

    `positions` are list positions of the candidates on which `scores` were taken.
    """

    teachers: Sequence[FreeTeacher]
    scores: TeacherScores
    weights: Sequence[float]
    query_rows_Q: Array

    def matrix(self, positions_B: Array, document_rows_M: Array) -> Array:
        """Calibrated, mixed scores, float32 (B, M)."""
        rows_B = self.query_rows_Q[positions_B]
        matrices = [
            apply(teacher.matrix(rows_B, document_rows_M), member.statistics, positions_B, member.name)
            for teacher, member in zip(self.teachers, self.scores.members, strict=True)
        ]
        return mix_matrices(matrices, self.weights)
