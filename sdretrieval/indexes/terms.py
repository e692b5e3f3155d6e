"""Texts to BM25 terms: words in lower case, stop words dropped, stemmed; identifiers of code split as well.

Where a script has no spaces between words, n-grams of characters are the terms (see `corpus.scripts`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sdretrieval.corpus.scripts import Run, folded, needs_care, patterns, runs, tidied
from sdretrieval.errors import MissingPackageError

WORD = re.compile(r"\b\w\w+\b")
IDENTIFIER = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*|\w\w+")
HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
SEPARATOR = re.compile(r"_+")
STOPPED, UNKNOWN = -1, -2
"""In place of a term's number."""


def identifier_words(text: str) -> Iterator[str]:
    """Words of `text`, and for a compound identifier the whole, its dotted parts, and their words.

    `json.JSONDecoder.raw_decode` gives itself, json, JSONDecoder, JSON, Decoder, raw_decode, raw, decode.
    Single characters are dropped, as in plain text.
    """
    return _identifier_words(text, IDENTIFIER)


def _identifier_words(text: str, identifier: re.Pattern[str]) -> Iterator[str]:
    for match in identifier.finditer(text):
        seen: dict[str, None] = {match.group(): None}
        for part in match.group().split("."):
            seen[part] = None
            for piece in SEPARATOR.split(part):
                seen.update(dict.fromkeys(HUMP.split(piece)))
        yield from (word for word in seen if len(word) > 1)


@cache
def _marked_identifier() -> re.Pattern[str]:
    """IDENTIFIER for a text with combining marks."""
    sign = rf"[\w{patterns().marks}]"
    return re.compile(rf"[^\W\d]{sign}*(?:\.[^\W\d]{sign}*)*|\w{sign}+")


@dataclass
class Vocabulary:
    """Terms and their numbers. `ids(text)` numbers the terms of a text; only `grow=True` adds new ones.

    stop_words: dropped before stemming. stemmer: a Snowball language, or `none`. split_identifiers: see
    `identifier_words`.
    """

    split_identifiers: bool = False
    stop_words: frozenset[str] = frozenset()
    stemmer: str = "english"
    numbers: dict[str, int] = field(default_factory=dict)
    _number_of_word: dict[str, int] = field(default_factory=dict, repr=False)
    _snowball: Any = field(default=None, repr=False)

    def words(self, text: str) -> Iterator[str]:
        """Words of a text in one case, before stop words and stemming; n-grams if no spaces separate its words."""
        text = tidied(text) if self.split_identifiers else folded(tidied(text))
        if needs_care(text):
            return self._words_with_care(text)
        if self.split_identifiers:
            return (folded(word) for word in identifier_words(text))
        return iter(WORD.findall(text))

    def _words_with_care(self, text: str) -> Iterator[str]:
        for run in runs(text):
            if run.sizes:
                yield from run.ngrams()
            elif self.split_identifiers:
                yield from (folded(word) for word in _identifier_words(run.text, _marked_identifier()))
            else:
                yield from (word for word in patterns().word.findall(run.text) if len(word) > 1)

    def ids(self, text: str, grow: bool = False) -> list[int]:
        """Numbers of the terms of `text`, with repetition; terms that no document holds are left out."""
        numbers = (self._number(word, grow) for word in self.words(text))
        return [number for number in numbers if number >= 0]

    def unknown(self, text: str) -> int:
        """How many words of `text`, with repetition, are no stop words and in no document."""
        return sum(self._number(word, False) == UNKNOWN for word in self.words(text))

    def without(self, text: str, removed: Set[int]) -> str:
        """`text` without the words whose numbers are in `removed`, in whatever form they occur in it.

        Of an identifier that is split the other parts stay. If no spaces separate words, a removed character goes, and
        a removed n-gram is taken apart. The text is `tidied`.
        """
        text = tidied(text)
        pattern = IDENTIFIER if self.split_identifiers else WORD
        if not needs_care(text):
            return pattern.sub(lambda match: self._rest(match.group(), removed), text)
        pattern = _marked_identifier() if self.split_identifiers else patterns().word
        return "".join(
            self._apart(run, removed)
            if run.sizes
            else pattern.sub(lambda match: self._rest(match.group(), removed), run.text)
            for run in runs(text)
        )

    def _rest(self, word: str, removed: Set[int]) -> str:
        if not self.split_identifiers:
            return "" if self._number(folded(word), False) in removed else word
        if not any(self._number(folded(part), False) in removed for part in identifier_words(word)):
            return word
        pieces = (piece for part in word.split(".") for run in SEPARATOR.split(part) for piece in HUMP.split(run))
        return " ".join(piece for piece in pieces if self._number(folded(piece), False) not in removed)

    def _apart(self, run: Run, removed: Set[int]) -> str:
        units = list(run.units)
        for size in sorted(run.sizes, reverse=True):
            for start in range(len(run.units) - size + 1):
                if self._number(folded("".join(run.units[start : start + size])), False) in removed:
                    units[start] = f"{run.units[start]} " if size > 1 else " "
        return "".join(units)

    def _number(self, word: str, grow: bool) -> int:
        known = self._number_of_word.get(word)
        if known is not None:
            return known
        if word in self.stop_words:
            return STOPPED
        term = word
        if self.stemmer != "none":
            if self._snowball is None:
                self._snowball = _snowball(self.stemmer)
            term = str(self._snowball.stemWord(word))
        number = self.numbers.get(term, UNKNOWN)
        if number < 0 and grow:
            number = self.numbers[term] = len(self.numbers)
        if grow:  # queries leave no trace, so that a server's memory does not grow with what is asked
            self._number_of_word[word] = number
        return number


def _snowball(language: str) -> Any:
    try:
        import Stemmer
    except ModuleNotFoundError as error:
        raise MissingPackageError("BM25 needs PyStemmer; run: pip install PyStemmer") from error
    return Stemmer.Stemmer(language)
