"""Queries from a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from sdretrieval.corpus.read.tables.columns import Roles, cell, holding, must_hold
from sdretrieval.corpus.read.tables.documents import text_digest
from sdretrieval.corpus.read.tables.records import read_records
from sdretrieval.corpus.read.tables.report import Tally, Trouble
from sdretrieval.corpus.read.tables.streams import clean

REMEDY = "Name it with --column query.text=COLUMN of `corpus convert`."


class Query(NamedTuple):
    """One query, and the line at which it stands."""

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
            column = must_hold("query.text", "queries' text", roles or {}, values, str(source), REMEDY)
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
