"""reStructuredText to blocks, line by line.

Not docutils: it executes directives, some of which read other files, and knows none of Sphinx's, on which most
documentation in this format is built. Only what carries text is needed here: sections, paragraphs, lists, code, tables.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed, one_line, table_row
from sdretrieval.corpus.read.documents.plain import ITEM, UNDERLINE, is_title

DIRECTIVE = re.compile(r"\.\. +(?:\|[^|]+\| +)?([\w:.+-]+?) ?::(?: +(.*))?$")
EXPLICIT = re.compile(r"\.\.(?:\s|$)|__ ")
NOTE = re.compile(r"\.\. +\[([^\]]+)\] +(.*)")
OPTION = re.compile(r":[\w-]+:(?:\s|$)")
SETTINGS = re.compile(r"\A\s*(?::(?:orphan|tocdepth|nocomments|no-?search):.*\n)+")
"""Sphinx's fields at the top of a file: they tell it what to do and say nothing."""
LITERAL_FOLLOWS = re.compile(r"(?:^|\s+)::$|(:):$")
FIELD = re.compile(r":(?:[^:\\]|\\.)+:(?:\s|$)")
GRID = re.compile(r"\+(?:[-=]+\+)+\s*")
SIMPLE = re.compile(r"=+(?: +=+)+\s*")
CODE = frozenset("code code-block sourcecode parsed-literal math doctest testcode testoutput productionlist".split())
NO_TEXT = frozenset(
    "image figure include literalinclude contents toctree raw index highlight meta currentmodule module "
    "py:currentmodule automodule autoclass autofunction autosummary replace unicode date class role default-role "
    "testsetup testcleanup tabularcolumns sectnum".split()
)  # figure: its options name a file; its caption is kept by `_directive`
DEEPEST = 20
"""Indentation within indentation; what is indented further is taken as it stands."""
INLINE = (  # spans are bounded: unbounded ones cost the square of a paragraph's length where none ends
    (re.compile(r"``(.{1,500}?)``", re.DOTALL), r"\1"),
    (re.compile(r"(?::[\w:.+-]{1,40}:)?`([^`<]{1,500}?)\s*<[^`>]*>`_{0,2}", re.DOTALL), r"\1"),
    (re.compile(r":[\w:.+-]{1,40}:`[~!]?([^`]+)`", re.DOTALL), r"\1"),
    (re.compile(r"`([^`]+)`_{0,2}", re.DOTALL), r"\1"),
    (re.compile(r"\*\*(?=\S)(.{1,500}?)(?<=\S)\*\*", re.DOTALL), r"\1"),
    (re.compile(r"(?<![\w*])\*(?=[^\s*])([^*]+?)(?<=\S)\*(?![\w*])", re.DOTALL), r"\1"),
    (re.compile(r"\|(\w[\w .-]*)\|_?"), r"\1"),
    (re.compile(r"\b(\w+)__?(?=[\s.,;:)]|$)"), r"\1"),
    (re.compile(r"\\(.)"), r"\1"),
)

Lines = list[str]


def parse_rst(text: str) -> Parsed:
    """Blocks without markup. Comments, link targets and directives without text are left out."""
    return Parsed(list(_Reader(SETTINGS.sub("", text).expandtabs(8).split("\n"), 0).blocks()))


