"""A bi-encoder as a free teacher: cached vectors, all windows of a document, their maximum.

This is the frozen EMA teacher of a generation (the student's own moving average), whose asymmetry over the student is
the full context: the student sees a document's first tokens, the teacher every window. And it is any other bi-encoder,
whose asymmetry is what it has learnt elsewhere, or with more weights; its vectors may have other dims.

Its vectors may also be a student's targets themselves: joined with other teachers', aligned with the student's.

Legend: Q queries, W windows, M documents, N texts, X texts asked for, E dims of the teacher, D dims of the student.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.model_files import read_settings, routes_of
from sdretrieval.errors import WorkError
from sdretrieval.indexes.hits import Hits
from sdretrieval.ragged import Array, Ragged
from sdretrieval.targets.calibrate import EVIDENCE, mean_spread
from sdretrieval.teachers.ensemble import CALIBRATION_DEPTH
from sdretrieval.teachers.protocols import HasVectors, lists_from_matrix

QUERIES_PER_BLOCK, DOCUMENTS_PER_BLOCK = 64, 16_384
"""Bound the memory of an exhaustive search to the scores of so many queries and documents."""
EVERY_WINDOW = "reads every window of a document, the student only its first tokens"
LARGER = 1.2
"""Times the student's bytes of weights from which on a model is called larger."""
MEGABYTE = 1e6


class DenseTeacher:
    """Scores = max over a document's windows of the inner product with the query's vector.

    `advantage`: what the model itself has over the student, if it is not the student's own average.
    """

    def __init__(self, name: str, queries_QD: Array, documents: Embeddings, *, advantage: str | None = None) -> None:
        self.name = name
        seen = EVERY_WINDOW if not documents.one_window else ""
        if advantage is not None:
            self.asymmetry = f"{advantage}; {seen}" if seen else advantage
        else:
            self.asymmetry = seen or "an average over the student's past; it sees just what the student sees"
        self._queries_QD, self._documents = queries_QD, documents

    def matrix(self, query_rows_Q: Array, document_rows_M: Array) -> Array:
        """See FreeTeacher.matrix."""
        starts = self._documents.windows[document_rows_M]
        ends = self._documents.windows[np.asarray(document_rows_M) + 1]
        windows = np.concatenate([np.arange(a, b) for a, b in zip(starts, ends, strict=True)])
        # One product over all windows of all documents; then the best of each document's run of columns.
        scores_QW = self._queries_QD[query_rows_Q] @ np.asarray(self._documents.vectors_WD[windows]).T
        firsts = np.concatenate([[0], np.cumsum(ends - starts)[:-1]])
        return np.maximum.reduceat(scores_QW, firsts, axis=1).astype(np.float32)

    def query_vectors(self, query_rows: Array) -> Array:
        """See HasVectors."""
        return unit(np.asarray(self._queries_QD[query_rows]))

    def document_vectors(self, document_rows: Array) -> Array:
        """See HasVectors: the mean of a document's windows, of length 1.

        One vector cannot be each window's maximum; the mean is nearest to them all, and speaks of the whole document.
        """
        starts, ends = self._documents.windows[document_rows], self._documents.windows[np.asarray(document_rows) + 1]
        vectors = [np.asarray(self._documents.vectors_WD[a:b]).mean(axis=0) for a, b in zip(starts, ends, strict=True)]
        return unit(np.stack(vectors))

    def score(self, query_rows_Q: Array, candidates: Ragged) -> Ragged:
        """See Teacher.score."""
        return lists_from_matrix(self, query_rows_Q, candidates)

    def top(self, query_rows_Q: Array, k: int) -> Hits:
        """Exhaustive search over all windows, aggregated by document; some queries and documents at a time."""
        k = min(k, len(self._documents.windows) - 1)
        parts = [
            self._top(self._queries_QD[query_rows_Q[start : start + QUERIES_PER_BLOCK]], k)
            for start in range(0, len(query_rows_Q), QUERIES_PER_BLOCK)
        ]
        empty = Hits(np.empty((0, k), dtype=np.int64), np.empty((0, k), dtype=np.float32))
        return Hits(*(np.concatenate(side) for side in zip(empty, *parts, strict=True)))

    def _top(self, queries_QD: Array, k: int) -> Hits:
        best = Hits(np.empty((len(queries_QD), 0), dtype=np.int64), np.empty((len(queries_QD), 0), dtype=np.float32))
        windows = self._documents.windows
        for first in range(0, len(windows) - 1, DOCUMENTS_PER_BLOCK):
            offsets = windows[first : first + DOCUMENTS_PER_BLOCK + 1]
            scores_QW = queries_QD @ self._documents.vectors_WD[offsets[0] : offsets[-1]].T
            scores_QM = np.maximum.reduceat(scores_QW, offsets[:-1] - offsets[0], axis=1)
            rows_QM = np.broadcast_to(np.arange(first, first + len(offsets) - 1), scores_QM.shape)
            best = _best(np.hstack([best.rows_Qk, rows_QM]), np.hstack([best.scores_Qk, scores_QM]), k)
        return best


