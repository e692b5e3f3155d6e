"""Stage N/targets: calibrated, mixed, tempered scores: the distributions that teach; and the members' weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sdretrieval.config import (
    Config,
    EmaConfig,
    identity_fields,
    members_of,
)
from sdretrieval.config.conflicts import PAIRS_ALONE, has_vectors
from sdretrieval.corpus import Verdicts
from sdretrieval.files import read_json, write_json
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Ragged
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.run import Run
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact
from sdretrieval.targets.build import build_targets
from sdretrieval.targets.calibrate import normalised
from sdretrieval.targets.shuffle import shuffled_within_lists
from sdretrieval.teachers.ensemble import TeacherScores


@dataclass(frozen=True)
class MixtureWeights:
    """How much each member counts: the config's numbers, or, if it says auto, what the probe chose."""

    config: Config
    chosen_by: Artifact | None = None
    """The probe's artifact."""

    @property
    def inputs(self) -> list[Artifact]:
        """Of a stage that mixes the members."""
        return [self.chosen_by] if self.chosen_by else []

    @property
    def identity(self) -> list[float] | None:
        """The config's numbers, as a part of keys; None if they are chosen: then the choice is an input."""
        return None if self.chosen_by else self.values()

    def values(self) -> list[float]:
        """One weight a member, in the config's order."""
        if self.chosen_by is None:
            return [float(member.weight) for member in members_of(self.config.teacher)]
        return [float(weight) for weight in read_json(self.chosen_by.path / "probe.json")["weights"]]


def temper(
    run: Run, collection: Collection, address: str, mined: Artifact, scores: Artifact, weights: MixtureWeights, *,
    shuffled: bool = False,
) -> Artifact:  # fmt: skip
    """The distributions that teach; `shuffled` is the control."""
    config, members = run.config, members_of(run.config.teacher)
    seed = run.seed if shuffled else config.seed  # the lists, and what they teach, are the same for every seed
    identity: dict[str, Any] = {**identity_fields(config.targets), "shuffled": shuffled, "seed": seed}
    if config.targets.temperature == "student":
        identity["student_temperature"] = config.train.student_temperature
    live = [position for position, member in enumerate(members) if getattr(member, "mode", "") == "live"]
    if live and not shuffled:  # their scores join in training, so these targets leave them out
        identity["live"] = live
    if weights.identity is not None:
        identity["weights"] = weights.identity

    def build(work: Work) -> None:
        candidates = Candidates.load(mined.path)
        build_list_targets(
            work, candidates, TeacherScores.load(scores.path), weights.values(), config,
            shuffled=shuffled, seed=seed, confirmed=confirmed_negatives(collection.verdicts, candidates),
        )  # fmt: skip

    return run.runner.stage(address, 5, identity, [mined, scores, *weights.inputs], build)


def all_free(config: Config, weights: Sequence[float]) -> bool:
    """Whether every member that counts scores every pair, whichever lists were mined."""
    return all(
        not isinstance(member, PAIRS_ALONE) or weight == 0
        for member, weight in zip(members_of(config.teacher), weights, strict=True)
    )


def scores_whole_batch(config: Config, weights: Sequence[float]) -> bool:
    """Whether the target spans all documents of a batch."""
    return config.train.scope == "batch" or (config.train.scope == "auto" and all_free(config, weights))


def live_share(config: Config, weights: Sequence[float]) -> float:
    """The live member's share of the whole mixture, 0 if no member is live."""
    pairs = zip(members_of(config.teacher), weights, strict=True)
    live = sum(weight for member, weight in pairs if isinstance(member, EmaConfig) and member.mode == "live")
    return live / sum(weights)


