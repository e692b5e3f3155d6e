"""Counts, bytes and seconds as people read them."""

from __future__ import annotations

import re


def readable_bytes(size: float) -> str:
    """`1234567` as `1.2 MB` (powers of ten)."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def readable_seconds(seconds: float) -> str:
    """8.4 s, 3 min 20 s, 2 h 05 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def quantity(count: int, noun: str) -> str:
    """`1 dev query`, `12,800 candidates`: a count and its noun, which is given in the plural."""
    return f"{count:,} {singular(noun) if count == 1 else noun}"


def singular(words: str) -> str:
    """Words for one, from those for several: the first of them that ends in s is the noun (`queries left out`)."""
    return re.sub(r"\b(\w+?)(ies|s)\b", lambda m: m[1] + ("y" if m[2] == "ies" else ""), words, count=1)
