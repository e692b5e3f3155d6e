"""The kinds of query that a document gives by itself, each with what is left of the document without it.

A span is the inverse cloze task of Lee, Chang and Toutanova (ACL 2019) with short queries; a title as the query of its
text was used by Cheng et al. (2023) and others. Words are counted as a tokenizer would: in scripts that put no spaces
between words each character is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from sdretrieval.corpus.read.documents.blocks import WORD, one_line, runs_of_words, sentences, word_count
from sdretrieval.corpus.read.documents.cut import BETWEEN_HEADINGS
from sdretrieval.corpus.text import normalised
from sdretrieval.corpus.types import joined

LEAST_TITLE_WORDS, LEAST_HEADING_WORDS, LEAST_LEADING_WORDS = 3, 2, 4
LEAST_SPAN_WORDS, MOST_SPAN_WORDS = 6, 12
MOST_HEADING_WORDS = 12
LEAST_LEFT_WORDS = 8
"""A document of fewer words, once the query is hidden from it, says nothing any more: the query is not masked."""

MARKDOWN_HEADING = re.compile(r"^[ \t]*#{1,6}[ \t]+(?P<text>\S.*?)[ \t#]*$|^(?P<over>\S.*)\n[=\-~^]{3,}[ \t]*$", re.M)


def plain(text: str) -> str:
    """A text as it is searched for a query: `normalised`, the path of headings above a passage as words."""
    return normalised(text.replace(BETWEEN_HEADINGS, " "))


class Taken(NamedTuple):
    """A query's text, and the document without it (None where too little is left)."""

    text: str
    masked: str | None


Taker = Callable[[str, str, np.random.Generator], Taken | None]
"""From a document's title and text to a query; None where it has none of this kind."""


def title_of(title: str, text: str, generator: np.random.Generator) -> Taken | None:
    """The title; of a passage below headings (`Manual > Install`) all of them."""
    words = one_line(title.replace(BETWEEN_HEADINGS, " "))
    if word_count(words) < LEAST_TITLE_WORDS:
        return None
    return Taken(words, _left("", text.replace(title, " ") if title in text else text))


def heading_of(title: str, text: str, generator: np.random.Generator) -> Taken | None:
    """The heading right above a passage, or one that stands in the text."""
    above, _, last = title.rpartition(BETWEEN_HEADINGS)
    found = [Taken(one_line(last), _left(above, text.replace(last, " ")))] if above else []
    for match in MARKDOWN_HEADING.finditer(text):
        heading = match["text"] or match["over"]
        found.append(Taken(one_line(heading), _left(title, text[: match.start()] + text[match.end() :])))
    fitting = [one for one in found if LEAST_HEADING_WORDS <= word_count(one.text) <= MOST_HEADING_WORDS]
    return fitting[generator.integers(len(fitting))] if fitting else None


def leading_of(title: str, text: str, generator: np.random.Generator) -> Taken | None:
    """The first sentence, shortened."""
    for sentence in _sentences(text)[:1]:
        if word_count(sentence) >= LEAST_LEADING_WORDS:
            shown = runs_of_words(sentence, MOST_SPAN_WORDS)[0]
            return Taken(one_line(shown), _without(title, text, sentence, shown))
    return None


def span_of(title: str, text: str, generator: np.random.Generator) -> Taken | None:
    """A run of words of one sentence; of the whole text where no sentence is long enough (code, lists)."""
    long_enough = [sentence for sentence in _sentences(text) if word_count(sentence) >= LEAST_SPAN_WORDS]
    if not long_enough and word_count(text) < LEAST_SPAN_WORDS:
        return None
    whole = long_enough[generator.integers(len(long_enough))] if long_enough else text
    words = list(WORD.finditer(whole))
    length = int(generator.integers(LEAST_SPAN_WORDS, min(MOST_SPAN_WORDS, len(words)) + 1))
    start = int(generator.integers(len(words) - length + 1))
    span = whole[words[start].start() : words[start + length - 1].end()]
    return Taken(one_line(span), _without(title, text, whole, span))


def _sentences(text: str) -> list[str]:
    return [part.strip() for line in text.splitlines() for part in sentences(line)]


def _without(title: str, text: str, sentence: str, words: str) -> str | None:
    """The document without the sentence that the words were taken from; where that is nearly all, without the words."""
    return _left(title, text.replace(sentence, " ", 1)) or _left(title, text.replace(words, " ", 1))


def _left(title: str, text: str) -> str | None:
    left = joined(title, text.strip())
    return left if word_count(left) >= LEAST_LEFT_WORDS else None