def build_list_targets(
    work: Work,
    candidates: Candidates,
    scores: TeacherScores,
    weights: Sequence[float],
    config: Config,
    *,
    shuffled: bool,
    seed: int = 0,
    confirmed: Ragged | None = None,
) -> None:
    """Calibrated, mixed, tempered: one distribution a list. `shuffled` permutes each list's scores
    by `seed` (control)."""
    cfg, rule = config.targets, config.targets.false_negatives
    judged = mixed = scores.mixed(weights)
    temperature: float | Literal["auto"] = "auto"
    if cfg.temperature != "auto":
        own = cfg.temperature == "student"
        temperature = student_temperature(scores, weights, config) if own else float(cfg.temperature)
    excluded, clip = scores.unknown(weights), cfg.calibrate in ("absolute", "zscore", "log_odds")
    if shuffled:
        judged = mixed = shuffled_within_lists(mixed, seed, candidates.query_rows_Q)
        if excluded is not None:  # a score is moved together with whether it is one
            excluded = shuffled_within_lists(excluded, seed, candidates.query_rows_Q)
    elif live_share(config, weights) > 0:  # training adds the live member; the temperature is the whole mixture's
        whole, _ = build_targets(
            mixed, candidates.positive, temperature=temperature, target_perplexity=cfg.target_perplexity,
            excluded=excluded, clip=clip,
        )  # fmt: skip
        temperature = whole.temperature
        members = zip(members_of(config.teacher), weights, strict=True)
        frozen = [0.0 if getattr(member, "mode", "") == "live" else weight for member, weight in members]
        nothing = mixed.with_values(np.zeros(len(mixed.values_T), dtype=np.float32))
        mixed = scores.mixed(frozen) if sum(frozen) > 0 else nothing
    targets, removed = build_targets(
        mixed,
        candidates.positive,
        temperature=temperature,
        target_perplexity=cfg.target_perplexity,
        rule=rule.rule,
        margin=rule.margin,
        percent=rule.percent,
        teacher_raw=judged if rule.rule != "none" else None,
        confirmed=confirmed,
        excluded=excluded,
        clip=clip,
    )
    targets.save(work.folder)
    write_json(work.folder / "false_negatives.json", removed.to_json())
    named = {member.name: values for member, values in zip(scores.members, scores.calibrated(), strict=True)}
    histograms = {}
    for name, values in ({**named, "mixture": mixed} if len(named) > 1 else named).items():
        counts, edges = np.histogram(values.values_T.astype(np.float64), bins=30)
        histograms[name] = {"edges": edges.round(4).tolist(), "counts": counts.tolist()}
    write_json(work.folder / "scores.json", histograms)
    work.counts.update(lists=len(targets), temperature=targets.temperature)


def student_temperature(scores: TeacherScores, weights: Sequence[float], config: Config) -> float:
    """The temperature T of the mixture s at which its cosines are divided by `train.student_temperature` tau.

    s is a sum of w x / a over members with weight w (of a sum of 1), score x and scale a. So with T = tau sum(w / a)
    over the bi-encoders, s / T is their mean cosine / tau plus the other members' evidence: without any, the target is
    what a student that agrees with them says already. If none of them has a weight, the first one's scale is the unit.
    """
    shares, members = normalised(weights), members_of(config.teacher)
    units = [
        (share, 1 / float(member.statistics.scale_Q[0]))
        for share, member, cfg in zip(shares, scores.members, members, strict=True)
        if has_vectors(cfg) and len(member.statistics)
    ]
    worth = sum(share * unit for share, unit in units)
    return config.train.student_temperature * (worth or (units[0][1] if units else 1.0))


def confirmed_negatives(verdicts: Verdicts, candidates: Candidates) -> Ragged | None:
    """Which candidates a person found not relevant, bool; None if nobody said so of any query."""
    if not verdicts.refused:
        return None
    confirmed = [
        np.isin(rows, sorted(verdicts.refused.get(query, ())))
        for query, rows in zip(candidates.query_rows_Q.tolist(), candidates.rows, strict=True)
    ]
    return Ragged.of(confirmed, np.bool_)
