"""Tokens while they are made: a stop anywhere costs one chunk, and the end is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.encode import tokens
from sdretrieval.encode.reuse import ReusableArtifact
from sdretrieval.encode.tokens import load_tokens, tokenize, tokenize_into

TEXTS = [f"dough oven {'anchor ' * (n % 7)}{n}" for n in range(50)]
CHUNK = 8
FILES = ["digests.npy", "offsets.npy", "tokens.json", "tokens.npy"]


@pytest.fixture(scope="module")
def tokenizer(tiny_student: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(tiny_student))


class Stopping:
    """A tokenizer that notes what it is asked for, and fails once it was asked `calls` times."""

    def __init__(self, tokenizer: Any, calls: int) -> None:
        self.tokenizer, self.calls, self.asked = tokenizer, calls, list[str]()

    def __call__(self, texts: list[str], **how: Any) -> Any:
        if self.calls == 0:
            raise RuntimeError("stopped")
        self.calls -= 1
        self.asked += texts
        return self.tokenizer(texts, **how)


@pytest.mark.parametrize("calls", [0, 1, 3])
def test_a_stopped_tokenizing_goes_on_after_its_last_chunk(
    tokenizer: Any, calls: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tokens, "TEXTS_PER_CALL", CHUNK)
    with pytest.raises(RuntimeError, match="stopped"):
        tokenize_into(tmp_path, TEXTS, Stopping(tokenizer, calls))
    with (tmp_path / "made.int32").open("ab") as stream:  # a kill between the ids and the note
        stream.write(b"half a chunk")
    rest = Stopping(tokenizer, 100)
    with caplog.at_level("INFO", "sdretrieval"):
        found, reused = tokenize_into(tmp_path, TEXTS, rest)
    assert rest.asked == TEXTS[calls * CHUNK :] and reused == 0
    assert f"continuing after {calls * CHUNK} of 50 texts" in caplog.text
    expected = tokenize(TEXTS, tokenizer)
    np.testing.assert_array_equal(found.values_T, expected.values_T)
    np.testing.assert_array_equal(found.offsets, expected.offsets)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_a_finished_tokenizing_asks_for_nothing(tokenizer: Any, tmp_path: Path) -> None:
    first, _ = tokenize_into(tmp_path, TEXTS, tokenizer)
    again, _ = tokenize_into(tmp_path, TEXTS, Stopping(tokenizer, 0))
    np.testing.assert_array_equal(first.values_T, again.values_T)
    assert sorted(path.name for path in tmp_path.iterdir()) == FILES


def test_what_was_made_for_other_rows_is_not_gone_on_with(
    tokenizer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "TEXTS_PER_CALL", CHUNK)
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    tokenize_into(tmp_path / "old", TEXTS[:20], tokenizer)
    with pytest.raises(RuntimeError, match="stopped"):
        tokenize_into(tmp_path / "new", TEXTS, Stopping(tokenizer, 2))
    rest = Stopping(tokenizer, 100)  # an earlier result has come to light in between
    found, reused = tokenize_into(tmp_path / "new", TEXTS, rest, reusable=[ReusableArtifact(tmp_path / "old")])
    assert (rest.asked, reused) == (TEXTS[20:], 20)
    np.testing.assert_array_equal(found.values_T, tokenize(TEXTS, tokenizer).values_T)


def test_texts_without_tokens_and_no_texts_at_all(tokenizer: Any, tmp_path: Path) -> None:
    for name, texts in (("empty", ["", ""]), ("none", [])):
        (tmp_path / name).mkdir()
        found, _ = tokenize_into(tmp_path / name, texts, tokenizer)
        assert len(found) == len(texts) == len(load_tokens(tmp_path / name)) and len(found.values_T) == 0


@pytest.mark.parametrize("name", ["made.int32", "made-lengths.int64", "made.json", "digests.npy"])
@pytest.mark.parametrize("fault", ["flip", "cut"])
def test_half_made_tokens_that_were_damaged_are_made_again(
    tokenizer: Any, name: str, fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "TEXTS_PER_CALL", CHUNK)
    with pytest.raises(RuntimeError, match="stopped"):
        tokenize_into(tmp_path, TEXTS, Stopping(tokenizer, 3))
    spoil(tmp_path / name, fault)
    found, _ = tokenize_into(tmp_path, TEXTS, tokenizer)
    expected = tokenize(TEXTS, tokenizer)
    np.testing.assert_array_equal(found.values_T, expected.values_T)
    np.testing.assert_array_equal(found.offsets, expected.offsets)


@pytest.mark.parametrize("name", ["tokens.npy", "offsets.npy", "tokens.json"])
@pytest.mark.parametrize("fault", ["flip", "cut"])
def test_tokens_that_were_damaged_before_they_became_an_artifact_are_made_again(
    tokenizer: Any, name: str, fault: str, tmp_path: Path
) -> None:
    expected, _ = tokenize_into(tmp_path, TEXTS, tokenizer)
    values, offsets = np.array(expected.values_T), np.array(expected.offsets)
    spoil(tmp_path / name, fault)
    found, _ = tokenize_into(tmp_path, TEXTS, tokenizer)
    np.testing.assert_array_equal(found.values_T, values)
    np.testing.assert_array_equal(found.offsets, offsets)


def spoil(path: Path, fault: str) -> None:
    data = bytearray(path.read_bytes())
    data[-len(data) // 3] ^= 1
    path.write_bytes(data if fault == "flip" else data[: len(data) // 2])
