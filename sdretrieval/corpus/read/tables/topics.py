"""TREC topics: `<top> <num> Number: 301 <title> ...` and the XML forms (`<topic number="1"><query>...`)."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sdretrieval.corpus.read.tables.queries import Query, kept_query
from sdretrieval.corpus.read.tables.report import Tally, Trouble
from sdretrieval.corpus.read.tables.streams import text_lines
from sdretrieval.errors import CorpusError

OPENING = re.compile(r"<top(?:ic)?(?=[\s>])([^>]*)>", re.IGNORECASE)
NUMBER_WITHIN = re.compile(r"<num(?:ber)?>\s*(?:Number:)?\s*([^\s<]+)", re.IGNORECASE)
NUMBER_OUTSIDE = re.compile(r"""\b(?:number|num|id|qid)\s*=\s*["']([^"']+)["']""", re.IGNORECASE)
TITLE = re.compile(r"<(?:title|query)>\s*(?:Topic:)?\s*([^<]*)", re.IGNORECASE)


def read_topics(path: Path, tally: Tally) -> Iterator[Query]:
    """Number and title of each topic, one topic in memory at a time. Raises CorpusError where there is none.

    Read by pattern, not by an XML parser: the classic form is no XML.
    """
    for topic in _topics(path, tally):
        tally.read += 1
        number = NUMBER_OUTSIDE.search(topic.attributes) or NUMBER_WITHIN.search(topic.body)
        title = TITLE.search(topic.body)
        if number is None or title is None:
            tally.note(Trouble.BROKEN, topic.line, f"a topic without a {'number' if number is None else 'title'}")
            continue
        yield from kept_query(number[1].strip(), html.unescape(" ".join(title[1].split())), topic.line, tally)
    if not tally.read:
        raise CorpusError(f'{path} holds no topics: expected <top> ... </top> or <topic number="1"> ... </topic>.')
    tally.require_few_broken()


class _Topic(NamedTuple):
    line: int
    attributes: str
    body: str


def _topics(path: Path, tally: Tally) -> Iterator[_Topic]:
    """From one opening to the next, since old files leave out the ends."""
    opened: tuple[int, str] | None = None
    body: list[str] = []
    for number, line in text_lines(path, tally):
        # re.split gives text and the opening's attributes in turn, text first
        before, *others = OPENING.split(line)
        body.append(before)
        for attributes, text in zip(others[::2], others[1::2], strict=True):
            if opened:
                yield _Topic(*opened, "".join(body))
            opened, body = (number, attributes), [text]
        body = body if opened else []
    if opened:
        yield _Topic(*opened, "".join(body))
