"""Dense and lexical teachers: any pair's score, the same whichever way it is asked for."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.model_files import check_is_bi_encoder
from sdretrieval.encode.views import View
from sdretrieval.errors import ModelError
from sdretrieval.ragged import Ragged
from sdretrieval.teachers import dense as dense_teacher
from sdretrieval.teachers.dense import DenseTeacher, HalfTeacher, advantage_over, dims_of
from sdretrieval.teachers.ensemble import TeacherScores, score_candidates
from sdretrieval.teachers.lexical import LexicalTeacher
from sdretrieval.teachers.protocols import FreeTeacher, Teacher
from tests.teachers.collection import Collection

ROWS = np.asarray([119, 0, 3, 3, 57, 12])


def dense(collection: Collection, view: View) -> DenseTeacher:
    return DenseTeacher("ema", collection.query_vectors, collection.embed(collection.documents, view))


@pytest.fixture(scope="module")
def whole(collection: Collection) -> DenseTeacher:
    return dense(collection, View(64, "all"))


@pytest.fixture(scope="module")
def lexical(collection: Collection) -> LexicalTeacher:
    return LexicalTeacher(collection.lexical, collection.queries)


@pytest.fixture(params=["whole", "lexical"])
def teacher(request: pytest.FixtureRequest) -> FreeTeacher:
    return request.getfixturevalue(request.param)


def test_a_dense_score_is_the_best_windows(collection: Collection, whole: DenseTeacher) -> None:
    documents = collection.embed(collection.documents, View(64, "all"))
    scores = whole.matrix(collection.query_rows, ROWS)
    for q, query in enumerate(collection.query_rows):
        for m, row in enumerate(ROWS):
            windows = documents.vectors_WD[documents.windows[row] : documents.windows[row + 1]]
            assert scores[q, m] == pytest.approx(max(collection.query_vectors[query] @ window for window in windows))
    assert scores.dtype == np.float32


def test_seeing_every_window_never_lowers_a_score(collection: Collection, whole: DenseTeacher) -> None:
    first = dense(collection, View(64)).matrix(collection.query_rows, np.arange(120))
    every = whole.matrix(collection.query_rows, np.arange(120))
    assert (every >= first - 1e-6).all() and (every > first + 1e-3).any()


def test_lexical_scores_are_the_indexs_own(collection: Collection, lexical: LexicalTeacher) -> None:
    texts = [collection.queries[row] for row in collection.query_rows]
    expected = collection.lexical.scores(texts, ROWS)
    np.testing.assert_allclose(lexical.matrix(collection.query_rows, ROWS), expected, rtol=1e-6)


def test_lists_hold_the_matrixs_scores(collection: Collection, teacher: FreeTeacher) -> None:
    whole = teacher.matrix(collection.query_rows, np.arange(120))
    scored = teacher.score(collection.query_rows, collection.candidates)
    for position, rows in enumerate(collection.candidates):
        np.testing.assert_allclose(scored[position], whole[position, rows], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("k", [1, 10, 120, 500])
def test_top_is_the_matrix_sorted(collection: Collection, teacher: FreeTeacher, k: int) -> None:
    hits = teacher.top(collection.query_rows, k)
    best = -np.sort(-teacher.matrix(collection.query_rows, np.arange(120)), axis=1)
    for position, row in enumerate(collection.query_rows):
        found = hits.rows_Qk[position] >= 0
        scores = hits.scores_Qk[position][found]
        np.testing.assert_allclose(scores, best[position, : len(scores)], rtol=1e-5, atol=1e-6)
        again = teacher.matrix(np.asarray([row]), hits.rows_Qk[position][found])[0]
        np.testing.assert_allclose(again, scores, rtol=1e-5, atol=1e-6)
        assert len(set(hits.rows_Qk[position][found].tolist())) == len(scores)


def test_top_over_many_blocks_of_queries(collection: Collection, whole: DenseTeacher) -> None:
    rows = np.arange(80)
    best = whole.matrix(rows, np.arange(120)).max(axis=1)
    np.testing.assert_allclose(whole.top(rows, 3).scores_Qk[:, 0], best, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", [1, 7, 119])
def test_top_is_the_same_over_many_blocks_of_documents(
    collection: Collection, whole: DenseTeacher, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = whole.top(collection.query_rows, 10)
    monkeypatch.setattr(dense_teacher, "DOCUMENTS_PER_BLOCK", block)
    found = whole.top(collection.query_rows, 10)
    np.testing.assert_array_equal(found.rows_Qk, expected.rows_Qk)
    np.testing.assert_allclose(found.scores_Qk, expected.scores_Qk, rtol=1e-6)


def test_top_takes_no_more_memory_for_more_documents() -> None:
    def peak(count: int) -> int:
        vectors_ND = np.random.default_rng(1).standard_normal((count, 8), dtype=np.float32)
        teacher = DenseTeacher("dense", vectors_ND[:64], Embeddings(vectors_ND, np.arange(count + 1)))
        tracemalloc.start()
        try:
            teacher.top(np.arange(64), 5)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(100_000) < 1.2 * peak(25_000)


def test_free_teachers_are_told_from_costly_ones(teacher: FreeTeacher) -> None:
    assert isinstance(teacher, FreeTeacher) and isinstance(teacher, Teacher)


def test_a_dense_teacher_says_what_it_has_over_the_student(collection: Collection, whole: DenseTeacher) -> None:
    assert whole.asymmetry.startswith("reads every window of a document")
    assert "sees just what the student sees" in dense(collection, View(64)).asymmetry


def test_another_model_says_what_it_has_over_the_student(collection: Collection) -> None:
    first, every = (collection.embed(collection.documents, view) for view in (View(64), View(64, "all")))
    for documents, expected in ((first, "a larger one"), (every, "a larger one; reads every window of a document")):
        told = DenseTeacher("dense:x", collection.query_vectors, documents, advantage="a larger one").asymmetry
        assert told.startswith(expected) and ("window" in told) == ("window" in expected)


def test_a_model_is_called_larger_by_its_weights(tmp_path: Path) -> None:
    for name, size in (("small", 1_000_000), ("alike", 1_100_000), ("large", 30_000_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(bytes(size))
    own = tmp_path / "small"
    assert advantage_over(tmp_path / "large", own, same=False) == (
        "a larger bi-encoder (30 MB of weights, the student 1 MB)"
    )
    assert advantage_over(tmp_path / "alike", own, same=False).startswith("another bi-encoder, trained on other data")
    assert advantage_over(own, own, same=True) == "the student itself, as it was before training"


def test_dims_are_read_from_the_settings(tmp_path: Path, tiny_student: Path) -> None:
    assert dims_of(tiny_student) == 32
    assert dims_of(tmp_path) == 1024, "on the safe side where nothing is said"
    (tmp_path / "config.json").write_text('{"hidden_size": 768}')
    assert dims_of(tmp_path) == 768
    (tmp_path / "2_Dense").mkdir()
    (tmp_path / "2_Dense" / "config.json").write_text('{"in_features": 768, "out_features": 512}')
    assert dims_of(tmp_path) == 512


def test_a_reranker_is_no_bi_encoder(tiny_cross_encoder: Path, tiny_student: Path) -> None:
    check_is_bi_encoder("student", tiny_student)
    with pytest.raises(
        ModelError, match=r"'reader' is no bi-encoder: its architecture is BertForSequenceClassification"
    ):
        check_is_bi_encoder("reader", tiny_cross_encoder)


def test_a_lexical_half_does_not_change_a_teachers_unit() -> None:
    """BM25's evidence beside it is in units of the transformer's own spread, on the absolute scale."""
    chance = np.random.default_rng(3)
    plain_ND, half_ND = (chance.normal(size=(40, dims)).astype(np.float32) for dims in (8, 4))
    queries_QD, halves_QD = (chance.normal(size=(5, dims)).astype(np.float32) for dims in (8, 4))
    windows = np.arange(41)
    alone = DenseTeacher("alone", queries_QD, Embeddings(plain_ND, windows))
    joined = HalfTeacher(
        "joined", np.hstack([queries_QD, halves_QD]), Embeddings(np.hstack([plain_ND, half_ND]), windows), plain=alone
    )
    rows, lists = np.arange(5), Ragged.of([np.arange(40)] * 5, np.int64)
    without, with_half = score_candidates([alone, joined], rows, lists, "absolute").members
    np.testing.assert_allclose(with_half.statistics.scale_Q, without.statistics.scale_Q, rtol=1e-5)
    added = halves_QD @ half_ND.T / without.statistics.scale_Q[:, None]
    calibrated = [np.stack(list(one)) for one in TeacherScores((without, with_half)).calibrated()]
    np.testing.assert_allclose(calibrated[1] - calibrated[0], added, rtol=1e-3, atol=1e-4)
