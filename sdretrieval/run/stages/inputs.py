"""Opening artifacts, each once: what stages share while a run is going on."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.corpus import Corpus, Verdicts, load_corpus
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.student import Prompts, Student, load_student
from sdretrieval.encode.tokens import load_tokens
from sdretrieval.ragged import Array, Ragged
from sdretrieval.run.config import Config
from sdretrieval.run.stages.runner import Artifact


class Prepared:
    """The corpus artifact: the corpus with all its splits, and what was noted while it was made."""

    def __init__(self, artifact: Artifact, verdicts: Artifact | None = None) -> None:
        self._path = artifact.path
        self._verdicts = verdicts

    @cached_property
    def verdicts(self) -> Verdicts:
        """What a person said of training queries and documents; nothing where the config names no file."""
        if self._verdicts is None:
            return Verdicts()
        return Verdicts.from_json(json.loads((self._verdicts.path / "verdicts.json").read_text(encoding="utf8")))

    @cached_property
    def corpus(self) -> Corpus:
        """Documents, queries and judgements."""
        return load_corpus(self._path / "corpus")

    @cached_property
    def notes(self) -> dict[str, Any]:
        """Training query ids, whether dev is an estimate, warnings."""
        return dict(json.loads((self._path / "notes.json").read_text(encoding="utf8")))

    @cached_property
    def train_rows(self) -> Array:
        """Rows of the training queries: train without queries that stand in another split, and generated ones."""
        rows = self.corpus.query_row
        return np.asarray(sorted(rows[identifier] for identifier in self.notes["train_queries"]), dtype=np.int64)

    def rows_of(self, split: str) -> Array:
        """Rows of a split's judged queries."""
        return np.asarray(self.corpus.split_rows(split), dtype=np.int64)

    def own_documents(self, query_rows: Array) -> Array:
        """For each query the row of the document with its own id, -1 where there is none."""
        own, ids = self.corpus.document_row, self.corpus.query_ids
        return np.asarray([own.get(ids[row], -1) for row in query_rows], dtype=np.int64)


class TextTokens:
    """The tokens artifact: token ids of documents and of queries."""

    def __init__(self, artifact: Artifact) -> None:
        self._path = artifact.path

    @cached_property
    def documents(self) -> Ragged:
        """By document row."""
        return load_tokens(self._path / "documents")

    @cached_property
    def queries(self) -> Ragged:
        """By query row."""
        return load_tokens(self._path / "queries")


class Vectors:
    """An encode artifact: document windows' vectors and one vector for each query."""

    def __init__(self, artifact: Artifact) -> None:
        self._path = artifact.path

    @cached_property
    def documents(self) -> Embeddings:
        """Memory-mapped."""
        return Embeddings.load(self._path / "documents")

    @cached_property
    def queries_QD(self) -> Array:
        """By query row, in memory."""
        return np.asarray(Embeddings.load(self._path / "queries").vectors_WD)


def student_from(folder: Path | str, config: Config, prompts: Prompts | None = None) -> Student:
    """A student with the views, prompts and device that the config asks for."""
    asked = config.student
    student = load_student(
        str(folder),
        max_tokens=asked.max_tokens,
        query_tokens=asked.query_tokens,
        device=asked.device,
        trust_remote_code=asked.trust_remote_code,
        prompts=prompts,
    )
    if prompts is not None or (asked.prompts.query is None and asked.prompts.document is None):
        return student
    own = student.prompts
    chosen = Prompts(
        own.query if asked.prompts.query is None else asked.prompts.query,
        own.document if asked.prompts.document is None else asked.prompts.document,
    )
    return student_from(folder, config, chosen)