class HalfTeacher(DenseTeacher):
    """A bi-encoder whose vectors have a lexical half. Its unit is that of the transformer's scores alone, `plain`'s:
    the half spreads them, and BM25's evidence beside it must not grow for that."""

    def __init__(self, name: str, queries_QD: Array, documents: Embeddings, *, plain: DenseTeacher) -> None:
        super().__init__(name, queries_QD, documents)
        self._plain = plain

    def unit(self, query_rows_Q: Array) -> Array:
        """See HasUnit.unit: the same for each query."""
        hits = self._plain.top(query_rows_Q, CALIBRATION_DEPTH)
        spread = mean_spread(scores[rows >= 0] for rows, scores in zip(hits.rows_Qk, hits.scores_Qk, strict=True))
        return np.full(len(query_rows_Q), EVIDENCE * spread, dtype=np.float32)


def _best(rows_QM: Array, scores_QM: Array, k: int) -> Hits:
    """The k highest scores of each query, highest first. A function, so that its large arrays end with it."""
    if scores_QM.shape[1] > k:
        kept_Qk = np.argpartition(-scores_QM, k - 1, axis=1)[:, :k]
        rows_QM, scores_QM = (np.take_along_axis(of_QM, kept_Qk, axis=1) for of_QM in (rows_QM, scores_QM))
    order_Qk = np.argsort(-scores_QM, axis=1, kind="stable")
    return Hits(*(np.take_along_axis(of_QM, order_Qk, axis=1) for of_QM in (rows_QM, scores_QM)))


def unit(vectors_XD: Array) -> Array:
    """Rows of length 1, float32; a row of zeros stays."""
    lengths_X1 = np.linalg.norm(vectors_XD, axis=1, keepdims=True)
    return np.asarray(vectors_XD / np.where(lengths_X1 > 0, lengths_X1, 1.0), dtype=np.float32)


def advantage_over(teacher: Path, student: Path, *, same: bool) -> str:
    """What a model has over the student, by their folders; `same` = both have the same digest."""
    if same:
        return "the student itself, as it was before training"
    theirs, own = weight_bytes(teacher), weight_bytes(student)
    kind = "a larger bi-encoder" if theirs > LARGER * own else "another bi-encoder, trained on other data or otherwise"
    return f"{kind} ({theirs / MEGABYTE:,.0f} MB of weights, the student {own / MEGABYTE:,.0f} MB)"


def weight_bytes(folder: Path) -> int:
    """Bytes of a model's weights on disk; of two encoders' the larger's, since a text passes one."""
    for ending in ("safetensors", "bin"):
        files = [*folder.glob(f"*.{ending}"), *folder.glob(f"*/*.{ending}")]
        if files:
            routes = routes_of(folder) or {"": [path.parent.name for path in files]}
            return max(sum(p.stat().st_size for p in files if p.parent.name in parts) for parts in routes.values())
    return 0


def dims_of(folder: Path) -> int:
    """Length of a model's vectors by its settings, without loading it: a dense layer's, else the hidden size."""
    usual, names = 1024, ("out_features", "hidden_size", "dim", "d_model", "word_embedding_dimension")
    cards = [read_settings(path) for path in (*sorted(folder.glob("*/config.json")), folder / "config.json")]
    sizes = [int(card[name]) for name in names for card in cards if isinstance(card.get(name), int)]
    return sizes[0] if sizes else usual


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
    """The map float32 (E, D) from teacher to student, and the share of the teacher's squared length that it keeps:
    reduced by PCA, then turned towards the student.

    Only inner products count, in the teacher's space and in the student's, so the map must keep them: the first D
    principal directions keep more of them than any other linear map (Eckart and Young 1936), a rotation keeps all.
    Which rotation is free, and the one that brings the targets nearest to where the student's vectors already are
    (orthogonal Procrustes, Schönemann 1966) spares the student from relearning its own coordinates. A layer trained
    along and thrown away would instead learn to bridge the two spaces itself, and the served vectors would owe the
    teacher nothing.

    Row n of both is the same text. If E is at most D nothing is lost. Raises WorkError if the rows differ.
    """
    if len(teacher_NE) != len(student_ND) or not len(teacher_NE):
        raise WorkError(f"alignment: {len(teacher_NE)} vectors of the teacher, {len(student_ND)} of the student")
    teacher_NE, student_ND = teacher_NE.astype(np.float64), student_ND.astype(np.float64)
    size, dims = teacher_NE.shape[1], student_ND.shape[1]
    directions_ED, kept = np.eye(size, dims), 1.0
    if size > dims:
        # Principal directions about the origin: inner products are taken from there, not from the mean.
        values_E, vectors_EE = np.linalg.eigh(teacher_NE.T @ teacher_NE)
        directions_ED = vectors_EE[:, ::-1][:, :dims]
        kept = float(values_E[::-1][:dims].sum() / values_E.sum())
    left_DD, _, right_DD = np.linalg.svd((teacher_NE @ directions_ED).T @ student_ND)
    return (directions_ED @ left_DD @ right_DD).astype(np.float32), kept
