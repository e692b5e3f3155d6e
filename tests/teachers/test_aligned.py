"""A teacher's vectors for a student of other dimensions: inner products stay, the student need not turn."""

from __future__ import annotations

import numpy as np
import pytest

from sdretrieval.encode.encoder import Embeddings
from sdretrieval.errors import WorkError
from sdretrieval.ragged import Array
from sdretrieval.teachers.dense import AlignedVectors, DenseTeacher, JoinedVectors, ShuffledVectors, alignment, unit
from sdretrieval.teachers.lexical import LexicalTeacher
from sdretrieval.teachers.protocols import HasVectors


def vectors(rows: int, dims: int, seed: int, rank: int | None = None) -> Array:
    """Unit vectors, of a rank where one is asked for."""
    generator = np.random.default_rng(seed)
    inner = generator.normal(size=(rows, rank or dims))
    return unit(inner if rank is None else inner @ generator.normal(size=(rank, dims)))


def teacher(documents: Array, queries: Array) -> DenseTeacher:
    return DenseTeacher("dense", queries, Embeddings(documents, np.arange(len(documents) + 1)))


def test_a_bi_encoder_has_vectors_and_bm25_has_none() -> None:
    assert isinstance(teacher(vectors(3, 4, 0), vectors(2, 4, 1)), HasVectors)
    assert not issubclass(LexicalTeacher, HasVectors)


def test_a_document_of_several_windows_is_their_mean_at_length_1() -> None:
    windows = np.asarray([[1, 0], [0, 1], [0.6, 0.8]], dtype=np.float32)
    one = DenseTeacher("dense", windows[:1], Embeddings(windows, np.asarray([0, 2, 3])))
    np.testing.assert_allclose(one.document_vectors(np.asarray([1, 0])), [[0.6, 0.8], [0.5**0.5, 0.5**0.5]], atol=1e-6)
    assert one.document_vectors(np.asarray([0])).dtype == np.float32


@pytest.mark.parametrize("dims", [8, 12], ids=["as many dimensions", "more dimensions of the student"])
def test_turning_keeps_every_inner_product(dims: int) -> None:
    theirs = vectors(50, 8, 1)
    map_ED, kept = alignment(theirs, vectors(50, dims, 2))
    assert (map_ED.shape, kept) == ((8, dims), 1.0)
    turned = AlignedVectors(teacher(theirs, theirs), map_ED, kept).document_vectors(np.arange(50))
    np.testing.assert_allclose(turned @ turned.T, theirs @ theirs.T, atol=1e-5)


def test_a_teacher_that_is_the_turned_student_comes_back_to_where_the_student_is() -> None:
    ours = vectors(60, 6, 3)
    rotation, _ = np.linalg.qr(np.random.default_rng(4).normal(size=(6, 6)))
    map_ED, _ = alignment(ours @ rotation, ours)
    np.testing.assert_allclose(ours @ rotation @ map_ED, ours, atol=1e-5)


def test_reduction_keeps_what_can_be_kept_and_says_how_much() -> None:
    low = vectors(80, 16, 5, rank=4)
    map_ED, kept = alignment(low, vectors(80, 4, 6))
    assert kept == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose((low @ map_ED) @ (low @ map_ED).T, low @ low.T, atol=1e-4)
    full = vectors(400, 16, 7)
    map_ED, kept = alignment(full, vectors(400, 4, 8))
    best = np.linalg.svd(full.astype(np.float64), compute_uv=False)[:4] ** 2
    assert kept == pytest.approx(best.sum() / 400, rel=1e-6)
    np.testing.assert_allclose(map_ED.T @ map_ED, np.eye(4), atol=1e-5)


def test_joined_vectors_multiply_to_the_weighted_mean_of_the_members() -> None:
    first, second = vectors(9, 4, 1), vectors(9, 6, 2)
    joined = JoinedVectors([teacher(first, first), teacher(second, second)], [3.0, 1.0])
    found = joined.query_vectors(np.arange(9)) @ joined.document_vectors(np.arange(9)).T
    np.testing.assert_allclose(found, 0.75 * first @ first.T + 0.25 * second @ second.T, atol=1e-5)


def test_the_shuffled_control_gives_every_document_another_ones_vector() -> None:
    real = teacher(vectors(30, 4, 1), vectors(5, 4, 2))
    shuffled = ShuffledVectors.of(real, 30, seed=13)
    rows = np.arange(30)
    assert sorted(shuffled.order_N.tolist()) == rows.tolist() and not (shuffled.order_N == rows).any()
    np.testing.assert_array_equal(
        shuffled.document_vectors(rows), real.document_vectors(ShuffledVectors.of(real, 30, seed=13).order_N)
    )
    np.testing.assert_array_equal(shuffled.query_vectors(np.arange(5)), real.query_vectors(np.arange(5)))


def test_rows_that_are_not_the_same_texts_are_refused() -> None:
    with pytest.raises(WorkError, match="3 vectors of the teacher, 2 of the student"):
        alignment(vectors(3, 4, 1), vectors(2, 4, 2))
