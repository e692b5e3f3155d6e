"""Train one student, merge two, and the dev measure for early stopping."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from sdretrieval.config import Config, members_of
from sdretrieval.config.schema import EmaConfig
from sdretrieval.encode.encoder import Embeddings, encode_sequences
from sdretrieval.encode.student import Student, save_student
from sdretrieval.evaluation import evaluate, run_from_hits
from sdretrieval.indexes.exact import exact_search
from sdretrieval.indexes.hits import Hits
from sdretrieval.mining.candidates import Candidates
from sdretrieval.mining.mine import duplicate_groups
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.inputs import Prepared, TextTokens, Vectors, student_from
from sdretrieval.stages.objective import make_loss, teacher_vectors
from sdretrieval.stages.prepare import judgements, known_positives
from sdretrieval.stages.teach import judges_whole_batch, live_share
from sdretrieval.store import Work
from sdretrieval.targets.build import Targets, build_targets
from sdretrieval.targets.shuffle import shuffled_columns
from sdretrieval.teachers.ensemble import BatchTeacher, TeacherScores
from sdretrieval.teachers.protocols import FreeTeacher, Teacher
from sdretrieval.teachers.query_removed import Masks

if TYPE_CHECKING:
    from sdretrieval.teachers.ema import LiveEma
    from sdretrieval.training.batches import BatchMaker, Hidden, Known, StoredVectors
    from sdretrieval.training.distillation import LiveTargets
    from sdretrieval.training.train import EarlyStop, TrainSettings

HALF_LIFE = 0.25
"""Of the kept moving average where no member of the teacher is an EMA."""

SAVE_TIMES = 5
"""Checkpoints of a training unless the config says otherwise: a kill costs at most a fifth of it."""

Lesson = Literal["teacher", "shuffled", "hard"]


class KeptVectors(NamedTuple):
    """The base student's vectors: of all documents, and of documents without the queries that were made from them."""

    documents: Vectors
    hidden: Vectors | None = None


@dataclass
class Classroom:
    """All that one training needs. `lesson`: the teacher's targets, the shuffled control, or hard labels alone."""

    config: Config
    prepared: Prepared
    tokens: TextTokens
    candidates: Candidates
    targets: Targets
    scores: TeacherScores | None
    weights: Sequence[float]
    make_teachers: Callable[[], list[Teacher]]
    start: Path
    snapshot: Path
    student_vectors: Vectors | None = None
    kept: KeptVectors | None = None
    """Of the documents, where only queries learn."""
    lesson: Lesson = "teacher"
    epochs: float = 1.0
    precision: Literal["float32", "bfloat16"] = "float32"


def no_targets(candidates: Candidates) -> Targets:
    """For the hard-label control: no distribution to follow, every document that is no known positive is a negative."""
    positive = candidates.positive
    flat = positive.with_values(np.zeros(len(positive.values_T), dtype=np.float32))
    targets, _ = build_targets(flat, positive, temperature=1.0)
    return targets


def build_student(work: Work, room: Classroom) -> None:
    """Train from `room.start`; `student/`, `average/`, `metrics.jsonl`."""
    from sdretrieval.training.train import train

    student = student_from(room.start, room.config)
    ema, live = _live(room, student) if room.lesson == "teacher" else (None, None)
    loss = make_loss(work, room, student.model, live)
    batches = _batches(work, room, student)
    trained = train(
        student.model, batches, loss, _settings(room, len(room.candidates)), work.folder,
        live=ema, early_stop=_early_stop(room, student), description=f"train ({room.lesson})",
    )  # fmt: skip
    work.counts.update(trained.counts)
    if trained.best_step is not None:
        work.counts["best_step"] = trained.best_step


