"""Markdown (CommonMark and tables) to blocks, by markdown-it-py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed, load_parser, one_line, table_row
from sdretrieval.corpus.read.documents.html import html_blocks

if TYPE_CHECKING:
    from markdown_it.token import Token

FRONT_MATTER = re.compile(r"\A---[ \t]*\n(.*?)^(?:---|\.\.\.)[ \t]*$\n?", re.DOTALL | re.MULTILINE)
FRONT_TITLE = re.compile(r"^title[ \t]*:[ \t]*(.+)$", re.MULTILINE)
DEEPEST = 100
"""Quotations and lists within each other; what is nested deeper is lost (the parser's own limit is 20)."""
TAG = re.compile(r"<\s*[a-zA-Z]")


def parse_markdown(text: str) -> Parsed:
    """Blocks without markup. Of front matter the title is kept; HTML within the text is read as HTML."""
    front = FRONT_MATTER.match(text)
    title = FRONT_TITLE.search(front[1]) if front else None
    parser = load_parser("markdown_it", ".md").MarkdownIt("commonmark", {"maxNesting": DEEPEST}).enable("table")
    tokens: list[Token] = parser.parse(text[front.end() :] if front else text)
    return Parsed(list(_blocks(tokens)), title[1].strip().strip("'\"") if title else "")


def _blocks(tokens: Sequence[Token]) -> Iterator[Block]:
    items, level, row = 0, 0, list[str]()
    in_row = False
    for token in tokens:
        match token.type:
            case "list_item_open" | "list_item_close":
                items += token.nesting
            case "heading_open":
                level = int(token.tag[1:])
            case "heading_close":
                level = 0
            case "tr_open":
                in_row, row = True, []
            case "tr_close":
                in_row = False
                yield table_row(row)
            case "fence" | "code_block":
                yield Block(Kind.CODE, token.content.strip("\n"))
            case "html_block" if TAG.search(token.content):
                yield from html_blocks(token.content)
            case "inline" if in_row:
                row.append(_plain(token.children or ()))
            case "inline":
                kind = Kind.HEADING if level else Kind.LIST_ITEM if items else Kind.PARAGRAPH
                yield Block(kind, _plain(token.children or ()), level)


def _plain(tokens: Sequence[Token]) -> str:
    return one_line("".join(_inline(tokens)))


def _inline(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in {"softbreak", "hardbreak"} or (token.type == "html_inline" and token.content[:3] == "<br"):
            yield " "
        elif token.type == "image":
            yield from _inline(token.children or ())
        elif token.type != "html_inline":
            yield token.content
