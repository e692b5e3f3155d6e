"""Distinct short passages from what every machine has: the sources and documentation of installed packages."""

from __future__ import annotations

import sysconfig
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

WORDS = 24
"""A passage: about 80 word pieces of code, 50 of prose."""
SUFFIXES = (".py", ".pyi", ".md", ".rst", ".txt", ".h", ".hpp", ".json", ".toml")
FEWEST = 6


def passages(count: int) -> list[str]:
    """`count` of them, each another text. Raises SystemExit where the installed packages hold fewer."""
    return list(exactly(count, distinct(cut_files())))


def exactly(count: int, texts: Iterable[str]) -> Iterator[str]:
    """The first `count`. Raises SystemExit where there are fewer."""
    lacking = count
    for text in islice(texts, count):
        lacking -= 1
        yield text
    if lacking:
        found = count - lacking
        raise SystemExit(f"{count:,} passages asked for, the installed packages hold {found:,}; ask for fewer")


def distinct(texts: Iterable[str]) -> Iterator[str]:
    """Each text once. A number of each is held, not the text."""
    seen: set[int] = set()
    for text in texts:
        digest = hash(text)
        if digest not in seen:
            seen.add(digest)
            yield text


def cut_files() -> Iterator[str]:
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
