"""What is asked of the documents: queries from a table, TREC topics, a query log, and judgements.

TREC topics are `<top> <num> Number: 301 <title> ...` and the XML forms (`<topic number="1"><query>...`).
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Container, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from sdretrieval.corpus.read.report import Tally, Trouble
from sdretrieval.corpus.read.tables.columns import (
    GRADE_AT_MOST,
    ID_EXPECTED,
    NUL_IN_ID,
    Roles,
    as_text,
    cell,
    holding,
    is_number,
    judged_places,
    must_hold,
    read_grade,
)
from sdretrieval.corpus.read.tables.files import Format, clean, format_of, text_lines
from sdretrieval.corpus.read.tables.hub import is_dataset
from sdretrieval.corpus.read.tables.records import read_records
from sdretrieval.corpus.text import normalised, text_digest
from sdretrieval.errors import CorpusError
from sdretrieval.formatting import quantity
from sdretrieval.paths import typed_path

QUERY_REMEDY = "Name it with --column query.text=COLUMN of `corpus convert`."

TOPIC_FIELDS = {
    name: (
        re.compile(rf"<(?:[a-z]{{2}}-)?{name}(?:\s[^<>]*)?>", re.IGNORECASE),
        re.compile(rf"</(?:[a-z]{{2}}-)?{name}\s*>", re.IGNORECASE),
    )
    for name in ("query", "title", "question", "desc", "description")
}
"""What holds a topic's query, the first that is there, and how it begins and ends."""
INLINE = frozenset(
    "a abbr b big cite code dfn em font i kbd mark q s small span strike strong sub sup tt u var".split()
)
BLOCKS = frozenset("br p div li ul ol td tr table".split())
OPENING = re.compile(r"<top(?:ic)?(\s[^<>]*)?>", re.IGNORECASE)
CLOSING = re.compile(r"</top(?:ics?)?\s*>", re.IGNORECASE)
NUMBER_WITHIN = re.compile(
    r"<(?:num(?:ber)?|id|qid|identifier|topic[-_]?id)\s*>\s*(?:Number:)?\s*([^\s<]+)(?:\s*</[^<>]*>)?", re.IGNORECASE
)
NUMBER_OUTSIDE = re.compile(r"""\b(?:number|num|id|qid)\s*=\s*["']([^"']+)["']""", re.IGNORECASE)
NEXT_FIELD = re.compile(
    r"</?(?:num|number|title|query|question|desc|description|narr|narrative|dom|smry|con|fac|def|head)(?:\s[^<>]*)?>"
    rf"|(?<=\n)[ \t]*</?(?!(?:{'|'.join(sorted(INLINE | BLOCKS))})\b)[a-z][\w:-]*>",
    re.IGNORECASE,
)
"""Where a field without an end ends: at a field's name, or at any tag that begins a line."""
FIELD_LABEL = re.compile(r"\A\s*(?:Topic|Description|Query|Question):\s*")
TAG = re.compile(r"</?\s*([A-Za-z][\w:-]*)[^<>]*>")
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
CDATA = re.compile(r"<!\[CDATA\[(.*?)\]\]>", re.DOTALL)
BETWEEN_IDS = re.compile(r"[\s,;|]+")
LOG_REMEDY = "Name it with --column log.text=COLUMN of `corpus convert`."
GRADE_EXPECTED = f"expected a whole number, at most {GRADE_AT_MOST:,}"
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
            tally.note(Trouble.BROKEN, line, f"{identified} is {values.get(identified)!r:.60}, {ID_EXPECTED}")
        elif "\0" in identifier:
            tally.note(Trouble.BROKEN, line, f"{identified} {identifier!r:.60} {NUL_IN_ID}")
        else:
            yield from kept_query(clean(identifier), text, line, tally)


def kept_query(identifier: str, text: str, line: int, tally: Tally) -> Iterator[Query]:
    """The query, or nothing where its text is empty; an empty id becomes a digest of the text."""
    if text.strip():
        yield Query(line, identifier or f"q-{text_digest(text).hex()}", text)
    else:
        tally.note(Trouble.EMPTY, line, repr(identifier) if identifier else "(no id)")


def read_topics(source: str | Path, tally: Tally, roles: Roles | None = None) -> Iterator[Query]:
    """Number and query of each topic: the text of the first of `TOPIC_FIELDS` that it has, else the topic's own text.

    Tags within a text are taken out, CDATA and entities are read. Raises CorpusError if there is no topic. Read by
    pattern, not by an XML parser: the classic form is no XML. Topics have no columns: `roles` say nothing here.
    """
    path = typed_path(source)
    used = Counter[str]()
    for topic in _topics(path, tally):
        tally.read += 1
        number = NUMBER_OUTSIDE.search(topic.attributes) or NUMBER_WITHIN.search(topic.body)
        name, text = _query_of(topic.body)
        identifier = clean(html.unescape(number[1].strip())) if number else ""
        if not identifier or name is None or "\0" in identifier:
            lacking = "a title, query, question or description" if identifier else "a number"
            tally.note(Trouble.BROKEN, topic.line, f"a topic without {lacking}")
            continue
        used[f"<{name}>" if name else "the topic itself"] += 1
        yield from kept_query(identifier, clean(text), topic.line, tally)
    if not tally.read:
        raise CorpusError(f'{path} holds no topics: expected <top> ... </top> or <topic number="1"> ... </topic>.')
    tally.require_few_broken()
    texts = ", ".join(f"{name} ({count:,})" for name, count in used.most_common())
    tally.notes.append(f"  their queries are the text of {texts}; other elements are not read")


