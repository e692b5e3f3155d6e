"""What the whole package shares: comparing texts, and choosing by hash instead of by order."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Hashable

LIST_AT_MOST = 5
"""How many examples a message or a report names."""


def normalised(text: str) -> str:
    """`text` in one case, with single spaces and composed letters (NFC): two texts are taken as the same where these
    agree. An accent is one character or two, depending on who wrote the file."""
    return " ".join(unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).split())


def hash_rank(seed: int, *parts: Hashable) -> int:
    """A 64-bit number that depends on `seed` and `parts` only: sorting by it shuffles, whatever the order before.

    Python's own `hash` of a string differs from process to process, so it cannot be used for this.
    """
    key = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.blake2b(key.encode("utf8", "surrogatepass"), digest_size=8).digest(), "big")


def examples(names: list[str]) -> str:
    """The first few names for a message, quoted, with the number of the others."""
    shown = ", ".join(repr(name) for name in names[:LIST_AT_MOST])
    hidden = len(names) - LIST_AT_MOST
    return f"{shown} and {hidden} more" if hidden > 0 else shown
