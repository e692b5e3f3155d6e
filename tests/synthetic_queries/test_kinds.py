"""Each kind of query: what it takes from a document, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.synthetic_queries.kinds import Keywords, asked, question_of, sentence_of, title_of

TEXT = (
    "Plugins are found by their entry points. Each of them may register commands, hooks and settings of its own. "
    "A plugin that fails to load is reported and left out."
)


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(3)


def test_a_title_is_removed_from_the_document(generator: np.random.Generator) -> None:
    taken = title_of("How plugins are found", "How plugins are found\n" + TEXT, None, generator)
    assert taken is not None and taken.text == "How plugins are found"
    assert taken.query_removed == TEXT


def test_a_passage_below_headings_gives_all_of_them_as_title_and_the_last_as_question(
    generator: np.random.Generator,
) -> None:
    path = "Manual > Loading of plugins"
    title, question = title_of(path, TEXT, None, generator), question_of(path, TEXT, None, generator)
    assert title is not None and (title.text, title.query_removed) == ("Manual Loading of plugins", TEXT)
    assert question is not None and question.query_removed == f"Manual {TEXT}"
    assert question.text.endswith("?") and "loading of plugins" in question.text


def test_a_short_title_is_no_query(generator: np.random.Generator) -> None:
    assert title_of("Plugins", TEXT, None, generator) is None


@pytest.mark.parametrize("written", ["## Loading of plugins ##", "Loading of plugins\n-----"])
def test_headings_within_a_text(written: str, generator: np.random.Generator) -> None:
    taken = question_of("", f"{TEXT}\n\n{written}\n\nMore words follow here.", None, generator)
    assert taken is not None and "loading of plugins" in taken.text
    assert "Loading of plugins" not in taken.query_removed
    assert taken.query_removed.startswith("Plugins are found") and taken.query_removed.endswith(
        "More words follow here."
    )


def test_a_heading_that_is_a_question_stays_one() -> None:
    assert asked("How plugins are found", "what is {}?") == "How plugins are found"
    assert asked("HTTP status codes.", "what is {}?") == "what is HTTP status codes?"


def test_a_sentence_goes_whole_and_is_as_long_as_asked(generator: np.random.Generator) -> None:
    sentences = TEXT.split(". ")
    for length in (None, 7):
        for _ in range(20):
            taken = sentence_of("Manual", TEXT, length, generator)
            assert taken is not None and taken.text in TEXT and taken.text not in taken.query_removed
            source = next(sentence for sentence in sentences if taken.text.rstrip(".") in sentence)
            assert source.rstrip(".") not in taken.query_removed
            assert len(taken.text.split()) == (len(source.split()) if length is None else 7)


def test_a_text_without_long_sentences_gives_a_run_of_the_whole_which_alone_goes(
    generator: np.random.Generator,
) -> None:
    text = "\n".join(f"word{n} = {n}" for n in range(12))
    taken = sentence_of("Manual", text, 8, generator)
    assert taken is not None and len(taken.query_removed.split()) == 37 - 8


def test_a_document_of_which_too_little_is_left_stays_whole(generator: np.random.Generator) -> None:
    taken = sentence_of("Manual", "One sentence of six words here. Two.", None, generator)
    assert taken is not None and taken.query_removed == "Manual One sentence of six words here. Two."


def test_scripts_without_spaces(generator: np.random.Generator) -> None:
    text = "插件通过入口点被发现。每个插件都可以注册自己的命令和设置。加载失败的插件会被报告并忽略。"
    taken = sentence_of("", text, 9, generator)
    assert taken is not None and len(taken.text) == 9 and taken.text in text
    assert taken.text not in taken.query_removed


@settings(deadline=None)
@given(st.text("ab .\n#-", max_size=80), st.text("ab >", max_size=20), st.integers(0, 5))
def test_no_text_breaks_a_kind(text: str, title: str, seed: int) -> None:
    for taker in (title_of, question_of, sentence_of):
        taken = taker(title, text, None, np.random.default_rng(seed))
        assert taken is None or taken.text == " ".join(taken.text.split()) != ""


def test_keywords_are_telling_words_in_the_order_of_the_text(generator: np.random.Generator) -> None:
    texts = [f"the common words and zebra{n} with okapi{n} in a common text" for n in range(20)]
    words = Keywords(texts)
    for n in range(20):
        query = words.query(texts[n], None, generator)
        assert query is not None
        found = query.split()
        assert 2 <= len(found) <= 5 and "the" not in found and found == sorted(found, key=texts[n].index)
        assert len((words.query(texts[n], 3, generator) or "").split()) == 3


def test_texts_of_no_words_have_no_keywords(generator: np.random.Generator) -> None:
    assert Keywords(["?!", "..."]).query("?!", None, generator) is None
    assert Keywords(["alpha beta", "beta gamma"]).query("delta", None, generator) is None
