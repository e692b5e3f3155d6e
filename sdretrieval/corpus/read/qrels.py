"""The qrels of a BEIR folder: `query-id <tab> corpus-id <tab> score` a line, with or without a line of headings.

As in BEIR's own loader, the last judgement of a pair counts, and an id with a quotation mark is quoted as in CSV.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from sdretrieval.corpus.read.report import Tally
from sdretrieval.corpus.read.tables.columns import (
    GRADE_AT_MOST,
    is_number,
    judged_places,
    read_grade,
)
from sdretrieval.corpus.read.tables.files import PACKED, stem_of, text_lines
from sdretrieval.corpus.read.tables.records import unquoted
from sdretrieval.corpus.types import Qrels
from sdretrieval.errors import CorpusError

HEADINGS = ("query-id", "corpus-id", "score")


class QrelsRead(NamedTuple):
    """What the files of a folder say."""

    by_split: dict[str, dict[str, dict[str, int]]]
    repeated: list[str]
    """Pairs that are judged again, each with its file, line and both scores."""
    headings: list[str]
    """First lines that are taken for headings, though their names say nothing."""


def read_qrels(folder: Path) -> QrelsRead:
    """Every judgement in `folder/*.tsv` (also packed) by split (the file's name), whether or not its query and
    document exist.

    Headings say in which order the columns are; without any it is query, document, score. Raises `CorpusError` naming
    file and line if a row has not three columns or its score is no whole number.
    """
    read = QrelsRead({}, [], [])
    for path in qrels_files(folder):
        _read_split(path, read)
    return read


def qrels_files(folder: Path) -> list[Path]:
    """The files of judgements in a folder, packed ones included."""
    return sorted(path for packed in ("", *PACKED) for path in folder.glob(f"*.tsv{packed}"))


def _read_split(path: Path, read: QrelsRead) -> None:
    judged = read.by_split.setdefault(stem_of(path), {})
    places, width, begun = [0, 1, 2], 3, False
    for number, line in text_lines(path, Tally(str(path), "judgements")):
        if not line.strip():
            continue
        columns = [unquoted(field) for field in line.rstrip("\r\n").split("\t")]
        if not begun:
            begun, named = True, judged_places(columns)
            if named:
                places, width = named, len(columns)
                continue
            if len(columns) == 3 and not is_number(columns[2]):
                read.headings.append(f"{path.name}: {', '.join(map(repr, columns)):.80}")
                continue
        query, document, grade = _judgement(columns, places, width, f"{path}:{number}")
        grades = judged.setdefault(query, {})
        if document in grades:
            before = "again" if grades[document] == grade else f"before {grades[document]}"
            read.repeated.append(f"{path.name}:{number}: {query} -> {document} with {grade}, {before}")
        grades[document] = grade


def _judgement(columns: Sequence[str], places: Sequence[int], width: int, place: str) -> tuple[str, str, int]:
    if len(columns) != width:
        hint = " Four columns are TREC's layout: remove the second." if len(columns) == 4 else ""
        raise CorpusError(
            f"{place}: {len(columns)} tab-separated columns ({columns!r:.80}), expected {width}: "
            f"{', '.join(HEADINGS)}.{hint}"
        )
    query, document, score = (columns[at] for at in places)
    grade = read_grade(score)
    if grade is None:
        raise CorpusError(
            f"{place}: the score is {score!r:.40}, expected a whole number (0 = not relevant, 1 or more = relevant, at "
            f"most {GRADE_AT_MOST:,})."
        )
    return query, document, grade


def write_qrels(qrels: Qrels, path: Path) -> None:
    """Write one split with headings, as BEIR's own loader expects (it skips the first line unread)."""
    with path.open("w", encoding="utf8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(HEADINGS)
        writer.writerows(
            (query, document, grade) for query, judged in qrels.items() for document, grade in judged.items()
        )
