"""Comparing texts: as equal, and as near by their sets of words; and choosing by hash instead of by order."""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from sdretrieval.corpus.scripts import IGNORABLE, folded, lower_words, neighbours

LIST_AT_MOST = 5
"""How many examples a message or a report names."""

Element = TypeVar("Element", bound=Hashable)


@dataclass(frozen=True)
class Findings:
    """How many things of one kind were found, and the first few of them."""

    count: int
    examples: tuple[str, ...] = ()


def normalised(text: str) -> str:
    """`text` in one case, with single spaces, composed letters (NFC) and no invisible characters: two texts are taken
    as the same where these agree. An accent is one character or two, depending on who wrote the file."""
    if not text.isascii():
        text = unicodedata.normalize("NFC", IGNORABLE.sub("", text))
    return " ".join(folded(text).split())


def content_digest(text: str) -> bytes:
    """16 bytes that are equal exactly where two texts agree up to runs of white space."""
    return hashlib.blake2b(" ".join(text.split()).encode("utf8", "surrogatepass"), digest_size=16).digest()


def text_digest(*parts: str) -> bytes:
    """8 bytes: among ten million different texts two share one with a chance of 1 in 400,000."""
    return hashlib.blake2b("\x1f".join(parts).encode("utf8"), digest_size=8).digest()


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


def words_of(text: str) -> frozenset[str]:
    """The set of words in `text`, in one case; n-grams of characters where there are no spaces (`scripts`)."""
    return frozenset(lower_words(text))


def shingles_of(text: str, size: int = 5) -> frozenset[tuple[str, ...]]:
    """The set of runs of `size` neighbouring words (one run of all words where there are fewer).

    Where there are no spaces between words, characters take their place.
    """
    words = list(neighbours(text))
    return frozenset(tuple(words[start : start + size]) for start in range(max(1, len(words) - size + 1)))


def jaccard(left: frozenset[Element], right: frozenset[Element]) -> float:
    """|left and right| / |left or right|; two empty sets have 0, since there is nothing that they share."""
    shared = len(left & right)
    return shared / (len(left) + len(right) - shared) if shared else 0.0


def similar_pairs(sets: Sequence[frozenset[Element]], threshold: float) -> Iterator[tuple[int, int]]:
    """Yield every pair of positions (a, b), a < b, whose `jaccard` is at least `threshold` (above 0)."""
    frequency = Counter(element for elements in sets for element in elements)
    holders: dict[Element, list[int]] = defaultdict(list)
    for position, elements in enumerate(sets):
        ordered = sorted(elements, key=lambda element: (frequency[element], element))
        # A little less than the threshold, so that rounding never hides a pair that is exactly on it.
        prefix = ordered[: len(ordered) - math.ceil(threshold * len(ordered) - 1e-9) + 1]
        for other in sorted({other for element in prefix for other in holders[element]}):
            if jaccard(sets[other], elements) >= threshold:
                yield other, position
        for element in prefix:
            holders[element].append(position)
