"""From the config's members to teachers, their scores, the probe's choice of weights, and the targets."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.config import (
    Config,
    CrossEncoderConfig,
    DenseConfig,
    EmaConfig,
    Member,
    QueryWeightsConfig,
    ScoresConfig,
    ViewConfig,
    identity_fields,
    members_of,
)
from sdretrieval.corpus import Verdicts
from sdretrieval.corpus.read.tables.files import stem_of
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.views import View
from sdretrieval.errors import MissingScores
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages import guests
from sdretrieval.stages.inputs import Prepared, Vectors
from sdretrieval.stages.masks import dense_masks, lexical_masks, text_masks
from sdretrieval.store import Store, Work, key_of
from sdretrieval.targets.agreement import agreement_weights, consensus_correlations
from sdretrieval.targets.build import Targets, build_targets
from sdretrieval.targets.confidence import query_trust, query_weights
from sdretrieval.targets.shuffle import shuffled_within_lists
from sdretrieval.teachers.cross_encoder import CrossEncoderTeacher, load_cross_encoder
from sdretrieval.teachers.dense import DenseTeacher, knows_more
from sdretrieval.teachers.ensemble import TeacherScores, score_candidates
from sdretrieval.teachers.imported import ImportedTeacher
from sdretrieval.teachers.lexical import LexicalTeacher
from sdretrieval.teachers.masked import Masks, masked_teacher
from sdretrieval.teachers.pair_cache import PairCache
from sdretrieval.teachers.protocols import Teacher

logger = logging.getLogger("sdretrieval")

WORDS_FOR = {"confidence": "confidence", "agreement": "agreement", "both": "confidence times agreement"}


def view_of(asked: ViewConfig, config: Config) -> View:
    """A member's view; what it leaves open is the student's."""
    return View(asked.max_tokens or config.student.max_tokens, asked.windows, asked.stride)


def member_name(member: Member) -> str:
    """How the report calls a member."""
    if isinstance(member, CrossEncoderConfig | DenseConfig):
        return f"{member.kind}:{member.model.rstrip('/').split('/')[-1]}"
    if isinstance(member, EmaConfig):
        return "ema:full_context" if member.view.windows == "all" else "ema:same_view"
    if isinstance(member, ScoresConfig):
        return f"scores:{member.name or stem_of(Path(member.file))}"
    return "lexical"


def member_names(config: Config) -> list[str]:
    """The members' names; a second one of a name gets its number, so that their figures stay apart."""
    names: list[str] = []
    for member in members_of(config.teacher):
        name = member_name(member)
        same = sum(one == name or one.startswith(f"{name} #") for one in names)
        names.append(f"{name} #{same + 1}" if same else name)
    return names


def member_identity(member: Member, config: Config) -> dict[str, Any]:
    """What decides a member's raw scores; a weight does not. A model stands by its digest, never by its name."""
    if isinstance(member, ScoresConfig):
        return guests.scores_identity(member)
    fields = identity_fields(member, without={"weight", "mode", "half_life"})
    if isinstance(member, CrossEncoderConfig | DenseConfig):
        fields["model"] = model_digest(locate_model(member.model))
    if isinstance(member, CrossEncoderConfig | DenseConfig | EmaConfig):
        seen = view_of(member.view, config)
        fields["view"] = [seen.max_tokens, seen.windows, seen.stride]
    return fields


