"""Encoders with a vector for each token, or for the whole vocabulary: the library's scores, the best window of a long
document, each document encoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.encode.views import View
from sdretrieval.errors import NumericError
from sdretrieval.ragged import Ragged
from sdretrieval.teachers import multi_vector
from sdretrieval.teachers.multi_vector import MultiVectorTeacher, load_multi_vector, token_idf
from sdretrieval.teachers.pairs import PairCache
from sdretrieval.teachers.protocols import FreeTeacher, Teacher
from tests.helpers import tiny
from tests.teachers.collection import Collection


@pytest.fixture(scope="module", params=["multi_vector", "sparse"])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(scope="module")
def model(kind: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    write = tiny.write_multi_vector if kind == "multi_vector" else tiny.write_sparse
    return load_multi_vector(str(write(tmp_path_factory.mktemp("models") / kind)), kind, device="cpu")[0]


def teacher_of(model: Any, kind: Any, collection: Collection, folder: Path, **settings: Any) -> MultiVectorTeacher:
    return MultiVectorTeacher(
        model,
        kind=kind,
        name=kind,
        query_text=collection.queries.__getitem__,
        document_text=collection.documents.__getitem__,
        cache=PairCache(folder),
        **{"view": View(64), **settings},
    )


def of_library(model: Any, collection: Collection) -> np.ndarray[Any, Any]:
    """(80 or more queries, 120 documents)."""
    queries, documents = model.encode_query(collection.queries), model.encode_document(collection.documents)
    return np.asarray(model.similarity(queries, documents))


def test_scores_are_the_librarys(model: Any, kind: Any, collection: Collection, tmp_path: Path) -> None:
    view = View(tiny.POSITIONS)  # beyond the model's own limit, which the library keeps to
    teacher = teacher_of(model, kind, collection, tmp_path, view=view)
    short = [row for row, text in enumerate(collection.documents) if len(text.split()) < 40]
    lists = Ragged.of([short[:9], [], short[4:30]], np.int64)
    found = teacher.score(np.asarray([3, 8, 9]), lists)
    expected = of_library(model, collection)
    assert found[0] == pytest.approx(expected[3, short[:9]], abs=1e-5)
    assert found[2] == pytest.approx(expected[9, short[4:30]], abs=1e-5)
    assert np.ptp(found[2]) > 1e-3
    assert isinstance(teacher, Teacher) and not isinstance(teacher, FreeTeacher)


def test_the_best_window_of_a_long_document_counts(
    model: Any, kind: Any, collection: Collection, tmp_path: Path
) -> None:
    long = next(row for row, text in enumerate(collection.documents) if len(text.split()) > 100)
    words = collection.documents[long].split()
    lists = Ragged.of([[long]], np.int64)
    every = teacher_of(model, kind, collection, tmp_path / "all", view=View(20, "all", 8))
    first = teacher_of(model, kind, collection, tmp_path / "first", view=View(20))
    windows = every._windows(collection.documents[long])
    assert len(windows) > 10 and " ".join(words).startswith(windows[0]) and " ".join(words).endswith(windows[-1])
    assert {word for window in windows for word in window.split()} >= set(words), "no word is lost between windows"
    query = model.encode_query([collection.queries[3]])
    each = np.asarray(model.similarity(query, model.encode_document(windows)))[0]
    assert every.score(np.asarray([3]), lists).values_T == pytest.approx([each.max()], abs=1e-5)
    assert first.score(np.asarray([3]), lists).values_T == pytest.approx([each[0]], abs=1e-5)
    assert each.argmax() > 0, "else the test shows nothing"
    assert "every window" in every.asymmetry and "every window" not in first.asymmetry


def test_a_document_of_many_lists_is_encoded_once_and_no_pair_is_scored_twice(
    model: Any, kind: Any, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    plain = type(model).encode_document
    monkeypatch.setattr(
        type(model), "encode_document", lambda own, texts, **more: (read.extend(texts), plain(own, texts, **more))[1]
    )
    monkeypatch.setattr(multi_vector, "COMPARED_AT_ONCE", 7)
    teacher = teacher_of(model, kind, collection, tmp_path)
    whole = teacher.score(collection.query_rows, collection.candidates)
    assert len(read) == len(set(collection.candidates.values_T.tolist())) < len(collection.candidates.values_T)
    monkeypatch.setattr(multi_vector, "WINDOWS_AT_ONCE", 3)
    parted = teacher_of(model, kind, collection, tmp_path / "parted", batch_tokens=64)
    monkeypatch.setattr(multi_vector, "PAIRS_PER_SHARD", 10)
    again = parted.score(collection.query_rows, collection.candidates)
    assert again.values_T == pytest.approx(whole.values_T, abs=1e-5)
    assert len(list((tmp_path / "parted").glob("*.safetensors"))) == -(-parted.newly_scored // 10), "a kill loses ten"
    resumed = teacher_of(model, kind, collection, tmp_path / "parted")
    assert (resumed.score(collection.query_rows, collection.candidates).values_T == again.values_T).all()
    assert resumed.newly_scored == 0


def test_a_bi_encoder_compares_what_it_pools_rare_words_first(
    collection: Collection, tiny_student: Path, tmp_path: Path
) -> None:
    own = load_multi_vector(str(tiny_student), "multi_vector", device="cpu")[0]
    idf_V = token_idf(own, collection.documents)
    teacher = teacher_of(own, "multi_vector", collection, tmp_path, view=View(128), idf_V=idf_V)
    rows = [row for row, text in enumerate(collection.documents) if len(text.split()) < 40][:12]
    found = teacher.score(np.asarray([3]), Ragged.of([rows], np.int64)).values_T
    plain = collection.student.model
    tokens_TD, *of_documents = (
        np.asarray(one / one.norm(dim=1, keepdim=True))
        for one in plain.encode([collection.queries[3], *(collection.documents[row] for row in rows)],
                                output_value="token_embeddings")
    )  # fmt: skip
    weights_T = idf_V[plain.tokenizer(collection.queries[3])["input_ids"]]
    expected = [weights_T @ (tokens_TD @ of_document.T).max(1) / weights_T.sum() for of_document in of_documents]
    assert found == pytest.approx(expected, abs=1e-4)
    spread = sorted(
        zip(
            weights_T.round(2).tolist(),
            plain.tokenizer.tokenize(collection.queries[3], add_special_tokens=True),
            strict=True,
        )
    )
    assert spread[-1][0] > 3 * spread[0][0] and {spread[0][1], spread[1][1]} <= {"[CLS]", "[SEP]"}


def test_in_bfloat16_scores_stay_near(model: Any, kind: Any, collection: Collection, tmp_path: Path) -> None:
    lists = Ragged.of([list(range(20))], np.int64)
    exact, near = (
        teacher_of(model, kind, collection, tmp_path / precision, precision=precision)
        .score(np.asarray([3]), lists)
        .values_T
        for precision in ("float32", "bfloat16")
    )
    assert (near != exact).any() and near == pytest.approx(exact, rel=0.03)


def test_a_score_that_is_no_number_is_named_with_its_pair(
    model: Any, kind: Any, collection: Collection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(type(model), "similarity_pairwise", lambda own, a, b: torch.full((len(a),), torch.nan))
    with pytest.raises(NumericError, match=rf"teacher {kind}: 1 scores are not finite, the first for query 'where is"):
        teacher_of(model, kind, collection, tmp_path).score(np.asarray([3]), Ragged.of([[1]], np.int64))
