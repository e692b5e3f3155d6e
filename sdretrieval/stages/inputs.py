"""Opening artifacts, each once: what stages share while a run is going on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from sdretrieval.config import Config
from sdretrieval.corpus import Corpus, Verdicts, load_corpus
from sdretrieval.corpus.synthetic_queries import GeneratedQuery, QueryTally
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.prompts import FoundPrompts, Prompts, find_prompts
from sdretrieval.encode.reuse import Donor
from sdretrieval.encode.student import Student, load_student
from sdretrieval.encode.tokens import load_tokens
from sdretrieval.ragged import Array, Ragged
from sdretrieval.store import Kin
from sdretrieval.store.runner import Artifact

GENERATED, KEPT = "generated.json", "kept.json"
GENERATED_TRAIN = "generated"
"""Split of training queries made from documents."""


class Masked(NamedTuple):
    """A document without the words of the query that was made from it."""

    query: str
    document_row: int
    split: str
    text: str


def with_kept(corpus: Corpus, kept: Mapping[str, Sequence[str]]) -> Corpus:
    """`corpus` whose generated splits hold the kept queries alone (ids by split)."""
    qrels = {split: {query: corpus.qrels[split][query] for query in ids} for split, ids in kept.items()}
    return replace(corpus, qrels={**corpus.qrels, **qrels}) if qrels else corpus


class Prepared:
    """The corpus artifact: the corpus with all its splits, and what was noted while it was made.

    `kept`: the artifact that says which generated queries stay; without it all of them are there, and more than asked.
    `verdicts`: the artifact that holds what a person said.
    """

    def __init__(self, artifact: Artifact, kept: Artifact | None = None, verdicts: Artifact | None = None) -> None:
        self._path = artifact.path
        self._kept, self._verdicts = kept, verdicts

    @cached_property
    def verdicts(self) -> Verdicts:
        """What a person said of training queries and documents; nothing where the config names no file."""
        return Verdicts.from_json(_json(self._verdicts.path / "verdicts.json")) if self._verdicts else Verdicts()

    @cached_property
    def corpus(self) -> Corpus:
        """Documents, queries and judgements."""
        return with_kept(load_corpus(self._path / "corpus"), self.kept)

    @cached_property
    def kept(self) -> dict[str, list[str]]:
        """Ids of the generated queries that stay, by split."""
        return dict(_json(self._kept.path / KEPT)["kept"]) if self._kept else {}

    @cached_property
    def notes(self) -> dict[str, Any]:
        """Training query ids, whether dev is an estimate, warnings."""
        notes = _json(self._path / "notes.json")
        dropped = set(self.generated.get(GENERATED_TRAIN, {})) - set(self.kept.get(GENERATED_TRAIN, ()))
        if self._kept and dropped:
            notes["train_queries"] = [query for query in notes["train_queries"] if query not in dropped]
        return notes

    @cached_property
    def _generation(self) -> dict[str, Any]:
        path = self._path / GENERATED
        return _json(path) if path.exists() else {"queries": {}, "wanted": {}, "tallies": {}}

    @cached_property
    def generated(self) -> dict[str, dict[str, GeneratedQuery]]:
        """The queries that were made from documents, by split and id."""
        texts = dict(zip(self._table.query_ids, self._table.query_texts(), strict=True))
        return {
            split: {i: GeneratedQuery(texts[i], row, kind, masked) for i, (row, kind, masked) in queries.items()}
            for split, queries in self._generation["queries"].items()
        }

    @cached_property
    def _table(self) -> Corpus:
        return load_corpus(self._path / "corpus")

    def wanted(self, split: str) -> int:
        """How many generated queries of a split the config asks for."""
        return int(self._generation["wanted"][split])

    def tally(self, split: str) -> QueryTally:
        """What was made of a split's queries, and dropped: so far, or in the end where `kept` is given."""
        record = _json(self._kept.path / KEPT) if self._kept else self._generation
        return QueryTally.from_json(record["tallies"][split])

    @cached_property
    def masked(self) -> list[Masked]:
        """Documents without their generated query, those of splits that measure first."""
        found = [
            Masked(identifier, query.document_row, split, query.masked)
            for split, queries in self.generated.items()
            for identifier, query in queries.items()
            if query.masked is not None
        ]
        return sorted(found, key=lambda one: one.split == GENERATED_TRAIN)

    @property
    def measuring(self) -> int:
        """How many of `masked` belong to splits that measure: these come first."""
        return sum(one.split != GENERATED_TRAIN for one in self.masked)

    def has_masked(self, split: str) -> bool:
        """Whether the queries of a split were made from documents, and are measured without themselves."""
        return any(one.split == split for one in self.masked[: self.measuring])

    def masked_of(self, split: str) -> list[tuple[int, Masked]]:
        """(position in `masked`, it) of a split's queries that are kept."""
        qrels = self.corpus.qrels.get(split, {})
        return [
            (n, one) for n, one in enumerate(self.masked[: self.measuring]) if one.split == split and one.query in qrels
        ]

    @cached_property
    def masked_position(self) -> dict[int, int]:
        """Query row -> position in `masked`."""
        return {self.corpus.query_row[one.query]: position for position, one in enumerate(self.masked)}

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


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf8")))


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

    @cached_property
    def masked(self) -> Ragged | None:
        """By position in `Prepared.masked`; None where no query was made from a document."""
        folder = self._path / "masked"
        return load_tokens(folder) if folder.exists() else None


class Asking(Protocol):
    """What a search needs of `Vectors`, or of what stands in for them."""

    @property
    def queries_QD(self) -> Array:
        """By query row."""

    @property
    def masked(self) -> Embeddings | None:
        """Of documents without the queries made from them."""


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

    @cached_property
    def masked(self) -> Embeddings | None:
        """Of `Prepared.masked`, those that measure; None where there are none."""
        folder = self._path / "masked"
        return Embeddings.load(folder) if folder.exists() else None


def donors_among(kin: Sequence[Kin], part: str = ".") -> list[Donor]:
    """Folder `part` of earlier artifacts, to copy what the same texts gave then."""
    return [Donor(one.path / part, one.sound) for one in kin]


def student_from(folder: Path | str, config: Config, prompts: Prompts | None = None) -> Student:
    """A student with the views, prompts and device that the config asks for."""
    asked = config.student
    return load_student(
        str(folder),
        max_tokens=asked.max_tokens,
        query_tokens=asked.query_tokens,
        device=asked.device,
        trust_remote_code=asked.trust_remote_code,
        prompts=prompts or prompts_of(config).prompts,
    )


def prompts_of(config: Config) -> FoundPrompts:
    """The prompts of the run: the config's, else those of the model that it begins with. Every later student has them.

    Raises ModelError where the model is not there.
    """
    asked = config.student
    return find_prompts(locate_model(asked.model), asked.model, asked.prompts.query, asked.prompts.document)
