"""Distinct short passages from what every machine has: the sources and documentation of installed packages."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterator
from pathlib import Path

WORDS = 24
"""A passage: about 40 word pieces of code, 64 at most in nearly all."""
SUFFIXES = (".py", ".pyi", ".md", ".rst", ".txt", ".h", ".hpp", ".json", ".toml")
FEWEST = 6


def passages(count: int) -> list[str]:
    """`count` of them, each another text. Raises SystemExit where the installed packages hold fewer."""
    seen: set[int] = set()
    found: list[str] = []
    for text in _cut():
        digest = hash(text)
        if digest not in seen:
            seen.add(digest)
            found.append(text)
            if len(found) == count:
                return found
    raise SystemExit(f"{count:,} passages asked for, the installed packages hold {len(found):,}; ask for fewer")


def _cut() -> Iterator[str]:
    """Runs of WORDS words of each file, in the files' order; line ends become spaces."""
    for path in _files():
        try:
            words = path.read_text(encoding="utf8").split()
        except (OSError, UnicodeDecodeError):
            continue
        for start in range(0, len(words), WORDS):
            part = words[start : start + WORDS]
            if len(part) >= FEWEST:
                yield " ".join(word[:40] for word in part)


def _files() -> Iterator[Path]:
    for name in ("stdlib", "purelib"):
        yield from sorted(path for path in Path(sysconfig.get_paths()[name]).rglob("*") if path.suffix in SUFFIXES)
