"""Token ids: the tokenizer's own, without specials, kept and read back unchanged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.encode import tokens
from sdretrieval.encode.tokens import load_tokens, specials_of, tokenize, tokenize_into

TEXTS = ["dough oven", "", "anchor " * 300, "zqx, unseen!"]


@pytest.fixture(scope="module")
def tokenizer(tiny_student: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(str(tiny_student))


def test_tokens_are_the_tokenizers_own_uncut_and_without_specials(tokenizer: Any) -> None:
    found = tokenize(TEXTS, tokenizer)
    expected = [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) for text in TEXTS]
    assert [ids.tolist() for ids in found] == expected
    assert found.values_T.dtype == np.int32


def test_texts_of_many_calls_stay_in_order(tokenizer: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = tokenize(TEXTS, tokenizer)
    monkeypatch.setattr(tokens, "TEXTS_PER_CALL", 3)
    split = tokenize(TEXTS, tokenizer)
    np.testing.assert_array_equal(split.values_T, whole.values_T)
    np.testing.assert_array_equal(split.offsets, whole.offsets)


def test_saved_tokens_are_read_back(tokenizer: Any, tmp_path: Path) -> None:
    made = tokenize(TEXTS, tokenizer)
    tokenize_into(tmp_path, TEXTS, tokenizer)
    found = load_tokens(tmp_path)
    np.testing.assert_array_equal(found.values_T, made.values_T)
    np.testing.assert_array_equal(found.offsets, made.offsets)
    assert isinstance(found.values_T, np.memmap)


def test_specials_and_prompt_make_what_the_tokenizer_makes_of_prompt_and_text(tokenizer: Any) -> None:
    specials = specials_of(tokenizer, "where is: ")
    content = tokenize(["the dough"], tokenizer)[0].tolist()
    joined = [*specials.prefix, *specials.prompt, *content, *specials.suffix]
    assert joined == tokenizer("where is: the dough")["input_ids"]
