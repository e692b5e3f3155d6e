"""All pairs of sets that overlap by at least a threshold, exactly, without comparing every pair.

Prefix filtering (Chaudhuri, Ganti and Kaushik, ICDE 2006): with the elements ordered from rare to common, two sets
whose Jaccard overlap reaches t share an element among their first |x| - ceil(t |x|) + 1.
"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterator, Sequence
from typing import TypeVar

from sdretrieval.corpus.scripts import lower_words, needs_care, neighbours

Element = TypeVar("Element", bound=Hashable)

WORD = re.compile(r"\w+")


def words_of(text: str) -> frozenset[str]:
    """The set of words in `text`, in one case; n-grams of characters where there are no spaces (`scripts`)."""
    if needs_care(text):
        return frozenset(lower_words(text.casefold()))
    return frozenset(WORD.findall(text.casefold()))


def shingles_of(text: str, size: int = 5) -> frozenset[tuple[str, ...]]:
    """The set of runs of `size` neighbouring words (one run of all words where there are fewer).

    Where there are no spaces between words, characters take their place.
    """
    words = list(neighbours(text.casefold())) if needs_care(text) else WORD.findall(text.casefold())
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
        # A little less than the threshold, so that rounding never hides a pair that stands exactly on it.
        prefix = ordered[: len(ordered) - math.ceil(threshold * len(ordered) - 1e-9) + 1]
        for other in sorted({other for element in prefix for other in holders[element]}):
            if jaccard(sets[other], elements) >= threshold:
                yield other, position
        for element in prefix:
            holders[element].append(position)
