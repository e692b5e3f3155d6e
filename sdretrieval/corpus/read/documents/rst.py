"""reStructuredText to blocks, by docutils' parser alone: no transform is run, no file read, nothing fetched.

docutils knows none of Sphinx's directives and roles, on which most documentation in this format is built, and of a
known directive it refuses options of Sphinx's. It reports such a directive as an error that holds its source: from
there the text is read again, so that no words are lost.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed, load_parser, one_line, table_row
from sdretrieval.corpus.read.documents.plain import parse_plain

if TYPE_CHECKING:
    from docutils.nodes import Node

SETTINGS = re.compile(r"\A\s*(?::(?:orphan|tocdepth|nocomments|no-?search):.*\n)+")
"""Sphinx's fields at the top of a file: they tell it what to do and say nothing."""
DIRECTIVE = re.compile(r"\s*\.\. +([\w:.+-]+?) ?::[ \t]*(.*)")
OPTION = re.compile(r":[\w-]+:(?:\s|$)")
ROLE_TITLE = re.compile(r"(.+?)\s*<[^<>]*>", re.DOTALL)
CODE = frozenset("code code-block sourcecode parsed-literal math doctest testcode testoutput productionlist".split())
NO_TEXT = frozenset(
    "image include literalinclude contents toctree raw index highlight meta currentmodule module py:currentmodule "
    "automodule autoclass autofunction autosummary unicode date class role default-role testsetup testcleanup "
    "tabularcolumns sectnum".split()
)
ERROR = 3
"""docutils' level of messages about text that it left out; below it the text is in the tree."""
QUIET: dict[str, Any] = {
    "file_insertion_enabled": False, "raw_enabled": False, "report_level": 5, "halt_level": 6, "warning_stream": False,
    "syntax_highlight": "none", "line_length_limit": 1 << 30, "tab_width": 8,
}  # fmt: skip


def parse_rst(text: str) -> Parsed:
    """Blocks without markup. Comments, link targets and directives without text are left out.

    Raises `MissingPackageError` if docutils is not installed.
    """
    load_parser("docutils", ".rst")
    try:
        return Parsed(list(_parsed(SETTINGS.sub("", text))))
    except Exception:  # nested deeper than Python calls itself, or a fault of docutils': the words are kept
        return parse_plain(text)


@cache
def _settings() -> Any:
    from docutils.frontend import get_default_settings
    from docutils.parsers.rst import Parser

    settings = get_default_settings(Parser)
    vars(settings).update(QUIET)
    return settings


def _parsed(text: str) -> Iterator[Block]:
    """The blocks of a source; each role is read as its text."""
    from docutils import nodes
    from docutils.parsers.rst import Parser
    from docutils.parsers.rst.states import Inliner
    from docutils.utils import new_document

    def interpreted(rawsource: str, text: str, role: str, lineno: int) -> tuple[list[Node], list[Any]]:
        title = ROLE_TITLE.fullmatch(text)
        return [nodes.inline(rawsource, nodes.unescape(title[1] if title else text.lstrip("~!")))], []

    inliner = Inliner()  # a new one each time: it grows with every source that it reads
    vars(inliner).update(interpreted=interpreted)  # a subclass would hide the patterns of the class from its methods
    document = new_document("", _settings())
    Parser(inliner=inliner).parse(text, document)
    yield from _blocks(document.children, Kind.PARAGRAPH, 0)


def _blocks(children: Iterable[Node], kind: Kind, level: int) -> Iterator[Block]:
    """Blocks of nodes; paragraphs among them are of `kind`, and sections are `level` deep."""
    from docutils import nodes

    for node in children:
        match node:
            case nodes.system_message():
                if node["level"] >= ERROR:
                    for source in node.findall(nodes.literal_block):
                        yield from _left_out(source.astext(), kind)
            case nodes.section():
                title, *rest = node.children
                yield Block(Kind.HEADING, one_line(title.astext()), level + 1)
                yield from _blocks(rest, kind, level + 1)
            case nodes.Invisible():
                continue
            case nodes.literal_block() | nodes.doctest_block() | nodes.math_block():
                yield Block(Kind.CODE, node.astext())
            case nodes.TextElement():
                yield Block(kind, one_line(node.astext()))
            case nodes.row():
                yield table_row([one_line(cell.astext()) for cell in node.children])
            case nodes.definition_list_item():
                named = [child for child in node.children if not isinstance(child, nodes.definition)]
                yield Block(kind, " : ".join(one_line(name.astext()) for name in named))
                yield from _blocks(node.children[len(named) :], kind, level)
            case nodes.field() | nodes.option_list_item() | nodes.footnote() | nodes.citation():
                yield from _labelled(list(node.children), kind, level)
            case nodes.list_item():
                yield from _blocks(node.children, Kind.LIST_ITEM, level)
            case _:
                yield from _blocks(node.children, kind, level)


def _labelled(children: list[Node], kind: Kind, level: int) -> Iterator[Block]:
    """A field, an option or a footnote: its label leads its first paragraph."""
    from docutils import nodes

    label = ""
    if isinstance(children[0], (nodes.label, nodes.field_name, nodes.option_group)):
        label = one_line(children.pop(0).astext())
    first, *rest = [*_blocks(children, kind, level), Block(kind, "")]
    if first.kind is kind:
        yield Block(kind, f"{label} {first.text}".strip())
    else:
        yield from (Block(kind, label), first)
    yield from rest


def _left_out(source: str, kind: Kind) -> Iterator[Block]:
    """What docutils reported instead of reading it: a directive, a broken table, a title where none may be."""
    directive = DIRECTIVE.match(source)
    if directive is None:
        lines = "\n".join(line for line in source.split("\n") if re.search(r"\w", line) or not line.strip())
        yield from (Block(kind, block.text) for block in parse_plain(lines).blocks)
        return
    name, argument = directive[1].lower(), directive[2]
    rest = textwrap.dedent(source[directive.end() :].strip("\n")).split("\n")
    while rest and (OPTION.match(rest[0]) or not rest[0].strip()):
        rest = rest[1:]
    if name in CODE:
        yield Block(Kind.CODE, "\n".join([argument, *rest] if name == "math" else rest).strip("\n"))
    elif name not in NO_TEXT:
        shown = [] if name in ("figure", "csv-table") else [argument, ""]  # a file's name
        for block in _parsed("\n".join([*shown, *rest])):
            yield Block(kind if block.kind in (Kind.HEADING, Kind.PARAGRAPH) else block.kind, block.text)
