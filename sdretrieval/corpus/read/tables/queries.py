"""What is asked of the documents: queries from a table, TREC topics, a query log, and judgements.

TREC topics are `<top> <num> Number: 301 <title> ...` and the XML forms (`<topic number="1"><query>...`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from sdretrieval.corpus.read.report import Tally, Trouble
from sdretrieval.corpus.read.tables.columns import Roles, as_text, cell, holding, must_hold
from sdretrieval.corpus.read.tables.files import Format, clean, format_of, text_lines
from sdretrieval.corpus.read.tables.hub import is_dataset
from sdretrieval.corpus.read.tables.records import read_records
from sdretrieval.corpus.text import normalised, text_digest
from sdretrieval.errors import CorpusError

QUERY_REMEDY = "Name it with --column query.text=COLUMN of `corpus convert`."

OPENING = re.compile(r"<top(?:ic)?(?=[\s>])([^>]*)>", re.IGNORECASE)
NUMBER_WITHIN = re.compile(r"<num(?:ber)?>\s*(?:Number:)?\s*([^\s<]+)", re.IGNORECASE)
NUMBER_OUTSIDE = re.compile(r"""\b(?:number|num|id|qid)\s*=\s*["']([^"']+)["']""", re.IGNORECASE)
TITLE = re.compile(r"<(?:title|query)>\s*(?:Topic:)?\s*([^<]*)", re.IGNORECASE)
BETWEEN_IDS = re.compile(r"[\s,;|]+")
LOG_REMEDY = "Name it with --column log.text=COLUMN of `corpus convert`."
QRELS_REMEDY = (
    "Name it with --column qrels.query=COLUMN or qrels.document=COLUMN of `corpus convert`, or give TREC's layout: "
    "query 0 document score."
)


class Query(NamedTuple):
    """One query, and the line it is on."""

    line: int
    id: str
    text: str


def read_queries(source: str | Path, tally: Tally, roles: Roles | None = None) -> Iterator[Query]:
    """Stream the queries of `source`; broken and empty ones are left out. Without an id column, a digest is the id.

    `roles`: names of columns that are not the usual ones. Raises CorpusError for a column that is not found.
    """
    identified, column, known = None, None, False
    for line, values in read_records(source, tally):
        if not known:
            column = must_hold("query.text", "queries' text", roles or {}, values, str(source), QUERY_REMEDY)
            identified, known = holding("query.id", roles or {}, values, str(source)), True
        try:
            identifier, text = cell(values, identified), clean(cell(values, column))
        except ValueError as error:
            tally.note(Trouble.BROKEN, line, str(error))
            continue
        if column not in values:
            tally.note(Trouble.BROKEN, line, f"no {column!r} (found: {', '.join(values)[:80]})")
        elif identified and not identifier.strip():
            tally.note(Trouble.BROKEN, line, f"{identified} is {values.get(identified)!r}, expected an id")
        else:
            yield from kept_query(clean(identifier), text, line, tally)


def kept_query(identifier: str, text: str, line: int, tally: Tally) -> Iterator[Query]:
    """The query, or nothing where its text is empty; an empty id becomes a digest of the text."""
    if text.strip():
        yield Query(line, identifier or f"q-{text_digest(text).hex()}", text)
    else:
        tally.note(Trouble.EMPTY, line, repr(identifier) if identifier else "(no id)")


def read_topics(source: str | Path, tally: Tally, roles: Roles | None = None) -> Iterator[Query]:
    """Number and title of each topic, one topic in memory at a time. Raises CorpusError if there is none.

    Read by pattern, not by an XML parser: the classic form is no XML. Topics have no columns: `roles` say nothing here.
    """
    path = Path(source).expanduser()
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


@dataclass
class LoggedQuery:
    """All lines of a log with one text (one case, single spaces): as first written, how often, what was clicked."""

    text: str
    count: int = 0
    clicked: dict[str, None] = field(default_factory=dict)
    """Ids of existing documents, in the order of their first click."""


def read_log(
    source: str | Path, documents: Container[str], tally: Tally, roles: Roles | None = None
) -> dict[str, LoggedQuery]:
    """The distinct queries of a log by id, which is a digest of the text: it stays when the log grows.

    A line without a count is one time. Clicked ids are a list, or a text that is one id or several separated by blanks,
    commas, semicolons or bars; clicks on absent documents are noted. A click says that a pair is relevant, not how
    much so: its judgement is 1 however often it was made. `roles`: names of columns that are not the usual ones.
    """
    entries: dict[str, LoggedQuery] = {}
    columns: tuple[str, str | None, str | None] | None = None
    for line, values in read_records(source, tally):
        if columns is None:
            given, name = roles or {}, str(source)
            columns = (
                must_hold("log.text", "queries' text", given, values, name, LOG_REMEDY),
                holding("log.clicked", given, values, name),
                holding("log.count", given, values, name),
            )
        try:
            text, count = clean(cell(values, columns[0])), _count(values, columns[2])
        except ValueError as error:
            tally.note(Trouble.BROKEN, line, str(error))
            continue
        if not text.strip():
            tally.note(Trouble.EMPTY, line, f"asked {count:,} times")
            continue
        entry = entries.setdefault(f"log-{text_digest(normalised(text)).hex()}", LoggedQuery(text))
        entry.count += count
        value = values.get(columns[1]) if columns[1] else None
        clicked = [str(part) for part in value] if isinstance(value, list) else [as_text(value) or ""]
        if not isinstance(value, list) and clicked[0] not in documents:
            clicked = [part for part in BETWEEN_IDS.split(clicked[0]) if part]
        for document in clicked:
            if document in documents:
                entry.clicked[document] = None
            else:
                tally.note(Trouble.NOWHERE, line, f"{text[:40]!r} -> {document!r:.40} (no such document)")
    tally.kept = len(entries)
    return entries


def _count(values: Mapping[str, Any], column: str | None) -> int:
    if column is None or values.get(column) in (None, ""):
        return 1
    value = values[column]
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if number < 1 or not number.is_integer():
        raise ValueError(f"{column} is {value!r:.40}, expected a whole number from 1")
    return int(number)


class Judged(NamedTuple):
    """One judgement, and the line it is on."""

    line: int
    query: str
    document: str
    grade: int


def read_judgements(source: str | Path, tally: Tally, roles: Roles | None = None) -> Iterator[Judged]:
    """Stream the judgements of `source`, broken lines left out. Without a column of scores, every pair is relevant.

    Files of other endings than tables have, and .tsv files without a line of names, are read as TREC's or BEIR's
    columns: `query 0 document score` or `query document score`. `roles`: names of columns that are not the usual ones.
    """
    path = Path(source).expanduser()
    kind = None if is_dataset(source) else format_of(path)
    bare = not is_dataset(source) and kind is None
    if kind is Format.TSV:  # with a line of names, its last column is no number
        first = next((line for _, line in text_lines(path, Tally(str(path), "")) if line.strip()), "")
        bare = _grade(first.split()[-1] if first.split() else "") is not None
    roles = roles or {}
    if bare and (role := next((role for role in roles if role.startswith("qrels.")), None)):
        raise CorpusError(
            f"{source} has no line of names, so that --column {role}={roles[role]} names nothing in it; leave --column "
            "out, or give the file a first line of names and the ending .tsv or .csv."
        )
    yield from _from_columns(path, tally) if bare else _from_table(source, tally, roles)


def _from_columns(path: Path, tally: Tally) -> Iterator[Judged]:
    for number, line in text_lines(path, tally):
        columns = line.rstrip("\r\n").split("\t") if line.count("\t") in (2, 3) else line.split()
        if columns == [] or columns == [""]:
            continue
        tally.read += 1
        grade = _grade(columns[-1])
        if len(columns) not in (3, 4):
            tally.note(Trouble.BROKEN, number, f"{len(columns)} columns, expected query 0 document score")
        elif grade is None:
            tally.note(Trouble.BROKEN, number, f"the score is {columns[-1]!r:.40}, expected a whole number")
        else:
            yield Judged(number, columns[0].strip(), columns[-2].strip(), grade)
    tally.require_few_broken()


def _from_table(source: str | Path, tally: Tally, roles: Roles) -> Iterator[Judged]:
    records = read_records(source, tally)
    first = next(records, None)
    if first is None:
        return
    query = must_hold("qrels.query", "query's id", roles, first.values, str(source), QRELS_REMEDY)
    document = must_hold("qrels.document", "document's id", roles, first.values, str(source), QRELS_REMEDY)
    score = holding("qrels.score", roles, first.values, str(source))
    for line, values in chain([first], records):
        try:
            pair = cell(values, query), cell(values, document)
        except ValueError as error:
            tally.note(Trouble.BROKEN, line, str(error))
            continue
        grade = 1 if score is None else _grade(values.get(score))
        if not all(pair):
            tally.note(Trouble.BROKEN, line, f"no {query if not pair[0] else document}")
        elif grade is None:
            tally.note(Trouble.BROKEN, line, f"the score is {values.get(score or '')!r:.40}, expected a whole number")
        else:
            yield Judged(line, *pair, grade)


def _grade(value: Any) -> int | None:
    """A whole number, also as `1.0` or as text; None for anything else."""
    try:
        number = float(value)
        return int(number) if number.is_integer() else None
    except (TypeError, ValueError, OverflowError):
        return None
