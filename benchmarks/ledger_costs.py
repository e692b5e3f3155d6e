"""What a finished run's ledger says of its time: which stages led to the final student, and when dev got better."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Stage = Mapping[str, Any]

MEASURED = re.compile(r"(\d+(m[\d.]+)?|final)/evaluate:dev")
"""A student that a generation trained or merged, or the base, over dev; controls and mixtures have other names."""
GATES = re.compile(r"\d+/gate|\d+m[\d.]+/evaluate:dev")
"""What decided which student goes on."""
CONTROLS = re.compile(r"(hard_labels|shuffled_teacher)/|1/train:|1/targets:shuffled|1/mine:labelled")


class Costs(NamedTuple):
    """Seconds of a run's stages. `student`: what the final student and its measures on dev and the report's split
    need; `controls`: trainings that only compare; `report`: what else stands in the report."""

    student: float
    controls: float
    report: float


class Reached(NamedTuple):
    """A dev value, and the seconds after which it was known."""

    at: float
    dev: float


def costs_of(ledger: Sequence[Stage], split: str) -> Costs:
    """Each artifact once, as it was made."""
    made = {stage["key"]: stage for stage in ledger if not stage["cached"]}
    needed = ancestors(ledger, split)
    groups = {"student": 0.0, "controls": 0.0, "report": 0.0}
    for key, stage in made.items():
        rest = "controls" if CONTROLS.match(stage["stage"]) else "report"
        groups["student" if key in needed else rest] += float(stage["seconds"])
    return Costs(**groups)


def ancestors(ledger: Sequence[Stage], split: str) -> set[str]:
    """Keys of what the final student, its measures and the gates' decisions were made from, and their own."""
    inputs = {stage["key"]: [key.partition(":")[0] for key in stage["inputs"]] for stage in ledger}
    ends = ("final/evaluate:dev", f"final/evaluate:{split}")
    waiting = [stage["key"] for stage in ledger if stage["stage"] in ends or GATES.fullmatch(stage["stage"])]
    found: set[str] = set()
    while waiting:
        key = waiting.pop()
        if key not in found:
            found.add(key)
            waiting += inputs.get(key, [])
    return found


def dev_over_time(ledger: Sequence[Stage], stamps: Sequence[float], measure: str) -> list[Reached]:
    """The dev value of each student when it was first measured."""
    seen: set[str] = set()
    values = []
    for stage, at in zip(ledger, stamps, strict=True):
        if MEASURED.fullmatch(stage["stage"]) and stage["key"] not in seen:
            seen.add(stage["key"])
            values.append(Reached(at, float(stage["counts"][measure])))
    return values


def first_at(values: Sequence[Reached], wanted: float) -> float | None:
    """When `wanted` was first reached; None where it never was."""
    return next((value.at for value in values if value.dev >= wanted), None)
