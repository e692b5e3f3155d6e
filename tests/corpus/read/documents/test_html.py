"""HTML: what a block is, whatever tags are left out, and that no word is lost."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.corpus.read.documents.html import parse_html
from tests.corpus.read.documents.said import C, H, L, P, T, said


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
