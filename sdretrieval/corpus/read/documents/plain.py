"""Plain text to blocks: paragraphs between blank lines, and titles underlined with a run of one sign."""

from __future__ import annotations

import re

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed, one_line

UNDERLINE = re.compile(r"([=\-~^\"'#*+`:._])\1{2,}\s*")
ITEM = re.compile(r"\s*(?:[-*+•‣]|\(?(?:\d{1,3}|#)[.)])\s+(?=\S)")
PARAGRAPH_END = re.compile(r"\n[ \t]*\n|\f")


def parse_plain(text: str) -> Parsed:
    """Blocks of a text without markup. Wrapped lines are joined; a list's lines are items of their own."""
    blocks: list[Block] = []
    levels: dict[str, int] = {}
    for paragraph in PARAGRAPH_END.split(text):
        lines = [line for line in paragraph.split("\n") if line.strip()]
        if len(lines) >= 2 and is_title(lines[0], lines[1]):
            level = levels.setdefault(lines[1].strip()[0], len(levels) + 1)
            blocks.append(Block(Kind.HEADING, one_line(lines[0]), level))
            lines = lines[2:]
        blocks += _paragraph(lines)
    return Parsed(blocks)


def is_title(line: str, below: str) -> bool:
    """Whether `below` underlines `line` as a title: one sign all along, no shorter than the title."""
    title = line.strip()
    long_enough = len(below.strip()) >= len(title) or len(below.strip()) >= 0.8 * len(title) > 8
    return bool(title) and UNDERLINE.fullmatch(below) is not None and long_enough and not UNDERLINE.fullmatch(title)


def _paragraph(lines: list[str]) -> list[Block]:
    groups: list[list[str]] = []
    for line in lines:
        if not groups or ITEM.match(line):
            groups.append([])
        groups[-1].append(line)
    kinds = (Kind.LIST_ITEM if ITEM.match(group[0]) else Kind.PARAGRAPH for group in groups)
    return [Block(kind, one_line(" ".join(group))) for kind, group in zip(kinds, groups, strict=True)]
