"""Counts, bytes and seconds as people read them."""

from __future__ import annotations

import re
from collections.abc import Sequence


def readable_bytes(size: float) -> str:
    """`1234567` as `1.2 MB` (powers of ten)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control characters, old and C1: a terminal takes them for commands
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u206f"  # marks that turn the order of what is read
    "\u2028\u2029\ud800-\udfff\ufff9-\ufffb\U000e0000-\U000e007f]"  # line ends, halves of pairs, what nobody sees
)
HALF_PAIR = re.compile("[\ud800-\udfff]")
FORMULA = re.compile(r"'*\s*[=+\-@\uff1d\uff0b\uff0d\uff20]")
NUMBER = re.compile(r"[+-]?(\d[\d.]*(e[+-]?\d+)?|inf|nan)", re.ASCII | re.IGNORECASE)


def printable(text: str) -> str:
    """A text of others, safe to show on a terminal: what is no character of it, or would steer it, is U+FFFD."""
    return UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


def encodable(text: str) -> str:
    """With U+FFFD for halves of surrogate pairs (bytes of a command line that are not UTF-8), as in files."""
    return HALF_PAIR.sub("\N{REPLACEMENT CHARACTER}", text)


def cell_text(text: str) -> str:
    """A cell of a table that people open in a spreadsheet: ' before what it would take for a formula."""
    return f"'{text}" if FORMULA.match(text) and not NUMBER.fullmatch(text) else text


def text_of_cell(cell: str) -> str:
    """The inverse of `cell_text`."""
    text = cell.removeprefix("'")
    return text if cell_text(text) == cell else cell


def readable_seconds(seconds: float) -> str:
    """8.4 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def rough_seconds(seconds: float) -> str:
    """40 s, 6 min, 2 h 05 min: of a time that nobody knows to the second."""
    minutes = round(seconds / 60)
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def quantity(count: int, noun: str) -> str:
    """`1 dev query`, `12,800 candidates`: a count and its noun, which is given in the plural."""
    return f"{count:,} {singular(noun) if count == 1 else noun}"


def singular(words: str) -> str:
    """Words for one, from those for several: the first of them that ends in s is the noun (`queries left out`)."""
    return re.sub(r"\b(\w+?)(ies|s)\b", lambda m: m[1] + ("y" if m[2] == "ies" else ""), words, count=1)


def seeds_text(seeds: Sequence[int]) -> str:
    """`seed 13`, or `seeds 13, 14, 15`."""
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
