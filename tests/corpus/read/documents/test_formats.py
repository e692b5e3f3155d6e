"""Text, Markdown, reStructuredText and HTML: what a block is, and that broken markup loses no words."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.corpus.read.documents.blocks import Kind, Parsed, sentences, word_count
from sdretrieval.corpus.read.documents.html import parse_html
from sdretrieval.corpus.read.documents.markdown import parse_markdown
from sdretrieval.corpus.read.documents.plain import decode, parse_plain
from sdretrieval.corpus.read.documents.rst import parse_rst

H, P, L, C, T = Kind.HEADING, Kind.PARAGRAPH, Kind.LIST_ITEM, Kind.CODE, Kind.TABLE_ROW


def said(parse: Callable[[str], Parsed], text: str) -> list[tuple[Kind, str] | tuple[Kind, str, int]]:
    """Kind, text and, of a heading, level of each block that has a text."""
    blocks = parse(textwrap.dedent(text).strip("\n")).blocks
    return [(b.kind, b.text, b.level) if b.level else (b.kind, b.text) for b in blocks if b.text]


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


def test_markdown() -> None:
    text = """
        # The *Title*

        A [link](http://a.b) with `code`,
        ![a picture](x.png) and <b>tags</b>.

        Part two
        --------
        * item one
          * inner **item**

        ```python
        x = 1

        y = 2
        ```

        | a | b |
        |---|---|
        | c |   |

        <!-- nothing --><div align="center"><h3>From HTML</h3>words</div>
    """
    assert said(parse_markdown, text) == [
        (H, "The Title", 1),
        (P, "A link with code, a picture and tags."),
        (H, "Part two", 2),
        (L, "item one"),
        (L, "inner item"),
        (C, "x = 1\n\ny = 2"),
        (T, "a | b"),
        (T, "c"),
        (H, "From HTML", 3),
        (P, "words"),
    ]


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (parse_html, "<div>" * 1000 + "<header>a</header>" * 1000 + "<a>a " * 1000 + "end"),
        (parse_html, "<table><tr>" + "<td>a " * 1000 + "end"),
        (parse_markdown, "[" * 3000 + "> " * 500 + "end"),
        (parse_rst, "**a :a" * 3000 + " end"),
        (parse_rst, "\n".join(" " * depth + "x" for depth in range(300)) + "\n\n" + "- " * 1000 + "end"),
    ],
)
def test_hostile_markup_takes_no_long_time_and_keeps_its_end(parse: Callable[[str], Parsed], text: str) -> None:
    start = time.perf_counter()
    assert parse(text).blocks[-1].text.endswith("end")
    assert time.perf_counter() - start < 10


def test_sphinxs_settings_are_no_text() -> None:
    assert said(parse_rst, ":orphan:\n:tocdepth: 2\n\n:author: Ann\n\nText.") == [(P, "author Ann"), (P, "Text.")]


def test_front_matter_gives_the_title() -> None:
    parsed = parse_markdown('---\ntitle: "On Boats"\ntags: [a]\n---\nThey swim.')
    assert parsed.title == "On Boats" and [block.text for block in parsed.blocks] == ["They swim."]


def test_restructuredtext_title_and_paragraphs() -> None:
    text = """
        =========
        The Title
        =========

        .. a comment
           of two lines
        .. _target: http://a.b
        .. image:: x.png
           :alt: nothing

        See :func:`open <io.open>`, ``code``, *this* and `a page <http://a.b>`__::

            x = 1

            y = 2

        Part
        ----
        * item one
          goes on
        #. item two
    """
    assert said(parse_rst, text) == [
        (H, "The Title", 1),
        (P, "See open, code, this and a page:"),
        (C, "x = 1\n\ny = 2"),
        (H, "Part", 2),
        (L, "item one goes on"),
        (L, "item two"),
    ]


def test_restructuredtext_directives_and_definitions() -> None:
    text = """
        .. note:: Mind the *gap*.

           It is wide.

        .. code-block:: python
           :linenos:

           z = 3

        >>> 1 + 1
        2

        term
            Its definition.

        :param x: the thing
    """
    assert said(parse_rst, text) == [
        (P, "Mind the gap."),
        (P, "It is wide."),
        (C, "z = 3"),
        (C, ">>> 1 + 1\n2"),
        (P, "term"),
        (P, "Its definition."),
        (P, "param x the thing"),
    ]


def test_what_only_sphinx_knows_keeps_its_text() -> None:
    text = """
        .. function:: open(file, mode='r')
           :noindex:

           Opens a ``file``.

           .. versionadded:: 3.4
              The *mode* and __slots__.

        .. code-block:: python
           :emphasize-lines: 1

           z = 3

        .. toctree::

           other

        .. note::

           Inner
           =====

           A :ref:`title <target>`, |name|. [1]_

        .. [1] A footnote.
    """
    assert said(parse_rst, text) == [
        (P, "open(file, mode='r')"),
        (P, "Opens a file."),
        (P, "3.4"),
        (P, "The mode and __slots__."),
        (C, "z = 3"),
        (P, "Inner"),
        (P, "A title, name. 1"),
        (P, "1 A footnote."),
    ]


def test_restructuredtext_tables_and_quotations() -> None:
    text = """
        ====  =====
        a     b
        ====  =====
        c     d e
        ====  =====

        What follows is code. ::

            w = 4

        ..

            A quotation.

        ------

        +---+---+
        | f | g |
        +---+---+
    """
    assert said(parse_rst, text) == [
        (T, "a | b"),
        (T, "c | d e"),
        (P, "What follows is code."),
        (C, "w = 4"),
        (P, "A quotation."),
        (T, "f | g"),
    ]


def test_html() -> None:
    text = """
        <html><head><title>The  Page</title><style>p {}</style></head><body>
        <header><h1>Site</h1></header><nav>menu</nav><div role="navigation">more menu</div>
        <main><header><h1>The Title<a class="headerlink" href="#">¶</a></h1></header>
        <p>One <b>para</b>graph<br>with &amp; more.<script>no()</script><!-- no -->
        <h2>Part <a href="#part">#</a></h2>
        <ul><li>one<li>two <p>and two</p></ul> loose words
        <pre>x = 1
          y = 2</pre>
        <table><tr><th>a<th>b</tr><tr><td>c</td><td>d <i>e</i><script>no()</script></td></tr></table>
        <table><tr><td><h3>Layout</h3><p>in a table</td></tr></table></main><footer>imprint</footer>
    """
    assert parse_html(text).title == "The Page"
    assert said(parse_html, text) == [
        (H, "The Title", 1),
        (P, "One paragraph with & more."),
        (H, "Part", 2),
        (L, "one"),
        (L, "two"),
        (L, "and two"),
        (P, "loose words"),
        (C, "x = 1\n          y = 2".replace("          ", "  ")),
        (T, "a | b"),
        (T, "c | d e"),
        (H, "Layout", 3),
        (P, "in a table"),
    ]


def test_html_that_nests_deeper_than_python_calls_itself() -> None:
    assert said(parse_html, "<div>" * 5000 + "deep down") == [(P, "deep down")]


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


@settings(max_examples=100, deadline=None)
@given(paragraphs=st.lists(st.text(alphabet="abc xyz,.", min_size=1), max_size=8))
def test_every_word_of_plain_prose_stays(paragraphs: list[str]) -> None:
    text = "\n\n".join(paragraphs)
    assert " ".join(block.text for block in parse_plain(text).blocks).split() == text.split()


@pytest.mark.parametrize(
    ("data", "text", "replaced"),
    [
        ("é".encode(), "é", 0),
        ("é".encode("utf-8-sig"), "é", 0),
        ("é".encode("utf-16"), "é", 0),
        ("é".encode("utf-32"), "é", 0),
        ("é".encode("latin-1"), "\ufffd", 1),
        ("\ufffd".encode() + b"\xff", "\ufffd\ufffd", 1),
        (b"a\r\nb\rc", "a\nb\nc", 0),
    ],
)
def test_decoding(data: bytes, text: str, replaced: int) -> None:
    assert decode(data) == (text, replaced)


def test_html_may_declare_its_charset() -> None:
    page = '<meta charset="windows-1252">é €'.encode("cp1252")
    assert decode(page, may_declare=True).text.endswith("é €")
    assert decode(page).replaced == 2
    assert decode(b'<meta charset="hex">\xff', may_declare=True).replaced == 1


def test_sentences_end_where_they_do() -> None:
    assert sentences("It is J. Smith, e.g. here. He said: yes! Why? 3.14 is.") == [
        "It is J. Smith, e.g. here.", "He said: yes!", "Why?", "3.14 is.",
    ]  # fmt: skip
    assert sentences("これは文です。これも文です。") == ["これは文です。", "これも文です。"]


def test_words_of_scripts_without_spaces_are_counted() -> None:
    assert [word_count(text) for text in ("two words", "größer als", "これは文です。", "use 日本 here")] == [2, 2, 7, 4]
