"""Markdown (CommonMark and tables) to blocks, by markdown-it-py. Every word that is no markup or comment is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed, load_parser, one_line, table_row
from sdretrieval.corpus.read.documents.html import APART, BLOCKS, html_blocks
from sdretrieval.corpus.read.documents.plain import parse_plain

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

FRONT_MATTER = re.compile(
    r"\A---[ \t]*\n((?:\s*#.*\n)*\s*[\w\"'][^\n:]*:(?:[ \t].*)?\n(?s:.*?))^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.MULTILINE
)
"""Between two lines `---`, if it begins as `key: ...`: else they are rules."""
FRONT_TITLE = re.compile(r"^title[ \t]*:[ \t]*([^\s>|].*)$", re.MULTILINE)
DEEPEST = 100
"""Quotations and lists within each other: the parser loses what is nested deeper."""
TAG = re.compile(r"</?([a-zA-Z][\w-]*)")
ENDS_WORD = BLOCKS | APART
CDATA = re.compile(r"<!\[CDATA\[(.*)\]\]>", re.DOTALL)
NUMBER_AT_MOST = 3
"""Digits of a number that only counts a list's items. `1984. A novel.` is a list to the parser, and says more."""
BEFORE_CELLS = re.compile(r"[\s>]*(?:(?:[-*+]|\d+[.)])[\s>]+)*\|?")
BETWEEN_CELLS = re.compile(r"(?<!\\)\|")


def parse_markdown(text: str) -> Parsed:
    """Blocks without markup; HTML within the text is read as HTML. Front matter gives the title and comes last."""
    front = FRONT_MATTER.match(text)
    title = FRONT_TITLE.search(front[1]) if front else None
    body = text[front.end() :] if front else text
    parser = load_parser("markdown_it", ".md").MarkdownIt("commonmark", {"maxNesting": DEEPEST}).enable("table")
    footnotes: dict[str, Any] = {}
    try:
        tokens: list[Token] = parser.parse(body, footnotes)
    except Exception:  # a fault of the parser's: the words are kept
        return parse_plain(text)
    if any(token.level >= DEEPEST - 1 for token in tokens):
        return parse_plain(text)
    lines = body.split("\n")
    blocks = list(_blocks(tokens, lines, parser))
    # CommonMark knows no footnotes: to it, `[^1]: word` says where a link leads.
    targets = [
        *footnotes.get("references", {}).items(),
        *((r["label"], r) for r in footnotes.get("duplicate_refs", ())),
    ]
    for label, target in targets:
        if label.startswith("^"):
            blocks.append(Block(Kind.PARAGRAPH, one_line(" ".join(lines[slice(*target["map"])]))))
    if front:
        blocks.append(Block(Kind.CODE, front[1].strip("\n")))
    return Parsed(blocks, title[1].strip().strip("'\"") if title else "")


def _blocks(tokens: Sequence[Token], lines: Sequence[str], parser: MarkdownIt) -> Iterator[Block]:
    items, level, row = 0, 0, list[str]()
    line_of_row: int | None = None
    for token in tokens:
        match token.type:
            case "list_item_open" | "list_item_close":
                items += token.nesting
                if len(token.info) > NUMBER_AT_MOST:
                    yield Block(Kind.LIST_ITEM, token.info + token.markup)
            case "heading_open":
                level = int(token.tag[1:])
            case "heading_close":
                level = 0
            case "tr_open":
                line_of_row, row = (token.map or [0])[0], []
            case "tr_close" if line_of_row is not None:
                # A row may have more cells than its table has columns; the parser drops them.
                cells = BETWEEN_CELLS.split(BEFORE_CELLS.sub("", lines[line_of_row], count=1))
                row += [_plain(parser.parseInline(cell)) for cell in cells[len(row) :]]
                line_of_row = None
                yield table_row(row)
            case "fence" | "code_block":
                yield Block(Kind.CODE, token.content.strip("\n"))
            case "html_block":
                yield from html_blocks(token.content)
            case "inline" if line_of_row is not None:
                row.append(_plain([token]))
            case "inline":
                kind = Kind.HEADING if level else Kind.LIST_ITEM if items else Kind.PARAGRAPH
                yield Block(kind, _plain([token]), level)


def _plain(tokens: Sequence[Token]) -> str:
    return one_line("".join(_inline(tokens)))


def _inline(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type in {"inline", "image"}:
            yield from _inline(token.children or ())
        elif token.type in {"softbreak", "hardbreak"}:
            yield " "
        elif token.type != "html_inline":
            yield token.content
        elif data := CDATA.fullmatch(token.content):
            yield data[1]
        elif (tag := TAG.match(token.content)) and tag[1].lower() in ENDS_WORD:
            yield " "
