"""What the student's training minimises: the config's loss, and what it needs beside the targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sdretrieval.config import EmaConfig, members_of
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.training_inputs import TrainingData
from sdretrieval.store import Work
from sdretrieval.targets.calibrate import reduced
from sdretrieval.teachers.dense import AlignedVectors, JoinedVectors, ShuffledVectors, alignment, unit
from sdretrieval.teachers.protocols import HasVectors

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from sdretrieval.training.distillation import Distillation, LiveTargets

ALIGNED_ON = 8192
"""Most documents on which a teacher's vectors are reduced and turned: far more than there are directions."""


def make_loss(work: Work, data: TrainingData, model: SentenceTransformer, live: LiveTargets | None) -> Distillation:
    """What the config asks for; the hard-label control is InfoNCE alone."""
    from sdretrieval.training.distillation import EmbeddingDistillation, ListwiseDistillation, MarginDistillation

    cfg = data.config.train
    positive = data.candidates.positive
    labelled = int((reduced(np.add, positive.values_T, positive, 0.0) > 0).sum())
    common: dict[str, Any] = {
        "student_temperature": cfg.student_temperature,
        "labelled_share": max(labelled, 1) / len(positive),
        "live": live,
    }
    if data.objective == "hard":
        return ListwiseDistillation(model, kl_weight=0.0, hard_label_weight=1.0, **common)
    common["hard_label_weight"] = cfg.hard_label_weight
    if cfg.loss == "embedding":
        return EmbeddingDistillation(model, **common)
    if cfg.loss == "listwise_kl":
        return ListwiseDistillation(model, **common)
    heat, scale = data.targets.temperature, _margin_scale(data)
    work.counts["margin_scale"] = scale
    return MarginDistillation(model, target_temperature=heat, scale=scale, **common)


def _margin_scale(data: TrainingData) -> float:
    """Cosines for one unit of the mixture's score, the live member's snapshot in its place."""
    from sdretrieval.training.losses import margin_scale

    cfg = data.config.train.margin_scale
    assert data.scores is not None
    if cfg != "auto":
        return float(cfg)
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
        for teacher, weight, cfg in zip(data.make_teachers(), data.weights, members, strict=True)
        if weight > 0 and isinstance(teacher, HasVectors)
    ]
    vectors: HasVectors = JoinedVectors([teacher for teacher, _, _ in trusted], [weight for _, weight, _ in trusted])
    if not (len(trusted) == 1 and trusted[0][2]):  # the student's own average has the student's own coordinates
        vectors = _aligned(data, vectors, data.student_vectors)
        work.counts["teacher_vectors_kept"] = vectors.kept
    if data.objective == "shuffled":
        return ShuffledVectors.of(vectors, len(data.collection.corpus.documents), data.config.seed)
    return vectors


def _aligned(data: TrainingData, teacher: HasVectors, student: Vectors) -> AlignedVectors:
    """Fitted on the training queries and on documents as each side sees them."""
    documents, queries = len(data.collection.corpus.documents), data.candidates.query_rows_Q
    drawn = np.sort(np.random.default_rng(data.config.seed).permutation(documents)[:ALIGNED_ON])
    seen = student.documents
    firsts = np.asarray(seen.vectors_WD[seen.windows[drawn]])
    theirs = np.concatenate([teacher.document_vectors(drawn), teacher.query_vectors(queries)])
    map_ED, kept = alignment(theirs, unit(np.concatenate([firsts, student.queries_QD[queries]])))
    return AlignedVectors(teacher, map_ED, kept)
