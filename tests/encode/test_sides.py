"""Two encoders in one folder: each side meets its own, in this project and in plain sentence-transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from sdretrieval.encode.encoder import encode_sequences
from sdretrieval.encode.model_files import words_folder
from sdretrieval.encode.prompts import Prompts
from sdretrieval.encode.student import Student, joined_by_side, load_student, save_student
from sdretrieval.encode.tokens import tokenize
from sdretrieval.errors import ModelError
from sdretrieval.ragged import Array
from tests.helpers.tiny import write_student

TEXT = "dough and yeast near oslo"
PROMPTS = Prompts("where is ", "near ")


def vector(student: Student, side: str) -> Array:
    """Of TEXT, as this project encodes it."""
    of_query = side == "query"
    model, specials = (
        (student.model, student.query_specials)
        if of_query
        else (student.document_model, student.document_specials)
    )  # fmt: skip
    view = student.query_view if of_query else student.view
    tokens = tokenize([TEXT], model.tokenizer)[0]
    return encode_sequences(model, view.cut(tokens, specials)[:1], specials)[0]


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second bi-encoder of the same words and dims."""
    return write_student(tmp_path_factory.mktemp("models") / "other", seed=3)


@pytest.fixture(scope="module")
def pair(tiny_student: Path, other: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `other` for queries and the tiny student for documents, with prompts."""
    folder = tmp_path_factory.mktemp("pair") / "student"
    asks, holds = (
        load_student(str(path), max_tokens=48, prompts=PROMPTS, device="cpu").model for path in (other, tiny_student)
    )
    save_student(asks, folder, holds)
    return folder


def test_each_side_is_encoded_by_its_own_encoder(pair: Path, tiny_student: Path, other: Path) -> None:
    both = load_student(str(pair), max_tokens=48, device="cpu")
    asks, holds = (
        load_student(str(path), max_tokens=48, prompts=PROMPTS, device="cpu") for path in (other, tiny_student)
    )
    assert both.prompts == PROMPTS and both.dims == 32
    np.testing.assert_array_equal(vector(both, "query"), vector(asks, "query"))
    np.testing.assert_array_equal(vector(both, "document"), vector(holds, "document"))
    assert np.abs(vector(both, "query") - vector(holds, "query")).max() > 0.01


def test_plain_sentence_transformers_takes_the_right_one_and_refuses_to_guess(pair: Path) -> None:
    plain, ours = SentenceTransformer(str(pair), device="cpu"), load_student(str(pair), max_tokens=48, device="cpu")
    np.testing.assert_allclose(plain.encode_query([TEXT])[0], vector(ours, "query"), atol=1e-6)
    np.testing.assert_allclose(plain.encode_document([TEXT])[0], vector(ours, "document"), atol=1e-6)
    assert plain.max_seq_length == 48
    with pytest.raises(ValueError, match="task"):
        plain.encode([TEXT])


def test_one_encoder_stays_a_plain_folder(tiny_student: Path, tmp_path: Path) -> None:
    one = load_student(str(tiny_student), max_tokens=48, device="cpu")
    assert one.document_encoder is None and one.document_model is one.model
    save_student(one.model, tmp_path / "one")
    assert not (tmp_path / "one" / "router_config.json").exists()
    assert words_folder(tmp_path / "one") == tmp_path / "one"


def test_the_limits_of_two_encoders_are_read_from_the_queries(pair: Path) -> None:
    assert words_folder(pair) == pair / "query_0_Transformer"
    with pytest.raises(ModelError, match="has 128 positions, max_tokens asks for 200"):
        load_student(str(pair), max_tokens=200, device="cpu")


def test_encoders_of_unlike_dims_are_refused(tiny_student: Path, tmp_path: Path) -> None:
    wide = write_student(tmp_path / "wide", dims=48)
    asks, holds = (SentenceTransformer(str(path), device="cpu") for path in (wide, tiny_student))
    joined_by_side(asks, holds).save_pretrained(str(tmp_path / "pair"), create_model_card=False)
    with pytest.raises(ModelError, match="its queries have 48 dims, its documents 32; expected the same"):
        load_student(str(tmp_path / "pair"), max_tokens=48, device="cpu")


def test_encoders_of_unlike_words_are_refused(tiny_student: Path, other: Path, tmp_path: Path) -> None:
    asks, holds = (SentenceTransformer(str(path), device="cpu") for path in (other, tiny_student))
    asks.tokenizer.add_tokens(["sourdough"])
    joined_by_side(asks, holds).save_pretrained(str(tmp_path / "pair"), create_model_card=False)
    with pytest.raises(ModelError, match="have different vocabularies; expected one"):
        load_student(str(tmp_path / "pair"), max_tokens=48, device="cpu")
