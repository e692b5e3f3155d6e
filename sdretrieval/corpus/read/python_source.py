"""Python source as documents: functions, methods and classes without docstrings, and the docstrings' summaries.

A function's or method's document is its source. A class's document is its skeleton: its head, its own statements and
the heads of its methods. The bodies of the methods are documents of their own; within the class they would push
everything else out of a short view and make near-duplicates of the class and its only long method.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterable, Iterator
from typing import NamedTuple

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
BLOCKS = ("body", "handlers", "cases", "orelse", "finalbody")

LEAST_WORDS, MOST_WORDS = 4, 40
"""A summary shorter than this says nothing; a longer one is no longer a query and is cut."""

STOP_WORDS = frozenset(
    re.findall(r"\w+", "a an and are as at be by for from if in into is it its of on or the this to with")
)
WORD = re.compile(r"[A-Za-z][A-Za-z0-9'-]*")
IDENTIFIER_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
MARKUP = re.compile(r":\w+:`~?([^`]*)`|`+([^`]*)`+|\*\*?(\w[^*\n]*)\*\*?")
END_OF_PROSE = re.compile(
    r"\n\s*\n|>>>|\n\s*(?:[:@](?:param|type|return|rtype)\b|(?:Args|Arguments|Parameters|Returns):)"
)
GRAMMAR_RULE = re.compile(r"\S+\s*:*=\s")
SIGNATURE = re.compile(r"\s*(?:\w+\s*=\s*)?(?:\w+\.)*(\w+)\s*\([^)]*\)(?:[ \t]*->[^\n.:]*?)?[ \t]*(?:--|[:.-]|\n|$)\s*")
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z(\"'])")


class Fragment(NamedTuple):
    """One definition of a module."""

    qualified_name: str
    text: str
    """The source, dedented, without docstrings."""
    summary: str
    """What the docstring says in a sentence; empty where it says nothing usable."""


def fragments(source: str) -> list[Fragment]:
    """Every function, class and method of a module's source, in its order. Functions within functions are left out.

    Raises SyntaxError where `source` is no Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes in old code concern its authors, not us
        tree = ast.parse(source)
    lines = [line.encode() for line in source.split("\n")]  # ast counts columns in bytes
    return [_fragment(name, node, lines) for name, node in _definitions(tree.body, "")]


def summary(docstring: str, name: str) -> str:
    """The first sentence of a docstring as a query, without markup; more sentences while it has under 4 words.

    `name` is the definition's qualified name: a leading call signature of it is skipped, and a summary that says no
    more than the name does is empty, as is one under 4 words.
    """
    call = SIGNATURE.match(docstring)
    own_call = call is not None and call[1] == name.rpartition(".")[2]
    prose = docstring[call.end() if call and own_call else 0 :].strip()
    prose = END_OF_PROSE.split(prose, maxsplit=1)[0]
    prose = MARKUP.sub(lambda match: next(filter(None, match.groups()), ""), prose)
    text = _shortest_prefix(SENTENCE_END.split(" ".join(prose.split())))
    words = WORD.findall(text)
    if len(text.split()) < LEAST_WORDS or GRAMMAR_RULE.match(text) or _only_repeats(words, name):
        return ""
    return " ".join(text.split()[:MOST_WORDS])


def identifier_words(name: str) -> set[str]:
    """The words of dotted, snake-cased or camel-cased names: `JSONDecoder.raw_decode` -> json, decoder, raw, decode."""
    return {part.lower() for part in IDENTIFIER_PART.findall(name)}


def _definitions(body: list[ast.stmt], prefix: str) -> Iterator[tuple[str, Definition]]:
    """Definitions of a module or class with their qualified names, also those under `if`, `try` and `with`."""
    for node in _members(body):
        yield prefix + node.name, node
        if isinstance(node, ast.ClassDef):
            yield from _definitions(node.body, f"{prefix}{node.name}.")


def _members(nodes: Iterable[ast.AST]) -> Iterator[Definition]:
    """Definitions among statements and in their blocks, but not those within another definition."""
    for node in nodes:
        if isinstance(node, DEFINITIONS):
            yield node
        else:
            for block in BLOCKS:
                yield from _members(getattr(node, block, ()))


def _with_inner(node: Definition) -> Iterator[Definition]:
    yield node
    for member in _members(node.body):
        yield from _with_inner(member)


def _fragment(name: str, node: Definition, lines: list[bytes]) -> Fragment:
    docstring = ast.get_docstring(node) or ""
    return Fragment(name, _text(node, lines), summary(docstring, name))


def _text(node: Definition, lines: list[bytes]) -> str:
    """The source of `node`, dedented, without what `_cuts` names and without lines that the cuts leave blank."""
    first, indent = _start(node)
    last = node.end_lineno or first
    kept: dict[int, bytes] = {number: lines[number - 1] for number in range(first, last + 1)}
    for start, end in sorted(_cuts(node), reverse=True):
        head, tail = kept[start[0]][: start[1]], kept[end[0]][end[1] :]
        joined = head + tail.lstrip(b"; \t")
        for number in range(start[0], end[0] + 1):
            del kept[number]
        if joined.strip():
            kept[start[0]] = joined.rstrip()
        elif not kept.get(end[0] + 1, b"-").strip():
            del kept[end[0] + 1]  # the blank line that set the docstring off
    dedented = (line[indent:] if not line[:indent].strip() else line for _, line in sorted(kept.items()))
    return b"\n".join(dedented).decode().strip()


Position = tuple[int, int]


def _cuts(node: Definition) -> Iterator[tuple[Position, Position]]:
    """Spans, none within another, that do not belong to the document: docstrings, and in classes methods' bodies."""
    if isinstance(node, ast.ClassDef):
        yield from _docstring_span(node)
        for member in _members(node.body):
            yield _start(member.body[0]), _end(member.body[-1])
    else:
        for definition in _with_inner(node):
            yield from _docstring_span(definition)


def _docstring_span(node: Definition) -> Iterator[tuple[Position, Position]]:
    if ast.get_docstring(node, clean=False) is not None:
        yield _start(node.body[0]), _end(node.body[0])


def _start(node: ast.stmt) -> Position:
    """Line (from 1) and byte column of a statement, its decorators included."""
    decorators = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)]), node.col_offset


def _end(node: ast.stmt) -> Position:
    return node.end_lineno or node.lineno, node.end_col_offset or node.col_offset


def _shortest_prefix(sentences: list[str]) -> str:
    for count in range(1, len(sentences) + 1):
        text = " ".join(sentences[:count])
        if len(WORD.findall(text)) >= LEAST_WORDS:
            return text
    return ""


def _only_repeats(words: list[str], name: str) -> bool:
    said = {word.lower() for word in words} - STOP_WORDS
    return said <= identifier_words(name)