def _settings(room: Classroom, queries: int) -> TrainSettings:
    from sdretrieval.training.train import TrainSettings, updates_of

    asked = room.config.train
    averages = [m.half_life for m in members_of(room.config.teacher) if isinstance(m, EmaConfig) and m.mode != "base"]
    settings = TrainSettings(
        epochs=room.epochs,
        queries_per_batch=min(asked.queries_per_batch, queries),
        learning_rate=asked.learning_rate,
        warmup=asked.warmup,
        weight_decay=asked.weight_decay,
        max_grad_norm=asked.max_grad_norm,
        freeze=asked.freeze,
        dropout=asked.dropout,
        precision=room.precision,
        gradient_accumulation=asked.gradient_accumulation,
        half_life=averages[0] if averages else HALF_LIFE,
        seed=room.config.seed,
    )
    often = asked.save_every or max(1, updates_of(queries, settings) // SAVE_TIMES)
    return replace(settings, save_every=often)


def _batches(work: Work, room: Classroom, student: Student) -> BatchMaker:
    from sdretrieval.training.batches import BatchMaker, Side

    asked = room.config.train
    view = replace(
        student.view, max_tokens=min(asked.document_tokens or student.view.max_tokens, student.view.max_tokens)
    )
    return BatchMaker(
        model=student.model,
        queries=Side(room.tokens.queries, student.query_view, student.query_specials),
        documents=Side(room.tokens.documents, view, student.document_specials),
        candidates=room.candidates,
        targets=room.targets,
        candidates_per_query=asked.candidates_per_query,
        seed=room.config.seed,
        judge=_judge(room),
        known=_known(room),
        hidden=_hidden(room),
        vectors=teacher_vectors(work, room),
        stored=_stored(room),
    )


def _stored(room: Classroom) -> StoredVectors | None:
    from sdretrieval.training.batches import StoredVectors

    if room.kept is None:
        return None
    hidden = room.kept.hidden
    return StoredVectors(room.kept.documents.documents, hidden.masked if hidden is not None else None)


def _hidden(room: Classroom) -> Hidden | None:
    from sdretrieval.training.batches import Hidden

    if room.tokens.masked is None:
        return None
    training = set(room.candidates.query_rows_Q.tolist())
    masked = room.prepared.masked
    by_query = {
        row: (masked[position].document_row, position)
        for row, position in room.prepared.masked_position.items()
        if row in training
    }
    return Hidden(room.tokens.masked, by_query)


def _known(room: Classroom) -> Known:
    from sdretrieval.training.batches import Known

    rows = room.candidates.query_rows_Q
    use_labels = room.config.corpus.labels or room.lesson == "hard"
    return Known(
        positives=Ragged.of(known_positives(room.prepared, rows.tolist(), use_labels), np.int64),
        own_document_Q=room.prepared.own_documents(rows),
        duplicate_group_N=duplicate_groups(room.prepared.corpus.document_texts()),
    )


def _judge(room: Classroom) -> Callable[[Array, Array], Array] | None:
    """The free teachers as judges of whole batches, where the target may span one."""
    if room.lesson == "hard" or room.config.train.loss == "embedding" or room.scores is None:
        return None
    if not judges_whole_batch(room.config, room.weights):
        return None
    rows = room.candidates.query_rows_Q
    kept = _frozen(room)
    if not kept:  # a live member alone: the frozen part says nothing
        return lambda positions_B, rows_M: np.zeros((len(positions_B), len(rows_M)), dtype=np.float32)
    teachers, members, weights = zip(*kept, strict=True)
    judge = BatchTeacher(teachers, TeacherScores(members), weights, rows)
    if room.lesson == "teacher":
        return judge.matrix
    seed = room.config.seed
    return lambda positions_B, rows_M: shuffled_columns(
        judge.matrix(positions_B, rows_M), seed, rows[positions_B], rows_M
    )


def _frozen(room: Classroom) -> list[tuple[FreeTeacher, Any, float]]:
    """(teacher, its scores, weight) of the members that judge batches: weight above 0, not live in this lesson."""
    assert room.scores is not None
    parts = zip(room.make_teachers(), room.scores.members, room.weights, members_of(room.config.teacher), strict=True)
    return [
        (teacher, member, weight)
        for teacher, member, weight, asked in parts
        if weight > 0
        and isinstance(teacher, FreeTeacher)
        and not (room.lesson == "teacher" and isinstance(asked, EmaConfig) and asked.mode == "live")
    ]


def _live(room: Classroom, student: Student) -> tuple[LiveEma | None, LiveTargets | None]:
    from sdretrieval.teachers.ema import LiveEma, decay_of
    from sdretrieval.training.distillation import LiveTargets
    from sdretrieval.training.train import updates_of

    share = live_share(room.config, room.weights)
    if share == 0 or room.scores is None:
        return None, None
    number, member = next(
        (n, m) for n, m in enumerate(members_of(room.config.teacher)) if isinstance(m, EmaConfig) and m.mode == "live"
    )
    updates = updates_of(len(room.candidates), _settings(room, len(room.candidates)))
    snapshot = student_from(room.snapshot, room.config, student.prompts)
    ema = LiveEma(snapshot.model, decay_of(member.half_life, updates))
    return ema, LiveTargets(ema, share, room.scores.members[number].statistics, room.targets.temperature)


def _early_stop(room: Classroom, student: Student) -> EarlyStop | None:
    from sdretrieval.training.train import EarlyStop

    asked = room.config.train.early_stop
    if asked is None:
        return None
    return EarlyStop(_dev_measure(room, student), asked.every, asked.patience)


POOL_DOCUMENTS = 2000
"""Early stopping ranks dev queries in their positives and this many other documents: enough to see a turn, cheap."""


def _dev_measure(room: Classroom, student: Student) -> Callable[[], float]:
    corpus, rows = room.prepared.corpus, room.prepared.rows_of("dev")
    positives = {d for row in rows.tolist() for d in corpus.positives("dev", row)}
    generator = np.random.default_rng(room.config.seed)
    others = generator.permutation(len(corpus.documents))[:POOL_DOCUMENTS]
    pool = np.asarray(sorted(positives | set(others.tolist())), dtype=np.int64)
    asked = [student.query_view.cut(room.tokens.queries[q], student.query_specials)[0] for q in rows]
    shown, left, sources = _dev_documents(room, student, pool)
    measure, qrels = room.config.gate.measure, judgements(room.prepared, "dev")
    cut = int(measure.split("@")[1])

    def value() -> float:
        vectors, masked = shown(), left()
        queries = encode_sequences(student.model, asked, student.query_specials)
        found = exact_search(vectors, queries, min(cut + 1, len(pool)))  # one more: a masked document may leave
        hits = Hits(np.where(found.rows_Qk < 0, -1, pool[found.rows_Qk]), found.scores_Qk)
        if sources:
            position = {row: q for q, row in enumerate(rows.tolist())}
            scores = {row: float(masked[n] @ queries[position[row]]) for n, row in enumerate(sources)}
            hits = Masks(sources, scores).correct_hits(rows, hits, cut)
        run = run_from_hits([corpus.query_ids[q] for q in rows], corpus.document_ids, *hits)
        student.model.train()
        return evaluate(qrels, run, [measure]).mean(measure)

    return value


def _dev_documents(
    room: Classroom, student: Student, pool: Array
) -> tuple[Callable[[], Array], Callable[[], Array], dict[int, int]]:
    """What gives vectors of the `pool`, and of the documents that dev queries were made from, without these; and query
    row -> document row of the latter."""
    found = room.prepared.masked_of("dev")
    sources = {room.prepared.corpus.query_row[one.query]: one.document_row for _, one in found}
    positions = np.asarray([n for n, _ in found], dtype=np.int64)
    if room.kept is not None:
        kept = room.kept.documents
        return lambda: _firsts(kept.documents, pool), lambda: _firsts(kept.masked, positions), sources

    def encoded(tokens: Ragged | None, rows: Array) -> Callable[[], Array]:
        specials = student.document_specials
        shown = [student.view.cut(tokens[row], specials)[0] for row in rows.tolist()] if tokens is not None else []
        return lambda: encode_sequences(student.model, shown, specials)

    return encoded(room.tokens.documents, pool), encoded(room.tokens.masked, positions), sources


def _firsts(vectors: Embeddings | None, rows: Array) -> Array:
    """The first window's vector of each text."""
    return np.asarray(vectors.vectors_WD[vectors.windows[rows]]) if vectors is not None else np.empty((0, 0))


def build_merge(work: Work, config: Config, old: Path, new: Path, share: float) -> None:
    """`student/` = (1 - share) x old + share x new weights (Wortsman et al. 2022); its average is the same model."""
    base, other = student_from(old, config), student_from(new, config)
    theirs = other.model.state_dict()
    merged = {
        name: tensor.lerp(theirs[name].to(tensor.dtype), share) if tensor.dtype.is_floating_point else tensor
        for name, tensor in base.model.state_dict().items()
    }
    base.model.load_state_dict(merged)
    save_student(base.model, work.folder / "student")
    save_student(base.model, work.folder / "average")
    work.counts["share"] = share


def build_precision(work: Work, config: Config, start: Path) -> None:
    """`precision.json`: the faster number format of training, and that of encoding, on this machine, measured."""
    from sdretrieval.training.speed import faster_precision

    model = student_from(start, config).model
    record: dict[str, Any] = {}
    for task in ("train", "encode"):
        precision, ratio = faster_precision(model, training=task == "train")
        record[task] = precision
        record[f"{task}_float32_seconds_over_bfloat16_seconds"] = round(ratio, 3)
    (work.folder / "precision.json").write_text(json.dumps(record) + "\n", encoding="utf8")
    work.counts.update(record)
