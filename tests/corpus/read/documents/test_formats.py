"""Text, Markdown, reStructuredText and HTML: what a block is, and that broken markup loses no words."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.corpus.read.documents.blocks import Parsed, sentences, word_count
from sdretrieval.corpus.read.documents.encodings import decode
from sdretrieval.corpus.read.documents.html import parse_html
from sdretrieval.corpus.read.documents.markdown import parse_markdown
from sdretrieval.corpus.read.documents.plain import parse_plain
from sdretrieval.corpus.read.documents.rst import parse_rst
from tests.corpus.read.documents.said import H, L, P, said


def test_plain_text() -> None:
    text = """
        The Title
        =========
        A paragraph that
        is wrapped.

        - one
        - two that
          is wrapped

        A part
        ------

        1984 was a year.\fA new page
    """
    assert said(parse_plain, text) == [
        (H, "The Title", 1),
        (P, "A paragraph that is wrapped."),
        (L, "- one"),
        (L, "- two that is wrapped"),
        (H, "A part", 2),
        (P, "1984 was a year."),
        (P, "A new page"),
    ]


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_html, "<div>" * 1000 + "<header>a</header>" * 1000 + "<a>a " * 1000 + "end"),
        (parse_html, "<table><tr>" + "<td>a " * 1000 + "end"),
        (parse_html, "<![CDATA[<title>" * 50_000 + "<" + "<!--" * 50_000 + "<![CDATA[]]>end"),
        (parse_markdown, "[" * 3000 + "> " * 500 + "end"),
        (parse_rst, "**a :a" * 3000 + " end"),
        (parse_rst, "\n".join(" " * depth + "x" for depth in range(300)) + "\n\n" + "- " * 1000 + "end"),
    ],
)
def test_hostile_markup_takes_no_long_time_and_keeps_its_end(parse: Callable[[str], Parsed], text: str) -> None:
    start = time.perf_counter()
    assert parse(text).blocks[-1].text.endswith("end")
    assert time.perf_counter() - start < 10


@pytest.mark.parametrize(
    ("parse", "broken"),
    [
        (parse_html, "<p>kept <b>words <table><tr><td>here</p></b> <unknown a='>and here"),
        (parse_html, "<p>kept <![1 words</p><p>here <![nothing]> and</p>"),
        (parse_markdown, "# [kept](words **here\n\n> ```\nand here"),
        (parse_rst, ".. note::\nkept ``words\n====\n\n* **here\n\n  .. code::\n\nand here"),
        (parse_plain, "====\nkept words\n\n-\nhere and here\n===="),
    ],
)
def test_broken_markup_loses_no_words(parse: Callable[[str], Parsed], broken: str) -> None:
    text = " ".join(block.text for block in parse(broken).blocks)
    expected = {"kept", "words", "here"} if parse is parse_html else {"kept", "words", "here", "and"}
    assert expected <= set(re.findall(r"\w+", text))


@pytest.mark.parametrize("parse", [parse_plain, parse_markdown, parse_rst, parse_html])
@settings(max_examples=200, deadline=None)
@given(text=st.text(alphabet="ab \n\t-=*#`:.<>|+_&[]()!/~'\"\\1", max_size=200))
def test_no_text_makes_a_parser_raise(parse: Callable[[str], Parsed], text: str) -> None:
    for block in parse(text).blocks:
        assert block.kind is not H or block.level >= 1


GAPS = [
    " ",
    "\n",
    "\n\n",
    "\r\n",
    "\r",
    "\f",
    "\v",
    "\t",
    "\u00a0",
    "\u2028",
    "\n===\n",
    "\n\n----\n",
    "\n- ",
    "\n1) ",
    "\n* * *\n",
]


@settings(max_examples=100, deadline=None)
@given(
    words=st.lists(st.text(alphabet=st.characters(categories=["L", "M", "N"]), min_size=1), min_size=1, max_size=15),
    gaps=st.lists(st.sampled_from(GAPS), min_size=15, max_size=15),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_every_word_of_plain_text_comes_out(words: list[str], gaps: list[str], encoding: str) -> None:
    source = "".join(f"{word}{gap}" for word, gap in zip(words, gaps, strict=False))
    decoded = decode(source.encode(encoding))
    assert decoded is not None
    found = " ".join(block.text for block in parse_plain(decoded.text).blocks).split()
    assert [part for part in found if part not in {"-", "1)", "*", "===", "----"}] == words


def test_sentences_end_where_they_do() -> None:
    assert sentences("It is J. Smith, e.g. here. He said: yes! Why? 3.14 is.") == [
        "It is J. Smith, e.g. here.", "He said: yes!", "Why?", "3.14 is.",
    ]  # fmt: skip
    assert sentences("これは文です。これも文です。") == ["これは文です。", "これも文です。"]


def test_words_of_scripts_without_spaces_are_counted() -> None:
    assert [word_count(text) for text in ("two words", "größer als", "これは文です。", "use 日本 here")] == [2, 2, 7, 4]
