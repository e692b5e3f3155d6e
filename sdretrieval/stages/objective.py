"""What the student's training minimises: the config's loss, and what it needs beside the targets."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np

from sdretrieval.config import EmaConfig, members_of
from sdretrieval.encode.encoder import encode_sequences
from sdretrieval.encode.student import Student
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.training_inputs import TrainingData
from sdretrieval.store import Work
from sdretrieval.targets.calibrate import reduced
from sdretrieval.teachers.dense import AlignedVectors, JoinedVectors, ShuffledVectors, alignment, unit
from sdretrieval.teachers.protocols import HasVectors
from sdretrieval.teachers.query_removed import whole

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from sdretrieval.training.distillation import Distillation, LiveTargets

logger = logging.getLogger("sdretrieval")

SCORED_LISTS = 32
"""Lists on which the unit of the student's scores is measured, some hundred documents."""
ALIGNED_ON = 8192
"""Most documents on which a teacher's vectors are reduced and turned: far more than there are directions."""


def make_loss(
    work: Work, data: TrainingData, student: Student, model: SentenceTransformer, live: LiveTargets | None
) -> Distillation:
    """What the config asks for, with its temperature in the unit of the student's scores (`score_unit`); the hard-label
    control is InfoNCE alone. `model`: what learns, the student's or its adapter."""
    from sdretrieval.training.distillation import EmbeddingDistillation, ListwiseDistillation, MarginDistillation
    from sdretrieval.training.exits import Exits

    cfg, unit_of_score = data.config.train, score_unit(data, student)
    positive, exits = data.candidates.positive, None
    if data.config.exits:
        sizes = [(one.layers, one.dims) for one in data.config.exits]
        exits = Exits(model, sizes, _directions(data), data.config.student.model)
    labelled = int((reduced(np.add, positive.values_T, positive, 0.0) > 0).sum())
    common: dict[str, Any] = {
        "student_temperature": cfg.student_temperature * unit_of_score,
        "labelled_share": max(labelled, 1) / len(positive),
        "live": live,
        "batch_tokens": cfg.batch_tokens,
        "exits": exits,
    }
    if unit_of_score != 1.0:
        work.counts["score_unit"] = unit_of_score
        logger.info(
            "the student's scores are inner products that differ %.3g times as much as its cosines: its temperature is "
            "%.3g times train.student_temperature, which is meant for cosines", unit_of_score, unit_of_score,
        )  # fmt: skip
    if data.objective == "hard":
        return ListwiseDistillation(model, kl_weight=0.0, hard_label_weight=1.0, **common)
    common["hard_label_weight"] = cfg.hard_label_weight
    common["label_evidence"] = data.config.targets.label_evidence
    if cfg.loss == "embedding":
        return EmbeddingDistillation(model, **common)
    if cfg.loss == "listwise_kl":
        return ListwiseDistillation(model, **common)
    heat, scale = data.targets.temperature, _margin_scale(data, unit_of_score)
    work.counts["margin_scale"] = scale
    return MarginDistillation(model, target_temperature=heat, scale=scale, **common)


def _directions(data: TrainingData) -> Array | None:
    """The principal ones of the base student's documents, as many as an exit keeps at most; None: all have all dims."""
    from sdretrieval.training.smaller import principal_dims

    if data.base is None:
        return None
    seen = data.base.documents
    drawn = np.sort(np.random.default_rng(data.config.seed).permutation(len(seen.windows) - 1)[:ALIGNED_ON])
    return principal_dims(seen.vectors_WD[seen.windows[drawn]], max(one.dims or 0 for one in data.config.exits))


