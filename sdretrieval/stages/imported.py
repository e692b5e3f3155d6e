"""Scores that were made elsewhere: what decides them, the teacher they make, and the pairs that they lack."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.config import ScoresConfig
from sdretrieval.corpus import Corpus
from sdretrieval.errors import MissingScores
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.collection import Collection
from sdretrieval.store import digest_file
from sdretrieval.teachers.imported import ImportedTeacher
from sdretrieval.teachers.pairs import Pair, read_pairs, write_pairs
from sdretrieval.teachers.score_file import read_scores, score_files

logger = logging.getLogger("sdretrieval")

MISSING_PAIRS = "missing-pairs.tsv"
"""In the run's folder: what a teacher's file of scores lacks, in the format of `score --pairs`."""


def scores_identity(member: ScoresConfig) -> dict[str, Any]:
    """What decides what imported scores say: the files' contents, wherever they are. Raises as `read_scores` does.

    Keys are asked for before the first stage, so that a broken file is refused then.
    """
    read_scores(member.file, member.column)
    digests = [digest_file(path) for path in score_files(member.file)]
    return {"kind": member.kind, "files": digests, "column": member.column, "missing": member.missing}


def imported_teacher(member: ScoresConfig, name: str, corpus: Corpus) -> ImportedTeacher:
    """The teacher that a file of scores makes."""
    return ImportedTeacher(
        read_scores(member.file, member.column),
        name=name,
        query_ids=corpus.query_ids,
        document_ids=corpus.document_ids,
        missing=member.missing,
    )


def write_missing(folder: Path, collection: Collection, pairs: list[Pair]) -> Path:
    """`missing-pairs.tsv` in the run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_texts_of(folder / MISSING_PAIRS, collection, pairs)
    return folder / MISSING_PAIRS


def write_texts_of(file: Path, collection: Collection, pairs: list[Pair]) -> None:
    """Pairs with their texts, as a teacher reads them: a query that was made from a document meets that
    document without its own words."""
    corpus = collection.corpus
    queries = sorted({corpus.query_row[query] for query, _ in pairs})
    documents = sorted({corpus.document_row[document] for _, document in pairs})
    query_texts = dict(zip((corpus.query_ids[row] for row in queries), corpus.query_texts(queries), strict=True))
    texts = dict(zip((corpus.document_ids[row] for row in documents), corpus.document_texts(documents), strict=True))
    query_removed = {(one.query, corpus.document_ids[one.document_row]): one.text for one in collection.query_removed}
    write_pairs(file, pairs, lambda pair: (query_texts[pair[0]], query_removed.get(pair) or texts[pair[1]]))


def with_written(lack: MissingScores, folder: Path, collection: Collection) -> MissingScores:
    """The same error, its pairs written, and what to do about it."""
    file = write_missing(folder, collection, list(lack.pairs))
    return MissingScores(
        f"{lack} All of them, with their texts, are in {file}: score these, add them to the file (or name several "
        "files by a pattern with *), and run again; `sdretrieval score CONFIG --pairs FILE` writes all pairs that a "
        "generation needs at once",
        lack.pairs,
    )


def note_gaps(
    teachers: Sequence[ImportedTeacher], query_rows: Array, lists: Ragged, folder: Path, collection: Collection
) -> None:
    """Warn of ids that the corpus lacks, and of the pairs that `missing: lowest | skip` passes over; write these."""
    noted = _noted(folder, collection.corpus)
    gaps = [pair for teacher in teachers for pair in teacher.missing_pairs(*noted)]
    for teacher in teachers:
        if teacher.unknown_ids:
            logger.warning("teacher %s: %s", teacher.name, teacher.unknown_ids)
        if own := teacher.missing_pairs(query_rows, lists):
            what = "rank below all others" if teacher.missing == "lowest" else "leave their query's target"
            logger.warning(
                "teacher %s lacks %d of %d pairs (%.1f %%), which %s (missing: %s); they are in %s",
                teacher.name, len(own), len(lists.values_T), 100 * len(own) / len(lists.values_T), what,
                teacher.missing, folder / MISSING_PAIRS,
            )  # fmt: skip
            gaps += own
    if gaps:
        write_missing(folder, collection, list(dict.fromkeys(gaps)))
    elif teachers:  # what an earlier stage or run lacked has been scored since
        (folder / MISSING_PAIRS).unlink(missing_ok=True)


def _noted(folder: Path, corpus: Corpus) -> tuple[Array, Ragged]:
    """Query rows and documents of what earlier stages lacked: a later one that lacks nothing must not take it away."""
    file = folder / MISSING_PAIRS
    pairs = read_pairs(file) if file.is_file() else []
    known = [pair for pair in pairs if pair[0] in corpus.query_row and pair[1] in corpus.document_row]
    query_rows = np.asarray([corpus.query_row[query] for query, _ in known], dtype=np.int64)
    return query_rows, Ragged.of([[corpus.document_row[document]] for _, document in known], np.int64)
