"""Text, Markdown, reStructuredText and HTML: what a block is, and that broken markup loses no words."""

from __future__ import annotations

import re
import textwrap
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed, sentences, word_count
from sdretrieval.corpus.read.documents.encodings import decode
from sdretrieval.corpus.read.documents.html import parse_html
from sdretrieval.corpus.read.documents.markdown import parse_markdown
from sdretrieval.corpus.read.documents.plain import parse_plain
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


def test_sphinxs_settings_are_no_text() -> None:
    assert said(parse_rst, ":orphan:\n:tocdepth: 2\n\n:author: Ann\n\nText.") == [(P, "author Ann"), (P, "Text.")]


def test_front_matter_gives_the_title_and_comes_last() -> None:
    parsed = parse_markdown('---\ntitle: "On Boats"\ntags: [a]\n---\nThey swim.')
    assert parsed.title == "On Boats"
    assert parsed.blocks == [Block(P, "They swim."), Block(C, 'title: "On Boats"\ntags: [a]')]


def test_text_between_two_rules_is_no_front_matter() -> None:
    assert said(parse_markdown, "---\n\nA rule above.\n\n---\n\nEnd.") == [(P, "A rule above."), (P, "End.")]


def test_markdown_beside_and_behind_html() -> None:
    text = """
        <details>

        A.

        </details>
        The thermal fuse trips.

        <!-- lint off --> The lid weighs two tonnes.

        <!-- note -->
        Grease the bearing.

        <hr>
        Store the hose.

        <table><tr>

        <td>one</td><td>two</td>

        </tr></table>

        Flow<br>rate, x<BR/>y, a<!-- b -->c, H<sub>2</sub>O<div>u</div><![CDATA[kept <x]]>

        <!-- never closed
        Still text.
    """
    assert said(parse_markdown, text) == [
        (P, "A."),
        (P, "The thermal fuse trips."),
        (P, "The lid weighs two tonnes."),
        (P, "Grease the bearing."),
        (P, "Store the hose."),
        (T, "one | two"),
        (P, "Flow rate, x y, ac, H2O u kept <x"),
        (P, "never closed Still text."),
    ]


def test_markdown_keeps_what_its_parser_drops() -> None:
    text = """
        1984. A novel.

        > | a | b |
        > |---|---|
        > | 1 | 2 | three *of* them | x\\|y |

        See it.[^1]

        [^1]: Important.
        [link]: http://a.b "no text"
    """
    assert said(parse_markdown, text) == [
        (L, "1984."),
        (L, "A novel."),
        (T, "a | b"),
        (T, "1 | 2 | three of them | x|y"),
        (P, "See it.^1"),
        (P, "[^1]: Important."),
    ]
    assert said(parse_markdown, "> " * 500 + "end")[-1][1].endswith("end")


INLINE = st.sampled_from([
    "{}", "*{}*", "**{}**", "`{}`", "~~{}~~", "<b>{}</b>", "[{}](/u)", "![{}](/u 't')", "{}<br>{}", "{}\\\n{}",
    "&amp;{}",
])  # fmt: skip
BLOCK = st.sampled_from([
    "{}", "# {}", "{}\n===", "{}\n---", "> {}", "> - {}\n{}", "- {}\n\n  {}", "1) {}\n2) {}", "    {}",
    "```\n{}\n```", "---\n{}", "~~~ x\n{}", "<div>{}</div>", "<div>\n\n{}\n\n</div>\n{}", "<!-- c -->\n{}",
    "<!-- c --> {}", "<hr>\n{}", "</p>{}", "***\n{}", "{}|{}\n-|-\n{}|{}|{}", "<td>{}</td>\n{}", "<summary>{}\n{}",
    "[^n]: {}", "* * *\n{}", "+ - * {}", "<?php c ?> {}", "{}\n{}",
])  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(shapes=st.lists(st.tuples(BLOCK, st.lists(INLINE, min_size=1, max_size=3)), min_size=1, max_size=6))
def test_every_word_of_any_markdown_comes_out(shapes: list[tuple[str, list[str]]]) -> None:
    words = [f"w{number}w" for number in range(200)]
    left = iter(words)
    blocks = []
    for block, inlines in shapes:
        parts = block.split("{}")
        shown = [" ".join(re.sub("{}", lambda _: next(left), inline) for inline in inlines) for _ in parts[1:]]
        blocks.append("".join(part + text for part, text in zip(parts, [*shown, ""], strict=True)))
    source = "\n\n".join(blocks)
    found = re.findall(r"w\d+w", " ".join(block.text for block in parse_markdown(source).blocks))
    assert sorted(found) == sorted(words[: words.index(next(left))]), source


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


