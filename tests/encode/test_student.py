"""A loaded bi-encoder gives the vectors that sentence-transformers gives, or says why it cannot."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from sdretrieval.encode.batches import features_of
from sdretrieval.encode.encoder import encode_sequences
from sdretrieval.encode.prompts import Prompts
from sdretrieval.encode.student import Student, load_student, save_student
from sdretrieval.encode.tokens import tokenize
from sdretrieval.encode.views import Specials, View
from sdretrieval.errors import ModelError
from sdretrieval.ragged import Array
from tests.helpers import tiny

TEXTS = [f"{record['title']} {record['text']}" for record in tiny.documents()[:12]]


def vectors(student: Student, texts: list[str], view: View, specials: Specials) -> Array:
    tokens = tokenize(texts, student.model.tokenizer)
    return encode_sequences(student.model, [view.cut(ids, specials)[0] for ids in tokens], specials)


def least_cosine(found: Array, expected: Array) -> float:
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    return float(((found * expected).sum(axis=1) / lengths).min())


@pytest.mark.parametrize("max_tokens", [16, 64, 128])
def test_documents_are_cut_as_sentence_transformers_cuts(tiny_student: Path, max_tokens: int) -> None:
    student = load_student(str(tiny_student), max_tokens=max_tokens, device="cpu")
    found = vectors(student, TEXTS, student.view, student.document_specials)
    assert least_cosine(found, student.model.encode(TEXTS)) >= 0.9999


@pytest.mark.parametrize("include_prompt", [True, False])
def test_prompts_are_seen_and_pooled_as_in_sentence_transformers(tiny_student: Path, include_prompt: bool) -> None:
    prompts = Prompts(query="where is: ", document="dust: ")
    student = load_student(str(tiny_student), max_tokens=48, prompts=prompts, device="cpu")
    student.model[1].include_prompt = include_prompt
    for prompt, specials in ((prompts.query, student.query_specials), (prompts.document, student.document_specials)):
        found = vectors(student, TEXTS, student.view, specials)
        assert least_cosine(found, student.model.encode(TEXTS, prompt=prompt)) >= 0.9999
        assert least_cosine(found, student.model.encode(TEXTS)) < 0.9999


def test_the_models_own_prompts_are_used_unless_others_are_given(tiny_student: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_student, tmp_path / "prompted")
    card = folder / "config_sentence_transformers.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"prompts": {"query": "q: ", "document": "d: "}}))
    assert load_student(str(folder), max_tokens=32, device="cpu").prompts == Prompts("q: ", "d: ")
    given = load_student(str(folder), max_tokens=32, device="cpu", prompts=Prompts("x: ", ""))
    assert given.prompts == Prompts("x: ", "")


def test_a_cosine_model_without_unit_length_gets_it_and_keeps_it(tiny_student: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_student, tmp_path / "plain")
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:-1]))
    student = load_student(str(folder), max_tokens=64, device="cpu")
    found = vectors(student, TEXTS, student.view, student.document_specials)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    save_student(student.model, tmp_path / "saved")
    again = load_student(str(tmp_path / "saved"), max_tokens=64, device="cpu")
    np.testing.assert_allclose(vectors(again, TEXTS, again.view, again.document_specials), found, atol=1e-6)


def test_a_dot_product_model_keeps_its_lengths(tiny_student: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_student, tmp_path / "dot")
    modules = json.loads((folder / "modules.json").read_text())
    (folder / "modules.json").write_text(json.dumps(modules[:-1]))
    card = folder / "config_sentence_transformers.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"similarity_fn_name": "dot"}))
    student = load_student(str(folder), max_tokens=64, device="cpu")
    found = vectors(student, TEXTS, student.view, student.document_specials)
    assert np.abs(np.linalg.norm(found, axis=1) - 1.0).min() > 0.01


def test_the_query_view_is_shorter_but_never_longer_than_the_documents(tiny_student: Path) -> None:
    assert load_student(str(tiny_student), max_tokens=100, query_tokens=32, device="cpu").query_view == View(32)
    assert load_student(str(tiny_student), max_tokens=24, query_tokens=32, device="cpu").query_view == View(24)


def test_a_context_longer_than_the_positions_is_refused(tiny_student: Path) -> None:
    expected = (
        r"has 128 positions, max_tokens asks for 256; set max_tokens to at most 128 \(a teacher may .*windows: all\}\}"
    )
    with pytest.raises(ModelError, match=expected.replace(r"\}\}", r"\}")):
        load_student(str(tiny_student), max_tokens=256, device="cpu")


def test_positions_of_roberta_and_its_kin_start_behind_the_padding_id(tiny_student: Path) -> None:
    from types import SimpleNamespace

    from transformers import RobertaConfig

    from sdretrieval.encode.student import positions_of

    config = RobertaConfig(max_position_embeddings=514, pad_token_id=1)
    assert positions_of(SimpleNamespace(auto_model=SimpleNamespace(config=config))) == 512


def test_positions_of_a_model_of_texts_and_images_are_those_of_its_texts() -> None:
    from sdretrieval.encode.student import positions_in

    assert positions_in({"model_type": "clip", "text_config": {"max_position_embeddings": 77}}) == 77


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_a_gpu_is_refused(tiny_student: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        ModelError, match=rf"device: {device} was asked for, torch sees no GPU; use device: auto or cpu"
    ):
        load_student(str(tiny_student), max_tokens=64, device=device)
    assert load_student(str(tiny_student), max_tokens=64, device="auto").model.device.type == "cpu"


def test_a_student_that_was_only_encoded_with_can_still_be_trained(tiny_student: Path) -> None:
    student = load_student(str(tiny_student), max_tokens=32, device="cpu")
    tokens = tokenize(TEXTS, student.model.tokenizer)
    shown = [student.view.cut(ids, student.document_specials)[0] for ids in tokens]
    encode_sequences(student.model, shown, student.document_specials)
    student.model(features_of(student.model, shown, student.document_specials))["sentence_embedding"].sum().backward()
    assert student.model[0].auto_model.embeddings.word_embeddings.weight.grad is not None


def test_a_folder_without_modules_says_what_is_assumed(
    tiny_student: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("sdretrieval"), "propagate", True)
    folder = Path(shutil.copytree(tiny_student, tmp_path / "part"))
    (folder / "modules.json").unlink()
    with caplog.at_level(logging.WARNING, logger="sdretrieval"):
        load_student(str(folder), max_tokens=32, device="cpu")
    assert any("has no modules.json, so mean pooling is assumed" in message for message in caplog.messages)
