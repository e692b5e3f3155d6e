"""Teachers that come from outside: another bi-encoder, and scores that were made elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.config import DenseConfig, ScoresConfig, identity_fields
from sdretrieval.corpus import Corpus
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.prompts import FoundPrompts, find_prompts
from sdretrieval.encode.student import Student, load_student
from sdretrieval.encode.views import View
from sdretrieval.errors import MissingScores
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.inputs import Prepared
from sdretrieval.store import digest_file
from sdretrieval.teachers.imported import ImportedTeacher
from sdretrieval.teachers.pairs import Pair, read_pairs, write_pairs
from sdretrieval.teachers.score_file import read_scores, score_files

logger = logging.getLogger("sdretrieval")

MISSING_PAIRS = "missing-pairs.tsv"
"""In the run's folder: what a teacher's file of scores lacks, in the format of `score --pairs`."""


@dataclass
class Guest:
    """A dense member's model: known by its digest, loaded where something must be encoded."""

    member: DenseConfig
    view: View
    device: str
    _loaded: Student | None = None

    @cached_property
    def folder(self) -> Path:
        """Where the model lies."""
        return locate_model(self.member.model)

    @cached_property
    def digest(self) -> str:
        """Stands for the model in keys."""
        return model_digest(self.folder)

    @property
    def query_tokens(self) -> int:
        """Of a query, never more than a window has."""
        return min(self.member.query_tokens or self.view.max_tokens, self.view.max_tokens)

    @cached_property
    def prompts(self) -> FoundPrompts:
        """The prompts that the config asks for, else the model's own."""
        asked = self.member.prompts
        return find_prompts(self.folder, self.member.model, asked.query, asked.document)

    def prompts_identity(self) -> list[Any]:
        """The config's prompts; those of the model's files stand in its digest. What was found elsewhere is added."""
        found = self.prompts
        beyond = [[found.prompts.query, found.prompts.document]] if found.prompts != found.plain else []
        return [identity_fields(self.member.prompts), *beyond]

    def model(self) -> Student:
        """Loaded once, with its prompts."""
        if self._loaded is None:
            self._loaded = load_student(
                str(self.folder), max_tokens=self.view.max_tokens, query_tokens=self.query_tokens, device=self.device,
                trust_remote_code=self.member.trust_remote_code, prompts=self.prompts.prompts,
            )  # fmt: skip
        return self._loaded

    def unload(self) -> None:
        """Its vectors are made: the model would only cost memory."""
        self._loaded = None


def scores_identity(member: ScoresConfig) -> dict[str, Any]:
    """What decides what imported scores say: the files' contents, wherever they lie. Raises as `read_scores` does.

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


def write_missing(folder: Path, prepared: Prepared, pairs: list[Pair]) -> Path:
    """`missing-pairs.tsv` in the run's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_texts_of(folder / MISSING_PAIRS, prepared, pairs)
    return folder / MISSING_PAIRS


def write_texts_of(file: Path, prepared: Prepared, pairs: list[Pair]) -> None:
    """Pairs with their texts, as a teacher reads them: a query that was made from a document, and measures, meets that
    document without its own words."""
    corpus = prepared.corpus
    queries = sorted({corpus.query_row[query] for query, _ in pairs})
    documents = sorted({corpus.document_row[document] for _, document in pairs})
    asked = dict(zip((corpus.query_ids[row] for row in queries), corpus.query_texts(queries), strict=True))
    texts = dict(zip((corpus.document_ids[row] for row in documents), corpus.document_texts(documents), strict=True))
    measuring = prepared.masked[: prepared.measuring]
    masked = {(one.query, corpus.document_ids[one.document_row]): one.text for one in measuring}
    write_pairs(file, pairs, lambda pair: (asked[pair[0]], masked.get(pair) or texts[pair[1]]))


def with_written(lack: MissingScores, folder: Path, prepared: Prepared) -> MissingScores:
    """The same error, its pairs written, and what to do about it."""
    file = write_missing(folder, prepared, list(lack.pairs))
    return MissingScores(
        f"{lack} All of them, with their texts, are in {file}: score these, add them to the file (or name several "
        "files by a pattern with *), and run again; `sdretrieval score CONFIG --pairs FILE` writes all pairs that a "
        "generation needs at once",
        lack.pairs,
    )


def note_gaps(
    teachers: Sequence[ImportedTeacher], query_rows: Array, lists: Ragged, folder: Path, prepared: Prepared
) -> None:
    """Warn of ids that the corpus lacks, and of the pairs that `missing: lowest | skip` passes over; write these."""
    noted = _noted(folder, prepared.corpus)
    gaps = [pair for teacher in teachers for pair in teacher.missing_pairs(*noted)]
    for teacher in teachers:
        if teacher.strangers:
            logger.warning("teacher %s: %s", teacher.name, teacher.strangers)
        if own := teacher.missing_pairs(query_rows, lists):
            what = "rank below all others" if teacher.missing == "lowest" else "leave their query's target"
            logger.warning(
                "teacher %s lacks %d of %d pairs (%.1f %%), which %s (missing: %s); they are in %s",
                teacher.name, len(own), len(lists.values_T), 100 * len(own) / len(lists.values_T), what,
                teacher.missing, folder / MISSING_PAIRS,
            )  # fmt: skip
            gaps += own
    if gaps:
        write_missing(folder, prepared, list(dict.fromkeys(gaps)))
    elif teachers:  # what an earlier stage or run lacked has been scored since
        (folder / MISSING_PAIRS).unlink(missing_ok=True)


def _noted(folder: Path, corpus: Corpus) -> tuple[Array, Ragged]:
    """Query rows and documents of what earlier stages lacked: a later one that lacks nothing must not take it away."""
    file = folder / MISSING_PAIRS
    pairs = read_pairs(file) if file.is_file() else []
    known = [pair for pair in pairs if pair[0] in corpus.query_row and pair[1] in corpus.document_row]
    query_rows = np.asarray([corpus.query_row[query] for query, _ in known], dtype=np.int64)
    return query_rows, Ragged.of([[corpus.document_row[document]] for _, document in known], np.int64)
