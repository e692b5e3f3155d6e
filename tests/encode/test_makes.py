"""Models of every make: vectors are those of sentence-transformers, and what is saved gives them again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    Dense,
    LayerNorm,
    Normalize,
    Pooling,
    StaticEmbedding,
)
from torch import nn

from sdretrieval.encode.encoder import encode_sequences
from sdretrieval.encode.prompts import Prompts
from sdretrieval.encode.student import Student, load_student, save_student
from sdretrieval.encode.tokens import tokenize
from sdretrieval.errors import ModelError
from sdretrieval.export.encoders import torch_encoder
from sdretrieval.ragged import Array
from tests.helpers import tiny

TEXTS = [f"{record['title']} {record['text']}" for record in tiny.documents()[:6]]
LONG = " ".join(TEXTS)
Make = Callable[[Any], Sequence[nn.Module]]


def pooled(mode: Any, *more: nn.Module) -> Make:
    return lambda words: [words, Pooling(32, mode), *more]


def dense() -> nn.Module:
    return Dense(32, 16, activation_function=nn.Tanh())


def padded_left(words: Any) -> list[nn.Module]:
    words.tokenizer.padding_side = words.tokenizer.truncation_side = "left"
    return [words, Pooling(32, "lasttoken")]


def static(words: Any) -> list[nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return [StaticEmbedding(words.tokenizer.backend_tokenizer, embedding_dim=24)]


MAKES: dict[str, Make] = {
    "last token": pooled("lasttoken"),
    "weighted mean": pooled("weightedmean"),
    "two poolings": pooled(("cls", "max")),
    "padding on the left": padded_left,
    "a dense layer": pooled("mean", dense()),
    "a dense layer behind unit length": pooled("mean", Normalize(), dense()),
    "a layer norm": pooled("cls", LayerNorm(32)),
    "static": static,
}


def made(make: str, tiny_student: Path, folder: Path) -> Path:
    words = SentenceTransformer(str(tiny_student), device="cpu")[0]
    SentenceTransformer(modules=list(MAKES[make](words)), device="cpu").save_pretrained(str(folder))
    return folder


def vectors(student: Student, side: str) -> Array:
    """Of TEXTS and LONG, as mining, training and search see them."""
    of_query = side == "query"
    view, specials = (
        (student.query_view, student.query_specials) if of_query else (student.view, student.document_specials)
    )
    tokens = tokenize([*TEXTS, LONG], student.tokenizer)
    return encode_sequences(student.model, [view.cut(ids, specials)[0] for ids in tokens], specials)


@pytest.mark.parametrize("make", MAKES)
def test_what_is_saved_serves_the_vectors_and_the_lengths_that_were_measured(
    make: str, tiny_student: Path, tmp_path: Path
) -> None:
    folder, prompts = made(make, tiny_student, tmp_path / "made"), Prompts("where is: ", "dust: ")
    student = load_student(str(folder), max_tokens=40, query_tokens=12, prompts=prompts, device="cpu")
    queries, documents = vectors(student, "query"), vectors(student, "document")
    np.testing.assert_allclose(np.linalg.norm(documents, axis=1), 1.0, atol=1e-6)
    save_student(student.model, tmp_path / "saved")
    served = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    np.testing.assert_allclose(served.encode_query([*TEXTS, LONG]), queries, atol=2e-6)
    np.testing.assert_allclose(served.encode_document([*TEXTS, LONG]), documents, atol=2e-6)
    assert np.abs(queries - documents).max() > 1e-4


def test_the_words_of_an_empty_text_are_none(tiny_student: Path, tmp_path: Path) -> None:
    student = load_student(str(made("static", tiny_student, tmp_path / "made")), max_tokens=40, device="cpu")
    assert not student.document_specials.count and student.query_view == student.view
    assert np.isfinite(encode_sequences(student.model, [np.empty(0, np.int32)] * 2, student.document_specials)).all()


def chat_template(model: SentenceTransformer, folder: Path) -> None:
    model[0].modality_config = {"text": model[0].modality_config["text"], "message": model[0].modality_config["text"]}
    model.save_pretrained(str(folder))


def bag_of_words(model: SentenceTransformer, folder: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import BoW

    SentenceTransformer(modules=[BoW(["comet", "dust", "yeast"]), Dense(3, 8)], device="cpu").save_pretrained(
        str(folder)
    )


def router_behind(model: SentenceTransformer, folder: Path) -> None:
    from sentence_transformers.sentence_transformer.modules import Router

    router = Router({"query": [Dense(32, 32)], "document": [Dense(32, 32)]})
    SentenceTransformer(modules=[*model, router], device="cpu").save_pretrained(str(folder))


def later_layers_of_other_size(model: SentenceTransformer, folder: Path) -> None:
    SentenceTransformer(modules=[*model, Dense(16, 8)], device="cpu").save_pretrained(str(folder))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (chat_template, "puts texts into a chat template"),
        (bag_of_words, "begins with a BoW, expected a Transformer or a StaticEmbedding"),
        (router_behind, "has a Router behind its first module"),
        (later_layers_of_other_size, "gives no vectors of 8 dims for a text"),
    ],
)
def test_what_cannot_be_read_as_plain_texts_is_refused(
    make: Callable[[SentenceTransformer, Path], None], expected: str, tiny_student: Path, tmp_path: Path
) -> None:
    make(SentenceTransformer(str(tiny_student), device="cpu"), tmp_path / "made")
    with pytest.raises(ModelError, match=expected):
        load_student(str(tmp_path / "made"), max_tokens=40, device="cpu")


@pytest.mark.parametrize("format", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
def test_half_precision_is_loaded_in_float32_and_said_once(
    format: torch.dtype, tiny_student: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = SentenceTransformer(str(tiny_student), device="cpu")
    model.to(format).save_pretrained(str(tmp_path / "half"))
    model.float().save_pretrained(str(tmp_path / "same"))  # with the rounded weights
    with caplog.at_level("INFO", logger="sdretrieval"):
        half, _, same = (
            load_student(str(tmp_path / name), max_tokens=40, device="cpu") for name in ("half", "half", "same")
        )
    said = [line for line in caplog.messages if "is stored in" in line]
    assert len(said) == 1 and f"half is stored in {str(format)[6:]}: it is loaded in float32" in said[0]
    np.testing.assert_array_equal(vectors(half, "document"), vectors(same, "document"))
    np.testing.assert_allclose(np.linalg.norm(vectors(half, "query"), axis=1), 1.0, atol=1e-6)
    save_student(half.model, tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["dtype"] == "float32"


def test_two_encoders_serve_the_lengths_of_their_sides(tiny_student: Path, tmp_path: Path) -> None:
    other = load_student(str(tiny.write_student(tmp_path / "other", seed=3)), max_tokens=40, query_tokens=12)
    documents = load_student(str(tiny_student), max_tokens=40, query_tokens=12, device="cpu")
    save_student(other.model, tmp_path / "pair", documents.model)
    served = SentenceTransformer(str(tmp_path / "pair"), device="cpu")
    np.testing.assert_allclose(served.encode_query([LONG])[0], vectors(other, "query")[-1], atol=2e-6)
    np.testing.assert_allclose(served.encode_document([LONG])[0], vectors(documents, "document")[-1], atol=2e-6)


def test_a_static_encoder_of_queries_beside_a_transformer_of_documents(tiny_student: Path, tmp_path: Path) -> None:
    """They share their words, and each has its own special tokens."""
    from sentence_transformers.sentence_transformer.modules import Router

    documents = SentenceTransformer(str(tiny_student), device="cpu")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        queries = StaticEmbedding(documents.tokenizer.backend_tokenizer, embedding_dim=32)
    router = Router({"query": [queries], "document": list(documents)}, default_route=None, allow_empty_key=False)
    SentenceTransformer(modules=[router], device="cpu").save_pretrained(str(tmp_path / "pair"))
    pair = load_student(str(tmp_path / "pair"), max_tokens=40, device="cpu")
    save_student(pair.model, tmp_path / "saved", pair.document_model)
    served, ours = SentenceTransformer(str(tmp_path / "saved"), device="cpu"), torch_encoder(pair)
    np.testing.assert_allclose(served.encode_query([LONG]), ours.queries([LONG]), atol=2e-6)
    np.testing.assert_allclose(served.encode_document([LONG]), ours.documents([LONG]), atol=2e-6)


def test_a_model_without_a_pooler_is_whole(tiny_student: Path, tmp_path: Path) -> None:
    """Most published encoders lack it: no bi-encoder reads what it makes."""
    from safetensors.torch import load_file, save_file

    folder = Path(shutil.copytree(tiny_student, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("pooler.")}
    assert len(kept) < len(tensors)
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    load_student(str(folder), max_tokens=40, device="cpu")


def test_a_token_that_no_text_gets_may_lie_beyond_the_matrix(tiny_student: Path, tmp_path: Path) -> None:
    """As of models that have left their images behind (gemma); but not the one that pads."""
    model = SentenceTransformer(str(tiny_student), device="cpu")
    model.tokenizer.add_tokens(["<image>"])
    model.save_pretrained(str(tmp_path / "images"))
    load_student(str(tmp_path / "images"), max_tokens=40, device="cpu")
    model.tokenizer.add_special_tokens({"pad_token": "<pads>"})
    model.save_pretrained(str(tmp_path / "pads"))
    with pytest.raises(ModelError, match="its tokenizer's ids go up to 3.., its embedding matrix has 3.. rows"):
        load_student(str(tmp_path / "pads"), max_tokens=40, device="cpu")


def test_a_layer_without_a_place_is_reported(
    tiny_student: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = Path(shutil.copytree(tiny_student, tmp_path / "model"))
    card = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(card | {"num_hidden_layers": 1}))
    with caplog.at_level("WARNING", logger="sdretrieval"):
        load_student(str(folder), max_tokens=40, device="cpu")
    assert any("config.json has no place for weights of layers in its files" in line for line in caplog.messages)
