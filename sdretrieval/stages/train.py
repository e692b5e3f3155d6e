"""Stage N/train: one training of the student, from its lists and targets to new weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sdretrieval.config import Config, EmaConfig, identity_fields, members_of
from sdretrieval.encode.adapter import adapter_alone, save_with_encoder, with_adapter
from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.student import Student
from sdretrieval.mining.candidates import Candidates
from sdretrieval.mining.mine import duplicate_groups
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.lexical import Lexical
from sdretrieval.stages.lexical_half import Half
from sdretrieval.stages.objective import make_loss, teacher_vectors
from sdretrieval.stages.precision import number_format
from sdretrieval.stages.run import Run, Weights, prompts_of, student_from
from sdretrieval.stages.targets import MixtureWeights, all_free, live_share, scores_whole_batch
from sdretrieval.stages.teachers import make_teachers
from sdretrieval.stages.tokens import Tokens
from sdretrieval.stages.training_inputs import Objective, TrainingData, TrainingInputs
from sdretrieval.store import Work
from sdretrieval.targets.build import Targets, build_targets
from sdretrieval.targets.shuffle import shuffled_columns
from sdretrieval.teachers.ensemble import BatchTeacher, TeacherScores
from sdretrieval.teachers.protocols import FreeTeacher

if TYPE_CHECKING:
    from sdretrieval.teachers.ema import LiveEma
    from sdretrieval.training.batches import BatchHalf, Collator
    from sdretrieval.training.distillation import LiveTargets
    from sdretrieval.training.train import TrainSettings

BatchScores = Callable[[Array, Array], Array]
"""(list positions of a batch, its document rows) -> calibrated, mixed scores, float32 (B, M)."""

HALF_LIFE = 0.25
"""Of the kept moving average if no member of the teacher is an EMA."""

SAVE_TIMES = 5
"""Checkpoints of a training unless the config says otherwise: a kill costs at most a fifth of it."""


def train(
    run: Run, collection: Collection, tokens: Tokens, lexical: Lexical, address: str, start: Weights,
    inputs: TrainingInputs, weights: MixtureWeights, objective: Objective, epochs: float,
    kept: tuple[Vectors | None, Vectors | None] = (None, None), learning_rate: float | None = None,
    half: Half | None = None, base: Vectors | None = None,
) -> Weights:  # fmt: skip
    """The student trained from `start`.

    `kept`: if only queries or an adapter learn, the base student's vectors of all documents, and of documents without
    the synthetic queries made from them, or None. `learning_rate`: in place of the config's. `half`: of all vectors; it
    does not learn. `base`: the base student's vectors, along whose directions exits with fewer dims are taught.
    """
    config = run.config
    if learning_rate is not None:
        config = config.model_copy(update={"train": config.train.model_copy(update={"learning_rate": learning_rate})})
    precision = number_format(run, "train")

    def build(work: Work) -> None:
        candidates = Candidates.load(inputs.mined.path)
        as_many = Candidates.load((inputs.as_many_updates_as or inputs.mined).path)
        taught = inputs.targets is not None and inputs.scores is not None
        data = TrainingData(
            config=config,
            seed=run.seed,
            collection=collection,
            tokens=tokens,
            candidates=candidates,
            targets=Targets.load(inputs.targets.path) if inputs.targets else no_targets(candidates),
            scores=TeacherScores.load(inputs.scores.path) if inputs.scores else None,
            weights=weights.values() if taught else [],
            make_teachers=lambda: make_teachers(run, collection, lexical, inputs.made),
            start=start.student,
            average=start.average,
            from_base=start.key == run.base.key,
            student_vectors=inputs.student_vectors,
            documents=kept[0],
            query_removed=kept[1],
            half=half,
            base=base,
            objective=objective,
            epochs=epochs * len(as_many) / len(candidates),
            use_labels=config.corpus.labels or inputs.as_many_updates_as is not None,
            precision=precision,
            expected=run.expected.get(address),
            tracking=run.tracking(address),
        )
        build_student(work, data)

    made = run.runner.stage(
        address, 7, identity_of(config, precision, objective, epochs, run.seed),
        [start.key, tokens, collection.filtered, *inputs.artifacts(), *filter(None, (*kept, half, base))], build,
        resumable=True,
    )  # fmt: skip
    return Weights(made.key, made.path / "student", made.path / "average")


def identity_of(config: Config, precision: Precision, objective: Objective, epochs: float, seed: int) -> dict[str, Any]:
    """What of the config decides a training's result."""
    cfg = config.train
    # A setting of one loss is in that loss's key alone; a generation's own number of epochs is under `epochs`.
    idle = {"later_epochs", *(() if cfg.loss == "margin_mse" else ("margin_scale",))}
    identity: dict[str, Any] = {
        **identity_fields(cfg, without=idle),
        "precision": precision,
        "epochs": epochs,
        "objective": objective,
        "student": [config.student.max_tokens, config.student.query_tokens, *astuple(prompts_of(config).prompts)],
        "learns": config.student.train,
        "seed": seed,
    }
    if objective == "hard":  # the teacher has no part in it: a run with another teacher finds the same control
        for name in ("scope", "hard_label_weight", "margin_scale"):
            identity.pop(name, None)
        identity["loss"] = "listwise_kl"
    else:  # the average that a training keeps; the base, if it alone teaches, leaves it as it usually is
        averages = [member for member in members_of(config.teacher) if isinstance(member, EmaConfig)]
        moving = [["live" if one.mode == "live" else "frozen", one.half_life] for one in averages if one.mode != "base"]
        identity["averages"] = moving or ([["frozen", HALF_LIFE]] if averages else [])
    return identity


