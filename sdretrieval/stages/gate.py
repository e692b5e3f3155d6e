"""Stage N/gate: whether a candidate is accepted, as dev decides."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Literal

from sdretrieval.config import identity_fields
from sdretrieval.evaluation.gate import ENOUGH, Following, decide, looks_of
from sdretrieval.files import read_json, write_json
from sdretrieval.formatting import quantity
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.evaluate import read_measured
from sdretrieval.stages.follow import FOLLOWED
from sdretrieval.stages.probe import mixtures_of
from sdretrieval.stages.run import Run, Weights
from sdretrieval.stages.targets import MixtureWeights
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact

logger = logging.getLogger("sdretrieval")

ACCEPTED = {
    "decided": True, "accepted": True, "proven": False, "difference": 0.0, "interval": [0.0, 0.0], "level": 0.9,
    "p": 1.0, "n": 0, "detectable": None, "reason": "not measured yet",
}  # fmt: skip
"""What is assumed of a gate that has not decided yet."""


Decision = Literal["accepted", "merged", "rejected", "undecided"]
KEPT_OLD: tuple[Decision, ...] = ("rejected", "undecided")
"""Decisions after which the student is what it was."""


@dataclass(frozen=True)
class Generation:
    """What came of a generation. `scores` and `targets`: the teacher's, None if labels alone were learned."""

    number: int
    decision: Decision
    gate: dict[str, Any]
    weights: Weights
    mined: Artifact
    scores: Artifact | None
    targets: Artifact | None


def gate(
    run: Run, collection: Collection, address: str, before: Artifact, after: Artifact,
    weights: MixtureWeights | None, *, mixture: bool = False, followed: Artifact | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The decision on the candidate measured in `after`, against the student measured in `before`.

    `mixture`: of old and new weights, three of which may be tried. If dev queries chose the teachers' `weights`, a
    proof pays for that choice too; None: nobody taught the candidate. `followed`: see `stages.follow`.
    """
    cfg = run.config.gate
    looks = looks_of(run.config.generations + (run.config.pretrain is not None), mixture=mixture)
    chosen_of = len(mixtures_of(run.config)) if weights is not None and weights.chosen_by else 1

    def build(work: Work) -> None:
        base, candidate = read_measured(before).of(cfg.measure), read_measured(after).of(cfg.measure)
        decision = decide(
            base, candidate, cfg.tolerance, run.config.seed, looks=looks, chosen_of=chosen_of,
            kinds=collection.kinds("dev"), following=read_following(followed) if followed else None,
        )  # fmt: skip
        write_json(work.folder / "gate.json", decision.record())
        work.counts.update(accepted=decision.accepted, difference=decision.difference)

    identity = {
        **identity_fields(cfg, without={"guard"}),
        "looks": looks,
        "chosen_of": chosen_of,
        "seed": run.config.seed,
    }
    inputs = [before, after, *([followed] if followed else [])]
    made = run.runner.stage(address, 5, identity, inputs, build)
    return run.runner.result(made, "gate.json", ACCEPTED)


def read_following(followed: Artifact) -> Following | None:
    """What a stage NAME/follow found; None if it had no queries, or nobody knows what the teacher gains."""
    record = read_json(followed.path / FOLLOWED)
    return Following(**record) if record else None


def say_if_undecidable(collection: Collection) -> None:
    """Warn, before any work, that dev is too small for the gate."""
    count = len(collection.rows_of("dev"))
    if count < ENOUGH:
        logger.warning(
            "dev has %s, and the gate needs %d to tell a gain from luck: it will decide nothing, and the run "
            "keeps the base student. Give more judged dev queries, raise corpus.dev_share (if dev is taken from "
            "train), or set corpus.labels=false, which makes dev queries from the documents",
            quantity(count, "queries"), ENOUGH,
        )  # fmt: skip