def score_unit(data: TrainingData, student: Student) -> float:
    """What a cosine is worth in the student's scores as it starts: 1 if its vectors have length 1.

    A `dot` model's vectors are longer, and its scores differ more: divided by a temperature meant for cosines they
    would make a softmax that is all but one-hot. The unit is the standard deviation of its scores within lists, over
    that of the same pairs' cosines.
    """
    from sdretrieval.training.losses import margin_scale

    if student.unit_length:
        return 1.0
    lists = data.candidates.take(np.unique(np.linspace(0, len(data.candidates) - 1, SCORED_LISTS).astype(np.int64)))
    rows, queries = np.unique(lists.rows.values_T), lists.query_rows_Q
    specials = student.query_specials
    asked = [student.query_view.cut(data.tokens.queries[row], specials)[0] for row in queries.tolist()]
    queries_QD = encode_sequences(student.model, asked, specials)
    if data.documents is not None:  # only queries learn: documents keep the vectors they have
        kept = data.documents.documents
        documents_MD = np.asarray(kept.vectors_WD[kept.windows[rows]])
    else:
        specials = student.document_specials
        shown = [student.view.cut(data.tokens.documents[row], specials)[0] for row in rows.tolist()]
        documents_MD = encode_sequences(student.document_model, shown, specials)

    def scores(queries_QD: Array, documents_MD: Array) -> Ragged:
        of_query_TD, of_document_TD = queries_QD[lists.rows.list_of_entry], documents_MD[positions_T]
        return lists.rows.with_values((of_query_TD * of_document_TD).sum(axis=1))

    positions_T = np.searchsorted(rows, lists.rows.values_T)
    return margin_scale(scores(queries_QD, documents_MD), scores(unit(queries_QD), unit(documents_MD)))


def _margin_scale(data: TrainingData, unit_of_score: float) -> float:
    """The student's scores for one unit of the mixture's score, the live member's snapshot in its place."""
    from sdretrieval.training.losses import margin_scale

    cfg = data.config.train.margin_scale
    assert data.scores is not None
    if cfg != "auto":
        return float(cfg) * unit_of_score
    mixed, unknown = data.scores.mixed(data.weights), data.scores.unknown(data.weights)
    if unknown is not None:  # what no teacher scored has a score that stands in for it, and says nothing of the spread
        mixed = mixed.with_values(np.where(unknown.values_T, -np.inf, mixed.values_T))
    return margin_scale(data.candidates.scores, mixed)


def teacher_vectors(work: Work, data: TrainingData) -> HasVectors | None:
    """The teacher's vectors in the student's dimensions, if the student regresses on them."""
    if data.config.train.loss != "embedding" or data.objective == "hard" or data.student_vectors is None:
        return None
    members = members_of(data.config.teacher)
    trusted = [
        (teacher, weight, isinstance(cfg, EmaConfig))
        for teacher, weight, cfg in zip(map(whole, data.make_teachers()), data.weights, members, strict=True)
        if weight > 0 and isinstance(teacher, HasVectors)
    ]
    vectors: HasVectors = JoinedVectors([teacher for teacher, _, _ in trusted], [weight for _, weight, _ in trusted])
    if not (len(trusted) == 1 and trusted[0][2]):  # the student's own average has the student's own coordinates
        vectors = _aligned(data, vectors, data.student_vectors)
        work.counts["teacher_vectors_kept"] = vectors.kept
    if data.objective == "shuffled":
        return ShuffledVectors.of(vectors, len(data.collection.corpus.documents), data.seed)
    return vectors


def _aligned(data: TrainingData, teacher: HasVectors, student: Vectors) -> AlignedVectors:
    """Fitted on the training queries and on documents as each side sees them."""
    documents, queries = len(data.collection.corpus.documents), data.candidates.query_rows_Q
    drawn = np.sort(np.random.default_rng(data.seed).permutation(documents)[:ALIGNED_ON])
    seen = student.documents
    firsts = np.asarray(seen.vectors_WD[seen.windows[drawn]])
    theirs = np.concatenate([teacher.document_vectors(drawn), teacher.query_vectors(queries)])
    map_ED, kept = alignment(theirs, unit(np.concatenate([firsts, student.queries_QD[queries]])))
    return AlignedVectors(teacher, map_ED, kept)
