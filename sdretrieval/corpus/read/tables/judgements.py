"""Judgements: tables with columns for query, document and score; TREC's `qid 0 docid rel`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from sdretrieval.corpus.read.tables.columns import Roles, cell, holding, must_hold
from sdretrieval.corpus.read.tables.formats import Format, format_of
from sdretrieval.corpus.read.tables.hub import is_dataset
from sdretrieval.corpus.read.tables.records import read_records
from sdretrieval.corpus.read.tables.report import Tally, Trouble
from sdretrieval.corpus.read.tables.streams import text_lines
from sdretrieval.errors import CorpusError

REMEDY = (
    "Name it with --column qrels.query=COLUMN or qrels.document=COLUMN of `corpus convert`, or give TREC's layout: "
    "query 0 document score."
)


class Judged(NamedTuple):
    """One judgement, and the line at which it stands."""

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
    bare = not is_dataset(source) and (kind is None or (kind is Format.TSV and not _has_names(path)))
    roles = roles or {}
    if bare and (role := next((role for role in roles if role.startswith("qrels.")), None)):
        raise CorpusError(
            f"{source} has no line of names, so that --column {role}={roles[role]} names nothing in it; leave --column "
            "out, or give the file a first line of names and the ending .tsv or .csv."
        )
    yield from _from_columns(path, tally) if bare else _from_table(source, tally, roles)


def _has_names(path: Path) -> bool:
    """Whether the last column of the first line is no number."""
    first = next((line for _, line in text_lines(path, Tally(str(path), "")) if line.strip()), "")
    return _grade(first.split()[-1] if first.split() else "") is None


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
    query = must_hold("qrels.query", "query's id", roles, first.values, str(source), REMEDY)
    document = must_hold("qrels.document", "document's id", roles, first.values, str(source), REMEDY)
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
