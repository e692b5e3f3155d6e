"""Stage N/gate: whether a candidate is accepted, as dev decides."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Literal

from sdretrieval.config import identity_fields
from sdretrieval.evaluation.gate import GateDecision, decide
from sdretrieval.stages.evaluate import read_measured
from sdretrieval.stages.run import Run, Weights
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact

ACCEPTED = {
    "accepted": True, "proven": False, "difference": 0.0, "interval90": [0.0, 0.0], "p": 1.0, "n": 0,
    "detectable": None, "reason": "not measured yet",
}  # fmt: skip
"""What is assumed of a gate that has not decided yet."""


@dataclass(frozen=True)
class Generation:
    """What came of a generation."""

    number: int
    decision: Literal["accepted", "merged", "rejected"]
    gate: dict[str, Any]
    weights: Weights
    mined: Artifact
    scores: Artifact
    targets: Artifact


def gate(run: Run, address: str, before: Artifact, after: Artifact, *, of: int = 1) -> dict[str, Any]:
    """The decision on the candidate measured in `after`, against the student measured in `before`.

    `of`: how many candidates dev has chosen among.
    """
    cfg = run.config.gate

    def build(work: Work) -> None:
        base, candidate = read_measured(before).of(cfg.measure), read_measured(after).of(cfg.measure)
        decision = decide(base, candidate, cfg.tolerance, run.config.seed, of=of)
        (work.folder / "gate.json").write_text(json.dumps(decision_record(decision)) + "\n", encoding="utf8")
        work.counts.update(accepted=decision.accepted, difference=decision.difference)

    identity = {**identity_fields(cfg), "of": of, "seed": run.config.seed}
    made = run.runner.stage(address, 2, identity, [before, after], build)
    return run.runner.result(made, "gate.json", ACCEPTED)


def decision_record(decision: GateDecision) -> dict[str, Any]:
    """As JSON, which knows no infinity."""
    return {
        "accepted": decision.accepted,
        "proven": decision.proven,
        "difference": decision.difference,
        "interval90": list(decision.interval90),
        "p": decision.p,
        "n": decision.n,
        "detectable": decision.detectable if math.isfinite(decision.detectable) else None,
        "reason": decision.reason,
    }
