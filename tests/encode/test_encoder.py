"""Vectors: the library's own, resumable, never silently broken."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.encode import encoder
from sdretrieval.encode.encoder import Embeddings, encode_sequences, encode_texts
from sdretrieval.encode.student import Student, load_student
from sdretrieval.encode.tokens import tokenize
from sdretrieval.encode.views import View
from sdretrieval.errors import NumericError
from sdretrieval.ragged import Array, Ragged
from tests.helpers import tiny

TEXTS = [f"{record['title']} {record['text']}" for record in tiny.documents()]


@pytest.fixture(scope="module")
def student(tiny_student: Path) -> Student:
    return load_student(str(tiny_student), max_tokens=64, device="cpu")


@pytest.fixture(scope="module")
def tokens(student: Student) -> Ragged:
    return tokenize(TEXTS, student.model.tokenizer)


def encode(student: Student, tokens: Ragged, view: View, folder: Path, **settings: Any) -> Embeddings:
    folder.mkdir(exist_ok=True)
    return encode_texts(student.model, tokens, view, student.document_specials, folder, **settings).embeddings


def test_vectors_are_those_of_sentence_transformers(student: Student, tokens: Ragged, tmp_path: Path) -> None:
    expected = student.model.encode(TEXTS, normalize_embeddings=True)
    found = encode(student, tokens, student.view, tmp_path)
    assert found.one_window and max(tokens.lengths) > 64
    assert (np.asarray(found.vectors_WD) * expected).sum(axis=1).min() >= 0.9999


def test_batch_size_does_not_change_the_vectors(student: Student, tokens: Ragged, tmp_path: Path) -> None:
    whole = encode(student, tokens, student.view, tmp_path / "whole")
    small = encode(student, tokens, student.view, tmp_path / "small", batch_tokens=70)
    np.testing.assert_allclose(small.vectors_WD, whole.vectors_WD, atol=1e-6)


def test_reduced_precision_gives_nearly_the_same_vectors_and_writes_float32(
    student: Student, tokens: Ragged, tmp_path: Path
) -> None:
    exact = encode(student, tokens, student.view, tmp_path / "exact")
    reduced = encode(student, tokens, student.view, tmp_path / "reduced", precision="bfloat16")
    assert reduced.vectors_WD.dtype == np.float32
    assert not np.array_equal(reduced.vectors_WD, exact.vectors_WD)
    assert (np.asarray(reduced.vectors_WD) * exact.vectors_WD).sum(axis=1).min() >= 0.999


def test_each_text_owns_the_vectors_of_its_windows(student: Student, tokens: Ragged, tmp_path: Path) -> None:
    view = View(64, "all")
    found = encode(student, tokens, view, tmp_path)
    assert not found.one_window
    for text in (0, 1, 119):
        own = found.vectors_WD[found.windows[text] : found.windows[text + 1]]
        pieces = view.cut(tokens[text], student.document_specials)
        expected = encode_sequences(student.model, pieces, student.document_specials)
        np.testing.assert_allclose(own, expected, atol=1e-6)


def test_a_killed_run_continues_after_its_last_chunk(
    student: Student, tokens: Ragged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    view = View(64, "all")
    expected = encode(student, tokens, view, tmp_path / "whole")
    monkeypatch.setattr(encoder, "WINDOWS_PER_CHUNK", 25)
    counted = Counting(allowed=3)
    monkeypatch.setattr(encoder, "encode_sequences", counted)
    with pytest.raises(KeyboardInterrupt):
        encode(student, tokens, view, tmp_path / "killed")
    note = json.loads((tmp_path / "killed" / "chunks.json").read_text())
    assert (note["done"], note["new"]) == (75, len(expected.vectors_WD))
    before, counted.allowed = counted.windows, 100
    found = encode(student, tokens, view, tmp_path / "killed")
    assert counted.windows == len(expected.vectors_WD) and 0 < before < counted.windows
    np.testing.assert_allclose(found.vectors_WD, expected.vectors_WD, atol=1e-6)
    encode(student, tokens, view, tmp_path / "killed")
    assert counted.windows == len(expected.vectors_WD), "what was done to its end is not done again"


@pytest.mark.parametrize("name", ["vectors.npy", "todo.npy", "digests.npy", "chunks.json"])
@pytest.mark.parametrize("fault", ["flip", "cut"])
def test_half_made_vectors_that_were_damaged_are_made_again(
    student: Student, tokens: Ragged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, fault: str
) -> None:
    monkeypatch.setattr(encoder, "WINDOWS_PER_CHUNK", 25)
    part, expected = (
        tokens.first(60),
        np.array(encode(student, tokens.first(60), View(64), tmp_path / "whole").vectors_WD),
    )
    monkeypatch.setattr(encoder, "encode_sequences", Counting(allowed=1))
    with pytest.raises(KeyboardInterrupt):
        encode(student, part, View(64), tmp_path / "killed")
    path = tmp_path / "killed" / name
    data = bytearray(path.read_bytes())
    data[200 if name == "vectors.npy" else -5] ^= 1
    path.write_bytes(data if fault == "flip" else data[: len(data) // 2])
    monkeypatch.setattr(encoder, "encode_sequences", encode_sequences)
    np.testing.assert_allclose(encode(student, part, View(64), tmp_path / "killed").vectors_WD, expected, atol=1e-6)


class Counting:
    """The real encoder; counts windows, and is killed when more than `allowed` chunks are asked of it."""

    def __init__(self, allowed: int) -> None:
        self.allowed, self.windows = allowed, 0

    def __call__(self, model: Any, sequences: Sequence[Array], *args: Any) -> Array:
        if not self.allowed:
            raise KeyboardInterrupt
        self.allowed -= 1
        self.windows += len(sequences)
        return encode_sequences(model, sequences, *args)


def test_another_view_in_the_folder_is_not_continued(student: Student, tokens: Ragged, tmp_path: Path) -> None:
    expected = np.array(encode(student, tokens, View(64), tmp_path / "whole").vectors_WD)
    np.save(tmp_path / "vectors.npy", np.zeros((7, 32), dtype=np.float32))
    (tmp_path / "chunks.json").write_text('{"done": 7, "new": 7}')
    np.testing.assert_allclose(encode(student, tokens, View(64), tmp_path).vectors_WD, expected, atol=1e-6)


def test_a_full_disk_is_met_before_the_first_text_is_encoded(
    student: Student, tokens: Ragged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    counted = Counting(allowed=100)
    monkeypatch.setattr(encoder, "encode_sequences", counted)
    with monkeypatch.context() as while_full:
        while_full.setattr(os, "posix_fallocate", full, raising=False)
        with pytest.raises(OSError, match="No space left on device"):
            encode(student, tokens, student.view, tmp_path / "full")
    assert counted.windows == 0
    found = encode(student, tokens, student.view, tmp_path / "full")
    expected = encode(student, tokens, student.view, tmp_path / "whole")
    np.testing.assert_array_equal(found.vectors_WD, expected.vectors_WD)


def test_broken_weights_are_named_by_the_first_text_that_shows_them(tiny_student: Path, tmp_path: Path) -> None:
    import torch

    student = load_student(str(tiny_student), max_tokens=64, device="cpu")
    tokens = tokenize(["flour oven", "flour", "anchor oven", "anchor"], student.model.tokenizer)
    with torch.no_grad():
        student.model[0].auto_model.embeddings.word_embeddings.weight[int(tokens[3][0])] = float("nan")
    with pytest.raises(NumericError, match=r"encode: 2 vectors are not finite, the first for text row 2; the model's"):
        encode(student, tokens, student.view, tmp_path)


@pytest.mark.gpu
def test_vectors_of_the_gpu_are_those_of_the_cpu(tiny_student: Path, tokens: Ragged, tmp_path: Path) -> None:
    vectors = {}
    for device in ("cpu", "cuda"):
        student = load_student(str(tiny_student), max_tokens=64, device=device)
        vectors[device] = np.asarray(encode(student, tokens, View(64, "all"), tmp_path / device).vectors_WD)
    assert (vectors["cpu"] * vectors["cuda"]).sum(axis=1).min() >= 0.9999
