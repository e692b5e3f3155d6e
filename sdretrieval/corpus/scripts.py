"""Words in any script: where no spaces part the words, overlapping n-grams of characters stand for them.

Han, kana and Hangul give single characters and pairs, Thai, Lao, Khmer and Burmese letters pairs and triples: on
Chinese, Japanese and Korean collections such n-grams rank about as well as words from a segmenter (Savoy 2005,
Comparative Study of Monolingual and Multilingual Search Models for Use with Asian Languages), and they need none.
Hangul is written with spaces, but particles cling to its nouns. A text that has neither such scripts nor combining
marks is read as `\\w` reads it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from itertools import groupby
from typing import NamedTuple

CJK = (
    "\u3005\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u3105-\u312f\u31a0-\u31bf\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U0001b000-\U0001b16f\U00020000-\U000323af"
    "\u1100-\u11ff\u3131-\u318e\ua960-\ua97c\uac00-\ud7a3\ud7b0-\ud7fb"
)
"""Letters of Han, hiragana, katakana, bopomofo; then of Hangul."""
SOUTH_EAST = (
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd\u0ec0-\u0ec6\u0edc-\u0edf\u1780-\u17b3\u17d7"
    "\u17dc\u1000-\u102a\u103f\u1050-\u1055\u105a-\u105d\u1061\u1065\u1066\u106e-\u1070\u1075-\u1081\u108e"
    "\ua9e0-\ua9ef\ua9fa-\ua9fe\uaa60-\uaa7a"
)
"""Letters of Thai, Lao, Khmer and Burmese."""
CJK_SIZES, SOUTH_EAST_SIZES = (1, 2), (2, 3)
WIDE = "\uff01-\uffdc"
"""Full-width Latin and half-width kana, as old East Asian encodings had them."""
JOINER = "\u200d"
SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]")
"""They choose a glyph (of an emoji, of a Han character) and are no part of the word."""
VOWEL_SIGNS = re.compile("[\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670]")
"""Hebrew and Arabic signs that most writers leave out, and the stroke that stretches an Arabic word."""
DOTTED_I = "i\u0307"
"""What `lower` makes of the Turkish capital of i."""


class Run(NamedTuple):
    """A part of a text: a run of one script without spaces, by its characters (marks stay with their letter), or,
    with `sizes` empty, all that is between such runs."""

    text: str
    units: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()

    def ngrams(self) -> Iterator[str]:
        """N-grams of all `sizes`; the whole run where it is shorter than any."""
        if len(self.units) < self.sizes[0]:
            yield self.text
        for size in self.sizes:
            for start in range(len(self.units) - size + 1):
                yield "".join(self.units[start : start + size])


class Patterns(NamedTuple):
    """Regular expressions that know combining marks, which `\\w` does not."""

    marks: str
    special: re.Pattern[str]
    run: re.Pattern[str]
    unit: re.Pattern[str]
    word: re.Pattern[str]
    wide: re.Pattern[str]


@cache
def patterns() -> Patterns:
    """Compiled when first needed: the list of marks takes a moment."""
    points = [c for c in range(0x300, 0x1F000) if unicodedata.category(chr(c)) in ("Mn", "Mc")]
    kept = [point for point in points if not SELECTORS.match(chr(point))]
    blocks = (list(block) for _, block in groupby(enumerate(kept), lambda pair: pair[1] - pair[0]))
    marks = "".join(f"{chr(block[0][1])}-{chr(block[-1][1])}" for block in blocks)
    follow = f"[{marks}{JOINER}]*"
    return Patterns(
        marks=marks,
        special=re.compile(f"[{CJK}{SOUTH_EAST}{WIDE}{marks}\u0130\u0640]"),
        run=re.compile(f"(?P<cjk>(?:[{CJK}]{follow})+)|(?:[{SOUTH_EAST}]{follow})+"),
        unit=re.compile(f".{follow}", re.DOTALL),
        word=re.compile(f"\\w[\\w{marks}{JOINER}]*"),
        wide=re.compile(f"[{WIDE}]+"),
    )


def needs_care(text: str) -> bool:
    """Whether `\\w` alone misreads the text: it has scripts without spaces, combining marks or full-width letters."""
    return not text.isascii() and patterns().special.search(text) is not None


def tidied(text: str) -> str:
    """The text with composed letters (NFC), full-width letters in their usual form, without variation selectors and
    the vowel signs of Hebrew and Arabic."""
    text = VOWEL_SIGNS.sub("", SELECTORS.sub("", text))
    text = patterns().wide.sub(lambda wide: unicodedata.normalize("NFKC", wide.group()), text)
    return unicodedata.normalize("NFC", text)


def runs(text: str) -> Iterator[Run]:
    """The parts of a `tidied` text in their order."""
    pattern, end = patterns(), 0
    for match in pattern.run.finditer(text):
        if match.start() > end:
            yield Run(text[end : match.start()])
        sizes = CJK_SIZES if match["cjk"] else SOUTH_EAST_SIZES
        yield Run(match.group(), tuple(pattern.unit.findall(match.group())), sizes)
        end = match.end()
    if end < len(text):
        yield Run(text[end:])


def marked_words(text: str) -> list[str]:
    """Words between spaces and punctuation, their combining marks included."""
    return [word.replace(JOINER, "").replace(DOTTED_I, "i") for word in patterns().word.findall(text)]


def lower_words(text: str, shortest_word: int = 1) -> Iterator[str]:
    """Words in lower case and n-grams of a text that `needs_care`; words below `shortest_word` characters are left
    out, n-grams are not."""
    for run in runs(tidied(text).lower()):
        if run.sizes:
            yield from run.ngrams()
        else:
            yield from (word for word in marked_words(run.text) if len(word) >= shortest_word)


def neighbours(text: str) -> Iterator[str]:
    """Words in their order; of a script without spaces, its characters."""
    for run in runs(tidied(text).lower()):
        yield from run.units or marked_words(run.text)
