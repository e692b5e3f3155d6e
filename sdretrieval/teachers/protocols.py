"""What a teacher is. Separate protocols, so that caching a moving teacher cannot be written down.

`Teacher` is frozen: the `score` stage asks it once and the store remembers. `LiveTeacher` moves with the student and is
called inside training only.

Legend: Q queries, M documents of a batch, T candidates of all lists together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from sdretrieval.indexes.hits import Hits
from sdretrieval.ragged import Array, Ragged

if TYPE_CHECKING:
    import torch


@runtime_checkable
class Teacher(Protocol):
    """A frozen teacher. `asymmetry` says in one sentence what it has that the student lacks at serving time."""

    name: str
    asymmetry: str

    def score(self, query_rows_Q: Array, candidates: Ragged) -> Ragged:
        """Raw float32 score of every candidate (document rows) of every query; never NaN."""
        ...


@runtime_checkable
class FreeTeacher(Teacher, Protocol):
    """A teacher that gives any pair's score at no cost worth counting: it may score all documents of a batch."""

    def matrix(self, query_rows_Q: Array, document_rows_M: Array) -> Array:
        """Raw float32 scores, shape (Q, M)."""
        ...

    def top(self, query_rows_Q: Array, k: int) -> Hits:
        """The teacher's own best k documents of the corpus, from which its scores are calibrated."""
        ...


@runtime_checkable
class HasUnit(FreeTeacher, Protocol):
    """A free teacher whose score 0 means no evidence at all, and that knows what is much for a query beforehand."""

    def unit(self, query_rows_Q: Array) -> Array:
        """What scores of each query are divided by, float32 (Q,)."""
        ...


@runtime_checkable
class HasVectors(Protocol):
    """A teacher that has a vector for each text, float32, of length 1: a student may regress on these themselves."""

    def query_vectors(self, query_rows: Array) -> Array:
        """Vectors of queries by row, shape (number of rows, dims)."""
        ...

    def document_vectors(self, document_rows: Array) -> Array:
        """One vector a document, by row, shape (number of rows, dims)."""
        ...


@runtime_checkable
class PartialTeacher(Teacher, Protocol):
    """A teacher that does not know every pair: what it does not know may leave the soft target."""

    def unknown(self, query_rows_Q: Array, candidates: Ragged) -> Ragged | None:
        """bool: the candidates that leave their list's target; None if each of them stays in it."""
        ...


class LiveTeacher(Protocol):
    """A teacher that moves with the student during training."""

    def update(self, student: torch.nn.Module, step: int) -> None:
        """Take one step towards the student, after the optimiser's step number `step`."""
        ...

    def matrix(self, queries: list[dict[str, Any]], documents: list[dict[str, Any]] | torch.Tensor) -> torch.Tensor:
        """Raw scores (Q, M) of the batch's features, in parts, without gradient. `documents` may also be vectors
        (M, D), if documents keep those they have."""
        ...


def lists_from_matrix(teacher: FreeTeacher, query_rows_Q: Array, candidates: Ragged) -> Ragged:
    """Score ragged candidate lists through a free teacher's matrix, one query at a time."""
    import numpy as np

    values = np.empty(len(candidates.values_T), dtype=np.float32)
    for position, row in enumerate(query_rows_Q):
        start, end = candidates.offsets[position], candidates.offsets[position + 1]
        if end > start:
            values[start:end] = teacher.matrix(np.asarray([row]), candidates[position])[0]
    return candidates.with_values(values)
