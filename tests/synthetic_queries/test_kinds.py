"""Each kind of query: what it takes from a document, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.synthetic_queries.kinds import Keywords, heading_of, leading_of, span_of, title_of

TEXT = (
    "Plugins are found by their entry points. Each of them may register commands, hooks and settings of its own. "
    "A plugin that fails to load is reported and left out."
)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(3)


def test_a_title_is_hidden_from_the_document(generator: np.random.Generator) -> None:
    taken = title_of("How plugins are found", "How plugins are found\n" + TEXT, generator)
    assert taken is not None and taken.text == "How plugins are found"
    assert taken.query_removed == TEXT


def test_a_passage_below_headings_gives_all_of_them_as_title_and_the_last_as_heading(
    generator: np.random.Generator,
) -> None:
    path = "Manual > Loading of plugins"
    title, heading = title_of(path, TEXT, generator), heading_of(path, TEXT, generator)
    assert title is not None and (title.text, title.query_removed) == ("Manual Loading of plugins", TEXT)
    assert heading is not None and (heading.text, heading.query_removed) == ("Loading of plugins", f"Manual {TEXT}")


def test_a_short_title_is_no_query(generator: np.random.Generator) -> None:
    assert title_of("Plugins", TEXT, generator) is None


@pytest.mark.parametrize("written", ["## Loading of plugins ##", "Loading of plugins\n-----"])
def test_headings_within_a_text(written: str, generator: np.random.Generator) -> None:
    taken = heading_of("Manual", f"{TEXT}\n\n{written}\n\nMore words follow here.", generator)
    assert taken is not None and taken.text == "Loading of plugins"
    assert taken.query_removed is not None and "Loading of plugins" not in taken.query_removed
    assert taken.query_removed.startswith("Manual Plugins are found") and taken.query_removed.endswith(
        "More words follow here."
    )


def test_the_leading_sentence_is_hidden_whole(generator: np.random.Generator) -> None:
    taken = leading_of("Manual", TEXT, generator)
    assert taken is not None and taken.text == "Plugins are found by their entry points."
    assert taken.query_removed is not None and taken.query_removed.startswith("Manual Each of them may register")


def test_a_span_is_a_run_of_words_whose_sentence_is_hidden(generator: np.random.Generator) -> None:
    for _ in range(30):
        taken = span_of("Manual", TEXT, generator)
        assert taken is not None and taken.query_removed is not None
        assert 6 <= len(taken.text.split()) <= 12 and taken.text in TEXT and taken.text not in taken.query_removed


def test_a_text_without_long_sentences_gives_a_span_of_the_whole_and_hides_that_alone(
    generator: np.random.Generator,
) -> None:
    text = "\n".join(f"word{n} = {n}" for n in range(12))
    taken = span_of("Manual", text, generator)
    assert taken is not None and taken.query_removed is not None
    assert 10 < len(taken.query_removed.split()) < 37


def test_a_document_of_which_too_little_is_left_is_not_masked(generator: np.random.Generator) -> None:
    taken = leading_of("", "One sentence of six words here. Two more.", generator)
    assert taken is not None and taken.query_removed is None


def test_scripts_without_spaces(generator: np.random.Generator) -> None:
    text = "插件通过入口点被发现。每个插件都可以注册自己的命令和设置。加载失败的插件会被报告并忽略。"
    taken = span_of("", text, generator)
    assert taken is not None and 6 <= len(taken.text) <= 12 and taken.text in text
    assert taken.query_removed is not None and taken.text not in taken.query_removed
    assert leading_of("", text, generator) is not None


@settings(deadline=None)
@given(st.text("ab .\n#-", max_size=80), st.text("ab >", max_size=20), st.integers(0, 5))
def test_no_text_breaks_a_kind(text: str, title: str, seed: int) -> None:
    for taker in (title_of, heading_of, leading_of, span_of):
        taken = taker(title, text, np.random.default_rng(seed))
        assert taken is None or taken.text == " ".join(taken.text.split()) != ""


def test_keywords_are_rare_words_in_the_order_of_the_text(generator: np.random.Generator) -> None:
    texts = [f"the common words and zebra{n} with okapi{n} in a common text" for n in range(20)]
    words = Keywords(texts)
    for n in range(20):
        query = words.query(texts[n], generator)
        assert query is not None
        found = query.split()
        assert {f"zebra{n}", f"okapi{n}"} <= set(found) and 2 <= len(found) <= 5
        assert found == sorted(found, key=texts[n].index)


def test_texts_of_no_words_have_no_keywords(generator: np.random.Generator) -> None:
    assert Keywords(["?!", "..."]).query("?!", generator) is None
    assert Keywords(["alpha beta", "beta gamma"]).query("delta", generator) is None