@pytest.mark.parametrize(
    "page",
    [
        "<!doctype html><html><head><title>T</title><p>One.<ul><li>two<li>three</ul><p>Four.",
        "<title>T</title><body><p>One.<ul><li>two<li>three</ul>Four.",
        "<HTML><HEAD><TITLE>T</TITLE><BODY><P>One.<UL><LI>two<LI>three</UL><DIV>Four.",
        "<head><meta charset=utf-8><title>T</title><body>One.<ol><li><p>two<li><p>three</ol>Four.</body>",
        "<head><title>T</title></head>One.<menu><li>two</li><li>three</menu><p>Four.</html>",
        "<title>T</title><script src='a'/><style/><p>One.<ul><li>two<li>three</ul><p>Four.<script>no</script>",
        "<title>T<body><p>One.<ul><li>two<li>three</ul><p>Four.",
        "<title>T</title><p>One.<!-- a --><ul><li>two<li>three</ul><!-- <p>Four.",
    ],
)
def test_html_whose_optional_tags_are_left_out(page: str) -> None:
    assert parse_html(page).title == "T"
    assert said(parse_html, page) == [(P, "One."), (L, "two"), (L, "three"), (P, "Four.")]


def test_html_tables_and_lists_without_end_tags() -> None:
    text = """
        <table><caption>Sizes<colgroup><col><thead><tr><th>a<th>b<tbody><tr><td>H<sub>2</sub>O<td>c<br>d<tr><td>e
        <tfoot><tr><td>f</table><dl><dt>term<dd>meaning<dt>other</dl>
        <select><optgroup label=x><option>s<option>t</select>
        <ruby>漢<rp>(<rt>kan<rp>)</ruby><p>su<wbr>per<button>Press</button>here<p>x<![CDATA[kept > too]]>
    """
    assert said(parse_html, text) == [
        (P, "Sizes"),
        (T, "a | b"),
        (T, "H2O | c d"),
        (T, "e"),
        (T, "f"),
        (P, "term"),
        (P, "meaning"),
        (P, "other"),
        (P, "漢(kan)"),
        (P, "super Press here"),
        (P, "xkept > too"),
    ]


ENDS = [
    "p", "li", "dt", "dd", "td", "th", "tr", "option", "thead", "tbody", "body", "html", "head", "h1", "div", "b",
    "a", "section", "ul", "table", "blockquote", "pre", "article", "details", "summary", "form", "button", "center",
    "font", "figure", "textarea", "xmp",
]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(parts=st.lists(st.tuples(st.sampled_from(ENDS), st.booleans()), min_size=1, max_size=15))
def test_every_word_of_any_html_comes_out(parts: list[tuple[str, bool]]) -> None:
    page = "".join(f"<{name}>w{at}w {f'</{name}>' * closed}" for at, (name, closed) in enumerate(parts))
    found = re.findall(r"w\d+w", " ".join(block.text for block in parse_html(page).blocks))
    assert sorted(found) == sorted(f"w{at}w" for at in range(len(parts))), page


def test_what_is_around_the_text_is_counted() -> None:
    page = parse_html("<header>one <nav>two<script>no</script></nav></header><main><header>kept</header></main>")
    assert ([block.text for block in page.blocks], page.words_left_out) == (["kept"], 2)


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
