"""What every parser makes of a file: its title and its blocks, in reading order."""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from sdretrieval.corpus.read.report import Trouble
from sdretrieval.errors import MissingPackageError

PACKAGES = {
    "markdown_it": "markdown-it-py", "selectolax.lexbor": "selectolax", "pypdf": "pypdf", "docutils": "docutils",
    "webencodings": "webencodings", "chardetng_py": "chardetng-py",
    "mammoth": "mammoth", "pptx": "python-pptx",
}  # fmt: skip
"""The parsers are optional packages: module -> the name that pip knows."""
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Thai, Lao, Burmese, Khmer, kana and Han: scripts without spaces between words."""
WORD = re.compile(f"[{UNSPACED}]|[^\\s{UNSPACED}]+")
UNSPACED_STOPS = ("。", "！", "？")
"""Full stops that no space follows."""
BREAKS = re.compile("\u00ad[ \n]?|[\u2060\ufeff]|(?<![\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff])\u200b")
"""What only tells where a line may break, and the mark of a file glued to another. In scripts without spaces a
zero-width space parts words."""
ACCENTED = re.compile("[^\\W\\d_][\u0300-\u036f\u0653-\u0655\u3099\u309a]+|[\u1100-\u11ff]+")
"""Letters with accents of their own, and the parts of Korean syllables. (NFC of a whole text would change others.)"""
LIGATURES = str.maketrans({
    "\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st",
})  # fmt: skip
SENTENCE_END = re.compile(r"(?<=[.!?…])(?:(?<=\w\w[.!?…])|(?<=\W[.!?…]))\s+(?![a-z])|(?<=[。！？])")


class Kind(Enum):
    """What a block is."""

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST_ITEM = "list item"
    CODE = "code"
    TABLE_ROW = "table row"


class Block(NamedTuple):
    """One heading, paragraph, list item, piece of code or row of a table, without markup."""

    kind: Kind
    text: str
    level: int = 0
    """Of a heading: 1 is the highest. 0 for all other blocks."""


@dataclass(frozen=True)
class Parsed:
    """A file as its parser saw it."""

    blocks: list[Block]
    title: str = ""
    """What the file's metadata call it; empty if they do not."""
    lost_pages: int = 0
    """Pages of a PDF that are broken, or pictures of text."""
    unreadable: int = 0
    """Characters of a PDF whose font does not say what they are."""
    words_left_out: int = 0
    """Words around the text: menus of a page, running heads and page numbers of a PDF."""
    mixed_pages: int = 0
    """Pages of a PDF that may have columns, and were read across."""


class Unread(NamedTuple):
    """Why a file gave no passages."""

    trouble: Trouble
    reason: str


def table_row(cells: Iterable[str]) -> Block:
    """A row of a table; empty cells leave no trace."""
    return Block(Kind.TABLE_ROW, " | ".join(cell for cell in cells if cell))


def word_count(text: str) -> int:
    """Words between spaces; in scripts without spaces each character counts, as it does to a model's tokenizer."""
    return len(text.split()) if text.isascii() else len(WORD.findall(text))


def runs_of_words(text: str, most: int) -> list[str]:
    """`text` itself where it holds at most `most` words, else runs of that many; joined they are `text`."""
    if word_count(text) <= most:
        return [text]
    starts = [word.start() for word in WORD.finditer(text)][most::most]
    return [text[start:end] for start, end in zip([0, *starts], [*starts, len(text)], strict=True)]


def one_line(text: str) -> str:
    """`text` with single spaces and no line ends."""
    return " ".join(text.split())


def as_written(text: str) -> str:
    """`text` as its author wrote it, whatever typesetting made of it: words that may break at a line's end and letters
    in ligatures are whole, accents are composed (NFC)."""
    if text.isascii():
        return text
    text = BREAKS.sub("", text).translate(LIGATURES)
    return ACCENTED.sub(lambda letters: unicodedata.normalize("NFC", letters[0]), text)


def sentences(text: str) -> list[str]:
    """The sentences of a paragraph. A full stop after a single letter (an initial, `e.g.`) ends none."""
    return [part for part in SENTENCE_END.split(text) if part.strip()]


def load_parser(module: str, files: str) -> Any:
    """The module. Raises MissingPackageError, holding the pip command, if it is absent; `files` says what for."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = PACKAGES[module]
        raise MissingPackageError(
            f"Reading {files} files needs the package {package}, which is not installed ({error}); "
            f"run: pip install {package}  (for all kinds of documents: pip install 'sdretrieval[documents]')"
        ) from error
