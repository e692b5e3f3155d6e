"""Where in a passage its words meet the query's: what a page marks, as offsets, never as markup."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from sdretrieval.indexes.lexical import LexicalIndex

WORD = re.compile(r"\w+")
LONGEST = 320
"""Characters of the part of a text that is shown first."""
MARKS = 64
READ = 200_000
"""Characters of a text that are looked at."""

Span = tuple[int, int]


@dataclass(frozen=True)
class Highlight:
    """Half-open character ranges in a text: the part that meets the query best, and words in it that do."""

    passage: Span
    words: list[Span]


def highlight(query: str, text: str, lexical: LexicalIndex | None) -> Highlight:
    """Words match if BM25 takes them for one term (without BM25: if they are equal but for case); a rare one counts
    more. The part is at most `LONGEST` long, and begins with a word."""
    terms_of = _by_bm25(lexical) if lexical is not None else _by_case
    wanted = dict(terms_of(query))
    found = list(_found(text[:READ], wanted, terms_of))
    start = _best_start(found)
    end = min(start + LONGEST, len(text))
    if end < len(text) and (space := text.rfind(" ", start + LONGEST // 2, end + 1)) > 0:
        end = space  # no word is cut
    return Highlight((start, end), [span for span, _ in found if start <= span[0] and span[1] <= end][:MARKS])


Terms = Callable[[str], Iterator[tuple[str | int, float]]]
"""The terms of a text and what each is worth."""


def _by_bm25(lexical: LexicalIndex) -> Terms:
    def terms(text: str) -> Iterator[tuple[str | int, float]]:
        for number in lexical.vocabulary.ids(text):
            yield number, float(lexical.idf_V[number])

    return terms


def _by_case(text: str) -> Iterator[tuple[str | int, float]]:
    for word in WORD.findall(text):
        if len(word) > 1:
            yield word.casefold(), 1.0


def _found(text: str, wanted: dict[str | int, float], terms_of: Terms) -> Iterator[tuple[Span, float]]:
    """Words of the text that hold a wanted term, with what it is worth."""
    worth: dict[str, float] = {}
    for match in WORD.finditer(text):
        word = match.group()
        if word not in worth:
            worth[word] = max((wanted.get(term, 0.0) for term, _ in terms_of(word)), default=0.0)
        if worth[word] > 0:
            yield match.span(), worth[word]


def _best_start(found: list[tuple[Span, float]]) -> int:
    """Where the window with the most worth begins: at a found word, or at 0 if that is as good."""
    best, start, total, right = 0.0, 0, 0.0, 0
    for left, ((begins, _), value) in enumerate(found):
        while right < len(found) and found[right][0][1] - begins <= LONGEST:
            total += found[right][1]
            right += 1
        if total > best and (begins > LONGEST or left == 0):
            best, start = total, 0 if begins <= LONGEST // 2 and found[right - 1][0][1] <= LONGEST else begins
        total -= value if right > left else 0.0
    return start
