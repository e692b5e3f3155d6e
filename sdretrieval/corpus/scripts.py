"""Words in any script: where no spaces part the words, overlapping n-grams of characters stand for them.

Han, kana and Hangul give single characters and pairs, Thai, Lao, Khmer and Burmese letters pairs and triples: on
Chinese, Japanese and Korean collections such n-grams rank about as well as words from a segmenter (Savoy 2005,
Comparative Study of Monolingual and Multilingual Search Models for Use with Asian Languages), and they need none.
Hangul is written with spaces, but particles cling to its nouns. How a word was typeset does not count: invisible
characters, ligatures, full-width and other compatibility forms, the way an accent is encoded (`tidied`).
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
IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
"""Unicode's Default_Ignorable_Code_Point: soft hyphens, zero-width spaces and joiners, variation selectors, ..."""
VOWEL_SIGNS = re.compile("[\u0591-\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670]")
"""Hebrew and Arabic signs that most writers leave out, and the stroke that stretches an Arabic word."""
NON_JOINER = "\u200c"
ARABIC = "[\u0620-\u06d3\u06d5-\u06ff\u0750-\u077f\u08a0-\u08ff]+"
PARTED_WORD = re.compile(f"{ARABIC}(?:\u200c{ARABIC})+")
"""Persian and its neighbours put a zero-width non-joiner where others put a space, or nothing."""
COMPATIBLE = re.compile("[^\u00bc-\u00be\u2120\u2122\u2150-\u215f\u2189]+")
"""All but fractions (NFKC makes 11/2 of 1\u00bd) and the signs of trade marks (NFKC sticks letters to the name)."""
EXPONENT = re.compile("(?<=[0-9])(?=[\u00b2\u00b3\u00b9\u2070-\u2079])")
"""Between a number and its power, which NFKC makes one number."""
DOTTED_I = "i\u0307"
"""What `casefold` makes of the Turkish capital of i."""
WORD = re.compile(r"\w+")


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


@cache
def patterns() -> Patterns:
    """Compiled when first needed: the list of marks takes a moment."""
    points = [point for point in range(0x300, 0x1F000) if unicodedata.category(chr(point)) in ("Mn", "Mc")]
    blocks = (list(block) for _, block in groupby(enumerate(points), lambda pair: pair[1] - pair[0]))
    marks = "".join(f"{chr(block[0][1])}-{chr(block[-1][1])}" for block in blocks)
    return Patterns(
        marks=marks,
        special=re.compile(f"[{CJK}{SOUTH_EAST}{marks}]"),
        run=re.compile(f"(?P<cjk>(?:[{CJK}][{marks}]*)+)|(?:[{SOUTH_EAST}][{marks}]*)+"),
        unit=re.compile(f".[{marks}]*", re.DOTALL),
        word=re.compile(f"\\w[\\w{marks}]*"),
    )


def needs_care(text: str) -> bool:
    """Whether `\\w` alone misreads a `tidied` text: it has scripts without spaces or combining marks."""
    return not text.isascii() and patterns().special.search(text) is not None


def tidied(text: str) -> str:
    """The text as far as it says words: compatibility forms as their usual letters and digits, letters composed (NFKC),
    without invisible characters and the vowel signs of Hebrew and Arabic. What a zero-width non-joiner parts in an
    Arabic script is there as one word and as its parts."""
    if text.isascii():
        return text
    text = VOWEL_SIGNS.sub("", text)
    text = PARTED_WORD.sub(lambda word: f"{word[0]} {word[0].replace(NON_JOINER, ' ')}", text)
    text = EXPONENT.sub(" ", IGNORABLE.sub("", text))
    return COMPATIBLE.sub(lambda part: unicodedata.normalize("NFKC", part[0]), text)


def folded(text: str) -> str:
    """A `tidied` text in one case."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", text.casefold()).replace(DOTTED_I, "i")


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


def lower_words(text: str) -> Iterator[str]:
    """Words between spaces and punctuation in one case, their combining marks included; n-grams where no spaces part
    the words."""
    text = folded(tidied(text))
    if not needs_care(text):
        yield from WORD.findall(text)
        return
    for run in runs(text):
        yield from run.ngrams() if run.sizes else patterns().word.findall(run.text)


def neighbours(text: str) -> Iterator[str]:
    """Words in their order; of a script without spaces, its characters."""
    text = folded(tidied(text))
    if not needs_care(text):
        yield from WORD.findall(text)
        return
    for run in runs(text):
        yield from run.units or patterns().word.findall(run.text)
