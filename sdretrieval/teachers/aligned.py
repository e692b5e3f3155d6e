"""A teacher's vectors as targets for a student of other dimensions: reduced by PCA, then turned towards the student.

Only inner products count, in the teacher's space and in the student's. So the map must keep them: the first D principal
directions keep more of them than any other linear map (Eckart and Young 1936), a rotation keeps all. Which rotation is
free, and the one that brings the targets nearest to where the student's vectors already lie (orthogonal Procrustes,
Schönemann 1966) spares the student from relearning its own coordinates. A layer trained along and thrown away would
instead learn to bridge the two spaces itself, and the served vectors would owe the teacher nothing.

Legend: N texts, E dims of the teacher, D dims of the student, X texts asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sdretrieval.errors import WorkError
from sdretrieval.ragged import Array
from sdretrieval.teachers.dense import unit
from sdretrieval.teachers.protocols import HasVectors


@dataclass(frozen=True)
class JoinedVectors:
    """Several teachers' vectors, each times the root of its weight, end to end: their inner product is the weighted
    mean of the members' inner products."""

    members: Sequence[HasVectors]
    weights: Sequence[float]

    def query_vectors(self, query_rows: Array) -> Array:
        """See HasVectors."""
        return self._joined([member.query_vectors(query_rows) for member in self.members])

    def document_vectors(self, document_rows: Array) -> Array:
        """See HasVectors."""
        return self._joined([member.document_vectors(document_rows) for member in self.members])

    def _joined(self, parts: list[Array]) -> Array:
        roots = np.sqrt(np.asarray(self.weights) / np.sum(self.weights))
        return unit(np.concatenate([root * part for root, part in zip(roots, parts, strict=True)], axis=1))


@dataclass(frozen=True)
class AlignedVectors:
    """A teacher's vectors times `map_ED`, of length 1. `kept`: share of their squared length that the map keeps."""

    teacher: HasVectors
    map_ED: Array
    kept: float

    def query_vectors(self, query_rows: Array) -> Array:
        """See HasVectors."""
        return unit(self.teacher.query_vectors(query_rows) @ self.map_ED)

    def document_vectors(self, document_rows: Array) -> Array:
        """See HasVectors."""
        return unit(self.teacher.document_vectors(document_rows) @ self.map_ED)


@dataclass(frozen=True)
class ShuffledVectors:
    """A control: every document has the vector of another one, queries keep theirs."""

    teacher: HasVectors
    order_N: Array

    @staticmethod
    def of(teacher: HasVectors, documents: int, seed: int) -> ShuffledVectors:
        """Documents on a ring in an order drawn from `seed`; each takes its successor's vector."""
        ring_N = np.random.default_rng(seed).permutation(documents)
        order_N = np.empty(documents, dtype=np.int64)
        order_N[ring_N] = np.roll(ring_N, -1)
        return ShuffledVectors(teacher, order_N)

    def query_vectors(self, query_rows: Array) -> Array:
        """See HasVectors."""
        return self.teacher.query_vectors(query_rows)

    def document_vectors(self, document_rows: Array) -> Array:
        """See HasVectors."""
        return self.teacher.document_vectors(self.order_N[document_rows])


def alignment(teacher_NE: Array, student_ND: Array) -> tuple[Array, float]:
    """The map float32 (E, D) from teacher to student, and the share of the teacher's squared length that it keeps.

    Row n of both is the same text. Where E is at most D nothing is lost. Raises WorkError where the rows differ.
    """
    if len(teacher_NE) != len(student_ND) or not len(teacher_NE):
        raise WorkError(f"alignment: {len(teacher_NE)} vectors of the teacher, {len(student_ND)} of the student")
    teacher_NE, student_ND = teacher_NE.astype(np.float64), student_ND.astype(np.float64)
    directions_ED, kept = _principal(teacher_NE, student_ND.shape[1])
    left_DD, _, right_DD = np.linalg.svd((teacher_NE @ directions_ED).T @ student_ND)
    return (directions_ED @ left_DD @ right_DD).astype(np.float32), kept


def _principal(teacher_NE: Array, dims: int) -> tuple[Array, float]:
    """The first `dims` principal directions about the origin (inner products are taken from there, not from the mean);
    unit directions and zeros where the teacher has no more than `dims`."""
    size = teacher_NE.shape[1]
    if size <= dims:
        return np.eye(size, dims), 1.0
    values_E, vectors_EE = np.linalg.eigh(teacher_NE.T @ teacher_NE)
    return vectors_EE[:, ::-1][:, :dims], float(values_E[::-1][:dims].sum() / values_E.sum())
