"""A query log: what was asked, how often, and what was clicked."""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdretrieval.corpus.read.tables.columns import Roles, as_text, cell, holding, must_hold
from sdretrieval.corpus.read.tables.documents import text_digest
from sdretrieval.corpus.read.tables.records import read_records
from sdretrieval.corpus.read.tables.report import Tally, Trouble
from sdretrieval.corpus.read.tables.streams import clean
from sdretrieval.corpus.text import normalised

BETWEEN_IDS = re.compile(r"[\s,;|]+")
REMEDY = "Name it with --column log.text=COLUMN of `corpus convert`."


@dataclass
class Asked:
    """All lines of a log with one text (one case, single spaces): as first written, how often, what was clicked."""

    text: str
    count: int = 0
    clicked: dict[str, None] = field(default_factory=dict)
    """Ids of existing documents, in the order of their first click."""


def read_log(
    source: str | Path, documents: Container[str], tally: Tally, roles: Roles | None = None
) -> dict[str, Asked]:
    """The distinct queries of a log by id, which is a digest of the text: it stays when the log grows.

    A line without a count is one time. Clicked ids are a list, or a text that is one id or several parted by blanks,
    commas, semicolons or bars; clicks on absent documents are noted. A click says that a pair is relevant, not how
    much so: its judgement is 1 however often it was made. `roles`: names of columns that are not the usual ones.
    """
    asked: dict[str, Asked] = {}
    columns: tuple[str, str | None, str | None] | None = None
    for line, values in read_records(source, tally):
        columns = columns or _columns(values, str(source), roles or {})
        try:
            text, count = clean(cell(values, columns[0])), _count(values, columns[2])
        except ValueError as error:
            tally.note(Trouble.BROKEN, line, str(error))
            continue
        if not text.strip():
            tally.note(Trouble.EMPTY, line, f"asked {count:,} times")
            continue
        entry = asked.setdefault(f"log-{text_digest(normalised(text)).hex()}", Asked(text))
        entry.count += count
        for document in _clicked(values.get(columns[1]) if columns[1] else None, documents):
            if document in documents:
                entry.clicked[document] = None
            else:
                tally.note(Trouble.NOWHERE, line, f"{text[:40]!r} -> {document!r:.40} (no such document)")
    tally.kept = len(asked)
    return asked


def _columns(values: Mapping[str, Any], source: str, roles: Roles) -> tuple[str, str | None, str | None]:
    text = must_hold("log.text", "queries' text", roles, values, source, REMEDY)
    return text, holding("log.clicked", roles, values, source), holding("log.count", roles, values, source)


def _count(values: Mapping[str, Any], column: str | None) -> int:
    if column is None or values.get(column) in (None, ""):
        return 1
    found = values[column]
    try:
        number = float(found)
    except (TypeError, ValueError):
        number = -1.0
    if number < 1 or not number.is_integer():
        raise ValueError(f"{column} is {found!r:.40}, expected a whole number from 1")
    return int(number)


def _clicked(value: Any, documents: Container[str]) -> Iterator[str]:
    if isinstance(value, list):
        yield from (str(part) for part in value)
        return
    text = as_text(value) or ""
    yield from [text] if text in documents else (part for part in BETWEEN_IDS.split(text) if part)