@dataclass
class TeacherRoom:
    """Makes the config's teachers, each once, from artifacts of one generation."""

    config: Config
    store: Store
    prepared: Prepared
    lexical: LexicalIndex
    vectors: Mapping[int, Vectors]
    """Of the dense and ema members, by position."""

    @property
    def folder(self) -> Path:
        """The run's."""
        return self.store.root.parent / self.config.name

    def teachers(self, split: str | None = None) -> list[Teacher]:
        """The members, in the config's order; for the queries of `split`, if these were made from documents, each
        judges a query's own document without the query."""
        members = zip(member_names(self.config), members_of(self.config.teacher), strict=True)
        made = [self._make(number, name, member) for number, (name, member) in enumerate(members)]
        if split is None or not self.prepared.has_masked(split):
            return made
        return [self._masked(number, teacher, split) for number, teacher in enumerate(made)]

    def _masked(self, number: int, teacher: Teacher, split: str) -> Teacher:
        if isinstance(teacher, ImportedTeacher):  # what it was asked elsewhere was the masked text
            return teacher
        words = isinstance(teacher, LexicalTeacher)
        return masked_teacher(teacher, self._masks(number, teacher, split), zero_is_no_hit=words)

    def _masks(self, number: int, teacher: Teacher, split: str) -> Masks:
        if isinstance(teacher, CrossEncoderTeacher):
            return text_masks(self.prepared, split, teacher.score_texts)
        if isinstance(teacher, LexicalTeacher):
            return lexical_masks(self.prepared, split, self.lexical)
        return dense_masks(self.prepared, split, self.vectors[number])

    def _make(self, number: int, name: str, member: Member) -> Teacher:
        if isinstance(member, CrossEncoderConfig):
            return self._cross_encoder(name, member)
        if isinstance(member, EmaConfig | DenseConfig):
            vectors = self.vectors[number]
            knows = self._knows(member) if isinstance(member, DenseConfig) else None
            return DenseTeacher(name, vectors.queries_QD, vectors.documents, knows=knows)
        if isinstance(member, ScoresConfig):
            return guests.imported_teacher(member, name, self.prepared.corpus)
        return LexicalTeacher(self.lexical, self.prepared.corpus.query_texts())

    def _knows(self, member: DenseConfig) -> str:
        theirs, own = locate_model(member.model), locate_model(self.config.student.model)
        return knows_more(theirs, own, same=model_digest(theirs) == model_digest(own))

    def _cross_encoder(self, name: str, member: CrossEncoderConfig) -> CrossEncoderTeacher:
        model, digest = load_cross_encoder(
            member.model, max_tokens=member.max_tokens, device=self.config.student.device
        )
        view = identity_fields(member.view)
        cache = PairCache(
            self.store.root / "pairs" / key_of("pairs", 1, {"view": view, "most": member.max_tokens}, [digest])
        )
        documents, queries = self.prepared.corpus.document_texts(), self.prepared.corpus.query_texts()
        return CrossEncoderTeacher(
            model,
            name=name,
            query_text=queries.__getitem__,
            document_text=documents.__getitem__,
            cache=cache,
            max_tokens=member.max_tokens,
            windows=member.view.windows,
            stride=member.view.stride,
            batch_tokens=member.batch_tokens,
        )


def scored(
    room: TeacherRoom, query_rows: Array, lists: Ragged, split: str | None = None
) -> tuple[list[Teacher], TeacherScores]:
    """The members, and each one's scores of every candidate.

    `split`: that of the queries, whose lists are to be ranked and measured, so that a file of scores must know
    something of each; None for lists that teach.
    Raises MissingScores where such a file lacks pairs that it must not.
    """
    teachers = room.teachers(split)
    for teacher in teachers:
        if split is not None and isinstance(teacher, ImportedTeacher):
            teacher.require_some(query_rows, lists)
    return teachers, score_candidates(teachers, query_rows, lists, room.config.targets.calibrate)


def scored_with_gaps_written(
    room: TeacherRoom, query_rows: Array, lists: Ragged, split: str | None = None
) -> tuple[list[Teacher], TeacherScores]:
    """As `scored`; the pairs that a file of scores lacks are written into the run's folder, to be scored elsewhere."""
    try:
        teachers, scores = scored(room, query_rows, lists, split)
    except MissingScores as lack:
        raise guests.with_written(lack, room.folder, room.prepared) from None
    imported = [teacher for teacher in teachers if isinstance(teacher, ImportedTeacher)]
    guests.note_gaps(imported, query_rows, lists, room.folder, room.prepared)
    return teachers, scores


def build_scores(work: Work, room: TeacherRoom, query_rows: Array, candidates: Ragged) -> None:
    """Raw scores of every member for every candidate."""
    teachers, scores = scored_with_gaps_written(room, query_rows, candidates)
    scores.save(work.folder)
    work.counts["pairs"] = len(candidates.values_T) * len(teachers)
    work.counts["newly_scored_pairs"] = sum(getattr(teacher, "newly_scored", 0) for teacher in teachers)
    imported = [teacher for teacher in teachers if isinstance(teacher, ImportedTeacher)]
    if imported:
        work.counts["missing_pairs"] = sum(len(one.missing_pairs(query_rows, candidates)) for one in imported)


def chosen_weights(config: Config, choice: Mapping[str, Any] | None) -> list[float]:
    """The members' weights: the config's, or where they are `auto` the `choice` of the probe or of their agreement."""
    members = members_of(config.teacher)
    if any(member.weight == "auto" for member in members):
        assert choice is not None, "weight: auto runs the probe, or asks for agreement, first"
        return [float(weight) for weight in choice["weights"]]
    return [float(member.weight) for member in members]


def judges_whole_batch(config: Config, weights: Sequence[float]) -> bool:
    """Whether the target may span all documents of a batch: every member that counts scores every pair."""
    free = all(
        not isinstance(member, CrossEncoderConfig | ScoresConfig) or weight == 0
        for member, weight in zip(members_of(config.teacher), weights, strict=True)
    )
    return config.train.scope == "batch" or (config.train.scope == "auto" and free)


