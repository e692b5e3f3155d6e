"""A document is thinned: words of the query stay or go by a coin, in all their forms."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.indexes.lexical import STOP_WORDS, LexicalIndex
from sdretrieval.indexes.terms import Vocabulary
from sdretrieval.synthetic_queries import SyntheticQuery, thinned
from sdretrieval.synthetic_queries.overlap import HELD, LEAST, MOST, held_share, keep_of, natural_overlap

ENGLISH = Vocabulary(stop_words=STOP_WORDS, stemmer="english")
WORDS = st.lists(st.sampled_from("searching searches searched yeast yeasts warm oven the of how".split()), max_size=12)


def test_a_word_goes_in_all_its_forms_and_function_words_stay() -> None:
    text = "How Searches of an oven are made; searching the warm yeast, how it was searched."
    assert thinned(text, "how was the yeast searched", 0.0, 1, ENGLISH) == (
        "How  of an oven are made;  the warm , how it was ."
    )
    assert thinned(text, "how was the yeast searched", 1.0, 1, ENGLISH) == text


@settings(deadline=None, max_examples=50)
@given(WORDS, WORDS, st.floats(0, 1), st.floats(0, 1), st.integers(0, 9))
def test_what_stays_for_one_probability_stays_for_a_higher_one(
    document: list[str], query: list[str], one: float, other: float, seed: int
) -> None:
    low, high = sorted((one, other))
    few, more = (thinned(" ".join(document), " ".join(query), keep, seed, ENGLISH).split() for keep in (low, high))
    assert set(few) <= set(more) <= set(document)


def test_words_stay_as_often_as_asked() -> None:
    query = " ".join(f"word{n}" for n in range(400))
    kept = len(thinned(query, query, 0.3, 5, ENGLISH).split())
    assert abs(kept / 400 - 0.3) < 3 * np.sqrt(0.3 * 0.7 / 400)


def test_bm25_finds_no_word_that_was_taken_out() -> None:
    texts = ["A warm oven bakes the loaf; yeast, yeasts and more yeast.", "The sail of a vessel."]
    index = LexicalIndex.build(texts)
    left = thinned(texts[0], "yeast ovens", 0.0, 1, index.vocabulary)
    assert index.score_outside(["yeast ovens"], [left])[0] == 0 < index.score_outside(["loaf"], [left])[0]


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("call json.JSONDecoder.raw_decode(x)", "raw decoder", "call json JSON(x)"),
        ("parse_rawData and raw", "raw_data", "parse and "),
    ],
)
def test_of_an_identifier_the_other_parts_stay(text: str, query: str, expected: str) -> None:
    code = Vocabulary(split_identifiers=True, stemmer="english")
    assert thinned(text, query, 0.0, 1, code) == expected


def test_a_script_without_spaces_loses_characters_and_pairs() -> None:
    plain = Vocabulary(stemmer="none")
    left = thinned("東京都の図書館は大きい。", "図書館", 0.0, 1, plain)
    assert "図" not in left and "東京都" in left


def test_documents_hold_the_share_that_their_kind_asks_for() -> None:
    words = [f"word{n}" for n in range(600)]
    half = " ".join(words[::2])  # of the title's words the text has every second one
    query = SyntheticQuery(" ".join(words), 0, "title", half)
    keep = keep_of("title", [query], 0.3, ENGLISH)
    assert keep == pytest.approx(HELD["title"] * 0.3 / 0.5)
    left = thinned(half, query.text, keep, 3, ENGLISH)
    assert held_share(left, query.text, ENGLISH) == pytest.approx(HELD["title"] * 0.3, abs=0.06)
    assert keep_of("title", [query], 0.9, ENGLISH) == 1.0


def test_queries_of_which_documents_hold_more_words_have_more_natural_overlap() -> None:
    index = LexicalIndex.build([f"yeast{n} oven{n} loaf{n} and crust{n}" for n in range(30)])
    full = [f"how yeast{n} oven{n} loaf{n}" for n in range(20)]
    poor = [f"how yeast{n} sail{n} mast{n} hull{n}" for n in range(20)]
    assert natural_overlap(index, full) == MOST and natural_overlap(index, poor) == LEAST