def no_targets(candidates: Candidates) -> Targets:
    """For the hard-label control: no distribution to follow, every document that is no known positive is a negative."""
    positive = candidates.positive
    flat = positive.with_values(np.zeros(len(positive.values_T), dtype=np.float32))
    targets, _ = build_targets(flat, positive, temperature=1.0)
    return targets


def build_student(work: Work, data: TrainingData) -> None:
    """Train from `data.start`; writes `student/`, `average/`, `metrics.jsonl`."""
    from sdretrieval.training.train import train as run_trainer

    student = student_from(data.start, data.config)
    model = student.model
    if data.config.student.train == "adapter":
        model = adapter_alone(with_adapter(model) if data.from_base else model)
    ema, live = _live(data, student) if data.objective == "teacher" else (None, None)
    loss = make_loss(work, data, student, model, live)
    collator = _collator(work, data, student)
    trained = run_trainer(
        model, collator, loss, _settings(data), work.folder,
        live=ema, description=f"train ({data.objective})", expected=data.expected, tracking=data.tracking,
    )  # fmt: skip
    if model is not student.model:
        save_with_encoder(student.model, work.folder / "average", work.folder / "student")
    work.counts.update(trained.counts)


def _settings(data: TrainingData) -> TrainSettings:
    from sdretrieval.training.train import TrainSettings, updates_of

    cfg, queries = data.config.train, len(data.candidates)
    members = members_of(data.config.teacher)
    half_lives = [m.half_life for m in members if isinstance(m, EmaConfig) and m.mode != "base"]
    settings = TrainSettings(
        epochs=data.epochs,
        queries_per_batch=min(cfg.queries_per_batch, queries),
        learning_rate=cfg.learning_rate,
        warmup=cfg.warmup,
        weight_decay=cfg.weight_decay,
        max_grad_norm=cfg.max_grad_norm,
        freeze=() if data.config.student.train == "adapter" else cfg.freeze,
        dropout=cfg.dropout,
        precision=data.precision,
        gradient_accumulation=cfg.gradient_accumulation,
        half_life=half_lives[0] if half_lives else HALF_LIFE,
        lora_rank=cfg.lora_rank,
        seed=data.seed,
    )
    often = cfg.save_every or max(1, updates_of(queries, settings) // SAVE_TIMES)
    return replace(settings, save_every=often)


def _collator(work: Work, data: TrainingData, student: Student) -> Collator:
    """Makes batches: each query's sampled candidates, each document once, and the teacher's view of them."""
    from sdretrieval.training.batches import Collator, KnownRelevance, QueryRemoved, Side, StoredVectors

    cfg, candidates, collection = data.config.train, data.candidates, data.collection
    view = student.view
    if cfg.document_tokens is not None:
        view = replace(view, max_tokens=min(cfg.document_tokens, view.max_tokens))
    rows = candidates.query_rows_Q
    refused = collection.verdicts.refused
    known = KnownRelevance(
        positives=Ragged.of(collection.known_positives(rows.tolist(), data.use_labels), np.int64),
        refused=Ragged.of([sorted(refused.get(row, ())) for row in rows.tolist()], np.int64),
        own_document_Q=collection.own_documents(rows),
        duplicate_group_N=duplicate_groups(collection.corpus.document_texts()),
    )
    query_removed = None
    if data.tokens.query_removed is not None:  # a query made from a document meets it without its own words
        training = set(rows.tolist())
        by_query = {
            row: (collection.query_removed[position].document_row, position)
            for row, position in collection.query_removed_position.items()
            if row in training
        }
        query_removed = QueryRemoved(data.tokens.query_removed, by_query)
    stored = None
    if data.documents is not None:  # documents come as vectors; queries too, if an adapter learns
        stored = StoredVectors(
            data.documents.documents,
            data.query_removed.query_removed if data.query_removed else None,
            data.documents.queries_QD if data.config.student.train == "adapter" else None,
        )
    return Collator(
        model=student.model,
        queries=Side(data.tokens.queries, student.query_view, student.query_specials),
        documents=Side(data.tokens.documents, view, student.document_specials),
        candidates=candidates,
        targets=data.targets,
        candidates_per_query=cfg.candidates_per_query,
        seed=data.seed,
        score_batch=_batch_scorer(data),
        judge_batch=_batch_judge(data),
        known=known,
        query_removed=query_removed,
        vectors=teacher_vectors(work, data),
        stored=stored,
        half=_half_scores(data),
    )


def _half_scores(data: TrainingData) -> BatchHalf | None:
    """What the lexical halves of a batch's queries and documents add to the student's scores."""
    if data.half is None:
        return None
    queries_QD, documents_ND, removed_PD = data.half.queries_QD, data.half.documents_ND, data.half.query_removed_PD

    def scores(query_rows_B: Array, rows_M: Array, query_removed: Mapping[int, int]) -> Array:
        documents_MD = np.array(documents_ND[rows_M])
        for column, row in enumerate(rows_M.tolist()):
            if row in query_removed:
                documents_MD[column] = removed_PD[query_removed[row]]
        return np.asarray(queries_QD[query_rows_B] @ documents_MD.T)

    return scores


def _batch_scorer(data: TrainingData) -> BatchScores | None:
    """The free teachers' scores of whole batches, if the target may span one."""
    if data.objective == "hard" or data.config.train.loss == "embedding" or data.scores is None:
        return None
    if not scores_whole_batch(data.config, data.weights):
        return None
    # The live member's scores join inside the loss.
    frozen = [
        data.objective != "teacher" or getattr(member, "mode", "") != "live"
        for member in members_of(data.config.teacher)
    ]
    if not any(np.asarray(data.weights)[frozen] > 0):  # a live member alone: the frozen part says nothing
        return lambda positions_B, rows_M: np.zeros((len(positions_B), len(rows_M)), dtype=np.float32)
    return _whole_batch(data, data.scores, frozen)


def _batch_judge(data: TrainingData) -> BatchScores | None:
    """What the false-negative rule judges whole batches by: all members' scores, with a live one's snapshot. None if
    there is nothing to judge, or a member has no scores beyond the lists."""
    cfg = data.config
    if cfg.targets.false_negatives.rule == "none" or cfg.train.hard_label_weight == 0 or data.objective == "hard":
        return None
    if data.scores is None or not all_free(cfg, data.weights):
        return None
    return _whole_batch(data, data.scores, [True] * len(data.weights))


def _whole_batch(data: TrainingData, scores: TeacherScores, chosen: Sequence[bool]) -> BatchScores:
    """The mixture of the `chosen` members that count, over whole batches; shuffled for that control."""
    members = [
        (teacher, member, weight)
        for teacher, member, weight, counts in zip(
            data.make_teachers(), scores.members, data.weights, chosen, strict=True
        )
        if counts and weight > 0 and isinstance(teacher, FreeTeacher)
    ]
    teachers, kept, weights = zip(*members, strict=True)
    rows, seed = data.candidates.query_rows_Q, data.seed
    mixture = BatchTeacher(teachers, TeacherScores(kept), weights, rows)
    if data.objective == "teacher":
        return mixture.matrix
    return lambda positions_B, rows_M: shuffled_columns(
        mixture.matrix(positions_B, rows_M), seed, rows[positions_B], rows_M
    )


def _live(data: TrainingData, student: Student) -> tuple[LiveEma | None, LiveTargets | None]:
    """The moving average that teaches while it moves, and its part of the targets."""
    from sdretrieval.teachers.ema import LiveEma, decay_of
    from sdretrieval.training.distillation import LiveTargets
    from sdretrieval.training.train import updates_of

    share = live_share(data.config, data.weights)
    if share == 0 or data.scores is None:
        return None, None
    number, member = next(
        (n, m) for n, m in enumerate(members_of(data.config.teacher)) if isinstance(m, EmaConfig) and m.mode == "live"
    )
    average = student_from(data.average, data.config, student.prompts)
    ema = LiveEma(average.model, decay_of(member.half_life, updates_of(len(data.candidates), _settings(data))))
    return ema, LiveTargets(ema, share, data.scores.members[number].statistics, data.targets.temperature)
