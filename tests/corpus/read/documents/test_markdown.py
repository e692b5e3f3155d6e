"""Markdown: what a block is, and that no word is lost."""

from __future__ import annotations

import re

from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.corpus.read.documents.blocks import Block
from sdretrieval.corpus.read.documents.markdown import parse_markdown
from tests.corpus.read.documents.said import C, H, L, P, T, said


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