def live_share(config: Config, weights: Sequence[float]) -> float:
    """The live member's share of the whole mixture, 0 where no member is live."""
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
    confirmed: Ragged | None = None,
) -> None:
    """Calibrated, mixed, tempered: one distribution a list. `shuffled` permutes each list's scores (control)."""
    asked, rule = config.targets, config.targets.false_negatives
    judged = mixed = scores.mixed(weights)
    temperature = asked.temperature if asked.temperature == "auto" else float(asked.temperature)
    excluded, clip = scores.unknown(weights), asked.calibrate == "zscore"
    if shuffled:
        judged = mixed = shuffled_within_lists(mixed, config.seed, candidates.query_rows_Q)
        if excluded is not None:  # a score is moved together with whether it is one
            excluded = shuffled_within_lists(excluded, config.seed, candidates.query_rows_Q)
    elif live_share(config, weights) > 0:  # training adds the live member; the temperature is the whole mixture's
        whole, _ = build_targets(
            mixed, candidates.positive, temperature=temperature, target_perplexity=asked.target_perplexity,
            excluded=excluded, clip=clip,
        )  # fmt: skip
        temperature, mixed = whole.temperature, _without_live(scores, weights, config)
    targets, removed = build_targets(
        mixed,
        candidates.positive,
        temperature=temperature,
        target_perplexity=asked.target_perplexity,
        rule=rule.rule,
        margin=rule.margin,
        percent=rule.percent,
        teacher_raw=judged if rule.rule != "none" else None,
        confirmed=confirmed,
        excluded=excluded,
        clip=clip,
    )
    if asked.query_weights.by != "none":
        targets = _weighted(work, targets, scores, weights, asked.query_weights)
    targets.save(work.folder)
    (work.folder / "false_negatives.json").write_text(json.dumps(removed.to_json()) + "\n", encoding="utf8")
    histogram = {name: _histogram(raw) for name, raw in _by_member(scores, mixed).items()}
    (work.folder / "scores.json").write_text(json.dumps(histogram) + "\n", encoding="utf8")
    work.counts.update(lists=len(targets), temperature=targets.temperature)


def _weighted(
    work: Work, targets: Targets, scores: TeacherScores, weights: Sequence[float], asked: QueryWeightsConfig
) -> Targets:
    """The targets with each query's weight, and `query_weights.json`. The shuffled control weighs queries the same."""
    raw, calibrated = scores.judged(weights)
    trust_Q = query_trust(asked.by, raw, calibrated, weights, targets.temperature)
    weight_Q, report = query_weights(asked.by, trust_Q, asked.below)
    (work.folder / "query_weights.json").write_text(json.dumps(report.to_json()) + "\n", encoding="utf8")
    work.counts["silenced_queries"] = report.silenced
    if report.silenced:
        logger.warning(
            "%d of %d training queries count nothing: the teacher's %s is below targets.query_weights.below (%g); the "
            "report names the least trusted", report.silenced, report.queries, WORDS_FOR[asked.by], asked.below,
        )  # fmt: skip
    return replace(targets, weight_Q=targets.weight_Q * weight_Q)


def confirmed_negatives(verdicts: Verdicts, candidates: Candidates) -> Ragged | None:
    """Which candidates a person found not relevant, bool; None where nobody said so of any query."""
    if not verdicts.refused:
        return None
    said = [
        np.isin(rows, sorted(verdicts.refused.get(query, ())))
        for query, rows in zip(candidates.query_rows_Q.tolist(), candidates.rows, strict=True)
    ]
    return Ragged.of(said, np.bool_)


def build_agreement(work: Work, scores: TeacherScores) -> None:
    """`agreement.json`: each member's mean rank correlation with the others' mixture, and the weights that follow."""
    correlations_M = consensus_correlations(scores.judged([1.0] * len(scores.members))[1])
    weights_M = agreement_weights(correlations_M)
    names = [member.name for member in scores.members]
    told = ", ".join(
        f"{name} {weight:.2f} (correlation {found:.2f})"
        for name, weight, found in zip(names, weights_M, correlations_M, strict=True)
    )
    logger.info("weights by agreement: %s", told)
    record = {"members": names, "correlations": correlations_M.tolist(), "weights": weights_M.tolist()}
    (work.folder / "agreement.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf8")
    work.counts.update(lists=len(scores.members[0].raw))


def _without_live(scores: TeacherScores, weights: Sequence[float], config: Config) -> Ragged:
    members = zip(members_of(config.teacher), weights, strict=True)
    frozen = [0.0 if getattr(member, "mode", "") == "live" else weight for member, weight in members]
    if sum(frozen) > 0:
        return scores.mixed(frozen)
    raw = scores.members[0].raw
    return raw.with_values(np.zeros(len(raw.values_T), dtype=np.float32))


def _by_member(scores: TeacherScores, mixed: Ragged) -> dict[str, Ragged]:
    named = {member.name: values for member, values in zip(scores.members, scores.calibrated(), strict=True)}
    return {**named, "mixture": mixed} if len(named) > 1 else named


def _histogram(values: Ragged) -> dict[str, list[float]]:
    counts, edges = np.histogram(values.values_T.astype(np.float64), bins=30)
    return {"edges": edges.round(4).tolist(), "counts": counts.tolist()}
