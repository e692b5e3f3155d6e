"""The lexical half: BM25 in a few dims, the same for a text inside and outside the corpus, whole or refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.errors import DamagedArtifact
from sdretrieval.indexes import LexicalIndex
from sdretrieval.indexes.lexical_half import CARD, LexicalHalf

WORDS = st.lists(st.sampled_from("warm yeast oven sail mast dough loaf vessel".split()), max_size=8).map(" ".join)
TEXTS = ["dough rises, the yeast is warm", "a warm oven bakes the loaf, yeast and yeast", "sail and mast of a vessel"]


def half_of(texts: list[str], dims: int, scale: float = 1.0) -> tuple[LexicalIndex, LexicalHalf]:
    index = LexicalIndex.build(texts)
    return index, LexicalHalf.fit(index, dims, scale)


@settings(max_examples=25)
@given(texts=st.lists(WORDS, min_size=2, max_size=6), queries=st.lists(WORDS, min_size=1, max_size=3))
def test_with_dims_to_spare_the_product_is_bm25_over_the_querys_norm(texts: list[str], queries: list[str]) -> None:
    index, half = half_of([*texts, "an anchor"], 32, scale=0.3)
    expected = index.scores(queries, range(index.count)) / np.maximum(index.norm(queries), 1e-6)[:, None]
    found = half.queries(queries) @ half.of_weights(index.weights_NV).T
    np.testing.assert_allclose(found, 0.3 * expected, atol=1e-4)


def test_a_text_has_the_same_half_inside_and_outside_the_corpus() -> None:
    index, half = half_of(TEXTS, 2)
    np.testing.assert_allclose(half.documents(TEXTS), half.of_weights(index.weights_NV), atol=1e-5)
    assert half.documents([""]).tolist() == [[0, 0]]


def test_a_word_that_no_document_holds_takes_trust_from_the_others() -> None:
    _, half = half_of(TEXTS, 2)
    known, diluted, nothing = half.queries(["warm yeast", "warm yeast xylophone", "xylophone"])
    assert 0 < np.linalg.norm(diluted) < np.linalg.norm(known) and not nothing.any()
    np.testing.assert_allclose(diluted / np.linalg.norm(diluted), known / np.linalg.norm(known), atol=1e-5)


def test_dims_that_a_small_corpus_cannot_fill_are_zero() -> None:
    _, half = half_of(TEXTS, 8)
    assert half.dims == 8 and not half.documents(TEXTS)[:, 3:].any() and half.documents(TEXTS)[:, :3].any()


def test_what_was_saved_maps_as_before(tmp_path: Path) -> None:
    _, half = half_of(TEXTS, 2)
    half.save(tmp_path)
    again = LexicalHalf.load(tmp_path)
    np.testing.assert_array_equal(again.documents(TEXTS), half.documents(TEXTS))
    np.testing.assert_array_equal(again.queries(["warm sails"]), half.queries(["warm sails"]))


@pytest.mark.parametrize("damage", ["a term too few", "no arrays", "no card"])
def test_a_damaged_half_is_named(tmp_path: Path, damage: str) -> None:
    _, half = half_of(TEXTS, 2)
    half.save(tmp_path)
    if damage == "a term too few":
        card = json.loads((tmp_path / CARD).read_text())
        card["terms"].pop()
        (tmp_path / CARD).write_text(json.dumps(card))
    else:
        (tmp_path / (CARD if damage == "no card" else "lexical_half.safetensors")).unlink()
    with pytest.raises(DamagedArtifact, match=r"holds no readable lexical half .*; make it again"):
        LexicalHalf.load(tmp_path)