class _Reader:
    """Reads one level of indentation; what is indented further gets a reader of its own."""

    def __init__(self, lines: Lines, depth: int) -> None:
        self.lines, self.depth, self.at = lines, depth, 0
        self.levels: dict[str, int] = {}

    def blocks(self) -> Iterator[Block]:
        while self.at < len(self.lines):
            line = self.lines[self.at]
            if not line.strip():
                self.at += 1
            elif heading := self._heading():
                yield heading
            elif UNDERLINE.fullmatch(line) and not self._peek(1).strip():
                self.at += 1  # a line across the page
            elif line[0] == " ":
                yield from self._inner(self._indented())
            elif EXPLICIT.match(line):
                yield from self._explicit()
            elif GRID.fullmatch(line) or SIMPLE.fullmatch(line):
                yield from self._table(line[0])
            elif ITEM.match(line) and not UNDERLINE.fullmatch(line):
                yield from self._item()
            else:
                yield from self._paragraph()

    def _peek(self, ahead: int) -> str:
        return self.lines[self.at + ahead] if self.at + ahead < len(self.lines) else ""

    def _heading(self) -> Block | None:
        first, second, third = (self._peek(ahead) for ahead in range(3))
        over = UNDERLINE.fullmatch(first) is not None and first.rstrip() == third.rstrip() and is_title(second, third)
        if not over and (first[0] == " " or not is_title(first, second)):
            return None
        self.at += 3 if over else 2
        style = ("over" if over else "") + (third if over else second)[0]
        return Block(
            Kind.HEADING, inline(second if over else first), self.levels.setdefault(style, len(self.levels) + 1)
        )

    def _indented(self) -> Lines:
        """The lines from here on that are blank or indented, without their common indentation."""
        start = self.at
        while self.at < len(self.lines) and (not self.lines[self.at].strip() or self.lines[self.at][0] == " "):
            self.at += 1
        return textwrap.dedent("\n".join(self.lines[start : self.at])).strip("\n").split("\n")

    def _paragraph(self) -> Iterator[Block]:
        start = self.at
        while self._peek(0).strip():
            self.at += 1
            if self._peek(0)[:1] == " " and self.at == start + 1:
                break  # a term and its definition
        lines = self.lines[start : self.at]
        if lines[0].startswith(">>> "):
            yield Block(Kind.CODE, "\n".join(lines))
            return
        text = "\n".join(lines).rstrip()
        if said := inline(_without_field_colons(LITERAL_FOLLOWS.sub(r"\1", text))):
            yield Block(Kind.PARAGRAPH, said)
        if text.endswith("::"):
            yield from _code(self._indented())

    def _item(self) -> Iterator[Block]:
        mark = ITEM.match(self.lines[self.at])
        self.lines[self.at] = " " * mark.end() + self.lines[self.at][mark.end() :] if mark else self.lines[self.at]
        for block in self._inner(self._indented()):
            kind = Kind.LIST_ITEM if block.kind is Kind.PARAGRAPH else block.kind
            yield Block(kind, block.text)

    def _explicit(self) -> Iterator[Block]:
        line = self.lines[self.at]
        self.at += 1
        directive, note = DIRECTIVE.match(line), NOTE.match(line)
        empty_comment = line.strip() == ".." and not self._peek(0).strip()
        rest = self._indented() if self._peek(0)[:1] in {" ", ""} and not empty_comment else []
        if directive:
            yield from self._directive(directive[1].lower(), directive[2] or "", rest)
        elif note:
            yield from self._inner([f"{note[1]} {note[2]}", *rest])

    def _inner(self, lines: Lines) -> Iterator[Block]:
        """The blocks of indented lines: no section begins there."""
        if self.depth >= DEEPEST:
            yield Block(Kind.PARAGRAPH, inline("\n".join(lines)))
            return
        for block in _Reader(lines, self.depth + 1).blocks():
            yield Block(Kind.PARAGRAPH, block.text) if block.kind is Kind.HEADING else block

    def _directive(self, name: str, argument: str, rest: Lines) -> Iterator[Block]:
        while rest and (OPTION.match(rest[0]) or not rest[0].strip()):
            rest = rest[1:]
        if name in CODE:
            yield from _code([argument, *rest] if name == "math" and argument else rest)
        elif name == "figure":
            yield from self._inner(rest)
        elif name not in NO_TEXT:
            if argument:
                yield Block(Kind.PARAGRAPH, inline(argument))
            yield from self._inner(rest)

    def _table(self, border: str) -> Iterator[Block]:
        start = self.at
        while self._peek(0).strip():
            self.at += 1
            if border == "=" and not self._peek(0).strip() and not SIMPLE.fullmatch(self.lines[self.at - 1]):
                self.at += 1  # simple tables may hold blank lines; they end with a border
        for line in self.lines[start : self.at]:
            cells = (
                re.split(r"\s*\|\s*", line.strip().strip("|")) if border == "+" else re.split(r" {2,}", line.strip())
            )
            cells = [inline(cell) for cell in cells]
            if not re.fullmatch(r"[-=+ |]*", line) and any(cells):
                yield table_row(cells)


def _without_field_colons(text: str) -> str:
    """`:param x: what` as `param x what`."""
    field = FIELD.match(text)
    return f"{field[0].strip().strip(':')} {text[field.end() :]}" if field else text


def inline(text: str) -> str:
    """`text` on one line, without roles, emphasis, links and references."""
    for pattern, plain in INLINE:
        text = pattern.sub(plain, text)
    return one_line(text)


def _code(lines: Lines) -> Iterator[Block]:
    if any(line.strip() for line in lines):
        yield Block(Kind.CODE, "\n".join(lines))
