"""What one training learns from: first as artifacts, which are its key, then opened, for the loss and the batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from sdretrieval.config import Config
from sdretrieval.encode.encoder import Precision
from sdretrieval.mining.candidates import Candidates
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.lexical_half import Half
from sdretrieval.stages.teachers import Made
from sdretrieval.stages.tokens import Tokens
from sdretrieval.store.runner import Artifact
from sdretrieval.targets.build import Targets
from sdretrieval.teachers.ensemble import TeacherScores
from sdretrieval.teachers.protocols import Teacher
from sdretrieval.training.tracking import Tracking

Objective = Literal["teacher", "shuffled", "hard"]
"""What is followed: the teacher's targets, the shuffled control, or hard labels alone."""


@dataclass(frozen=True)
class TrainingInputs:
    """Lists, and, if a teacher has a part in it, its targets, its scores and what stages made for it."""

    mined: Artifact
    targets: Artifact | None = None
    scores: Artifact | None = None
    made: Made = field(default_factory=dict)
    student_vectors: Vectors | None = None
    """The student's own, towards which a teacher's are turned (`loss: embedding`)."""
    as_many_updates_as: Artifact | None = None
    """Lists whose number decides the updates, if a control of a run without labels learns from fewer, labelled ones."""

    def artifacts(self) -> list[Artifact]:
        """All of them, as inputs of the training's key."""
        others = (self.targets, self.scores, self.student_vectors, self.as_many_updates_as)
        return [self.mined, *(one for one in (*others, *self.made.values()) if one)]


@dataclass(frozen=True)
class TrainingData:
    """Everything that one training reads, opened.

    `start`: the student's folder; `average`: that of its moving average; `from_base`: whether it is the base student.
    `documents` and `query_removed`: the base student's vectors of all documents, and of documents without the queries
    made from them, if only queries or an adapter learn. `half`: the words' half of all vectors, which does not learn.
    `base`: the base student's vectors, along whose principal directions an exit has fewer dims.
    `seed`: of this training, one of the config's. `use_labels`: whether the train judgements may be known.
    """

    config: Config
    seed: int
    collection: Collection
    tokens: Tokens
    candidates: Candidates
    targets: Targets
    scores: TeacherScores | None
    weights: Sequence[float]
    make_teachers: Callable[[], list[Teacher]]
    start: Path
    average: Path
    from_base: bool
    student_vectors: Vectors | None
    documents: Vectors | None
    query_removed: Vectors | None
    half: Half | None
    base: Vectors | None
    objective: Objective
    epochs: float
    use_labels: bool
    precision: Precision
    expected: float | None = None
    """Seconds of an update, as trials of this machine say."""
    tracking: Tracking | None = None
    """Who else gets the figures."""