class _Topic(NamedTuple):
    line: int
    attributes: str
    body: str


def _topics(path: Path, tally: Tally) -> Iterator[_Topic]:
    """From one opening to the next, since old files leave out the ends. Comments are left out, CDATA is escaped."""
    text = "".join(line for _, line in text_lines(path, tally))
    text = _replaced(COMMENT, "-->", lambda match: "\n" * match[0].count("\n"), text)
    text = _replaced(CDATA, "]]>", lambda match: html.escape(match[1], quote=False), text)
    openings = [*OPENING.finditer(text)]
    line, counted = 1, 0
    for this, following in zip(openings, [*openings[1:], None], strict=False):
        line, counted = line + text.count("\n", counted, this.start()), this.start()
        body = text[this.end() : following.start() if following else len(text)]
        yield _Topic(line, this[1] or "", CLOSING.split(body, maxsplit=1)[0])


def _replaced(pattern: re.Pattern[str], end: str, replace: Callable[[re.Match[str]], str], text: str) -> str:
    # What follows the last end has none: to look for it from each beginning would take hours in a hostile file.
    head, found, tail = text.rpartition(end)
    return pattern.sub(replace, head + found) + tail


def _query_of(body: str) -> tuple[str | None, str]:
    """The field that holds a topic's query (empty: the topic itself, None: there is none), and its text."""
    empty = None
    for name, (opening, closing) in TOPIC_FIELDS.items():
        opened = opening.search(body)
        if opened is None:
            continue
        rest = body[opened.end() :]
        ended = closing.search(rest) or NEXT_FIELD.search(rest)
        text = FIELD_LABEL.sub("", _markup_text(rest[: ended.start()] if ended else rest))
        if text:
            return name, text
        empty = name
    plain = _markup_text(NUMBER_WITHIN.sub("", body, count=1))
    return ("", plain) if empty is None and plain and not NEXT_FIELD.search(body) else (empty, "")


def _markup_text(markup: str) -> str:
    """The text, entities read, on one line. Tags are taken out: of HTML, and those that are closed; `List<String>`
    is text."""
    if "<" not in markup:
        return " ".join(html.unescape(markup).split())
    closed = {name.lower() for name in re.findall(r"</\s*([a-z][\w:-]*)", markup, re.IGNORECASE)}

    def of_tag(match: re.Match[str]) -> str:
        name = match[1].lower()
        if name in BLOCKS:
            return " "
        return "" if name in INLINE or name in closed or match[0].endswith("/>") else match[0]

    return " ".join(html.unescape(TAG.sub(of_tag, markup)).split())


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
        clicked = [clean(as_text(part) or "") for part in (value if isinstance(value, list) else [value])]
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
    path = typed_path(source)
    kind = None if is_dataset(source) else format_of(path)
    bare = not is_dataset(source) and kind is None
    if kind is Format.TSV:  # with a line of names, its last column is no number
        first = next((line for _, line in text_lines(path, Tally(str(path), "")) if line.strip()), "")
        bare = bool(first.split()) and is_number(first.split()[-1])
    roles = roles or {}
    if bare and (role := next((role for role in roles if role.startswith("qrels.")), None)):
        raise CorpusError(
            f"{source} has no line of names, so that --column {role}={roles[role]} names nothing in it; leave --column "
            "out, or give the file a first line of names and the ending .tsv or .csv."
        )
    yield from _from_columns(path, tally) if bare else _from_table(source, tally, roles)


def _from_columns(path: Path, tally: Tally) -> Iterator[Judged]:
    places = [0, -2, -1]
    for number, line in text_lines(path, tally):
        columns = line.rstrip("\r\n").split("\t") if line.count("\t") in (2, 3) else line.split()
        if not line.strip():
            continue
        if not tally.read and (named := judged_places(columns)):
            places = named
            continue
        tally.read += 1
        if len(columns) not in (3, 4):
            tally.note(Trouble.BROKEN, number, f"{quantity(len(columns), 'columns')}, expected query 0 document score")
            continue
        query, document, score = (columns[at] for at in places)
        grade = read_grade(score)
        if grade is None:
            tally.note(Trouble.BROKEN, number, f"the score is {score!r:.40}, {GRADE_EXPECTED}")
        else:
            yield Judged(number, query, document, grade)
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
            pair = clean(cell(values, query)), clean(cell(values, document))
        except ValueError as error:
            tally.note(Trouble.BROKEN, line, str(error))
            continue
        grade = 1 if score is None else read_grade(values.get(score))
        if not all(pair):
            tally.note(Trouble.BROKEN, line, f"no {query if not pair[0] else document}")
        elif grade is None:
            tally.note(Trouble.BROKEN, line, f"the score is {values.get(score or '')!r:.40}, {GRADE_EXPECTED}")
        else:
            yield Judged(line, *pair, grade)
