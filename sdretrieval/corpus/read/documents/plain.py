"""Bytes to text, and how many characters were lost on the way; plain text to blocks: paragraphs between blank lines,
and titles underlined with a run of one sign."""

from __future__ import annotations

import codecs
import re
from typing import NamedTuple

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed, one_line

BYTE_ORDER_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before UTF-16, whose mark it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
REPLACEMENT = "\ufffd"
CHARSET = re.compile(rb"charset\s*=\s*[\"']?\s*([\w.:-]+)", re.IGNORECASE)
CHARSET_WITHIN = 2048
"""Bytes in which a page must declare its charset: browsers look no further than 1024."""

UNDERLINE = re.compile(r"([=\-~^\"'#*+`:._])\1{2,}\s*")
ITEM = re.compile(r"\s*(?:[-*+•‣]|\(?(?:\d{1,3}|#)[.)])\s+(?=\S)")
PARAGRAPH_END = re.compile(r"\n[ \t]*\n|\f")


class Decoded(NamedTuple):
    """A text, and the number of its characters that stand for bytes which meant nothing in its encoding."""

    text: str
    replaced: int


def decode(data: bytes, may_declare: bool = False) -> Decoded:
    """By byte order mark, else as UTF-8, else (HTML: `may_declare`) by the declared charset; never by a guess.

    A wrong guess would give words that look right and are not; a replaced character is counted and can be reported.
    """
    encoding = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        return Decoded(_plain_line_ends(data.decode(encoding)), 0)
    except UnicodeDecodeError:
        if may_declare and encoding == "utf-8":
            encoding = _declared(data) or encoding
    text = data.decode(encoding, "replace")
    already = data.count(REPLACEMENT.encode()) if encoding.startswith("utf-8") else 0
    return Decoded(_plain_line_ends(text), text.count(REPLACEMENT) - already)


def _declared(data: bytes) -> str:
    match = CHARSET.search(data[:CHARSET_WITHIN])
    try:
        name = codecs.lookup(match[1].decode("ascii")).name if match else ""
        "".encode(name or "utf-8")  # codecs such as hex are no text encodings
    except (LookupError, UnicodeError):
        return ""
    return name


def _plain_line_ends(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


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
