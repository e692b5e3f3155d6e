"""The corpus of a run, opened: documents, queries, judgements, synthetic queries, what a person said of pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from sdretrieval.corpus import Corpus, Verdicts, load_corpus
from sdretrieval.evaluation.prediction import Signals
from sdretrieval.files import read_json
from sdretrieval.ragged import Array, Ragged
from sdretrieval.store.runner import Artifact
from sdretrieval.synthetic_queries import QueryTally, SyntheticQuery

GENERATED, KEPT, JUDGED = "generated.json", "kept.json", "judged.json"
SYNTHETIC_TRAIN = "generated"
"""Split of training queries made from documents."""


class QueryRemovedDocument(NamedTuple):
    """A document without the words of the query that was made from it."""

    query: str
    document_row: int
    split: str
    text: str


def with_kept(corpus: Corpus, kept: Mapping[str, Sequence[str]]) -> Corpus:
    """`corpus` whose synthetic splits hold the kept queries alone (ids by split)."""
    qrels = {split: {query: corpus.qrels[split][query] for query in ids} for split, ids in kept.items()}
    return replace(corpus, qrels={**corpus.qrels, **qrels}) if qrels else corpus


def with_grades(corpus: Corpus, judged: Mapping[str, Any]) -> Corpus:
    """`corpus` with a language model's grades (`judged.json`) as the judgements of a split: gain 1 and 2 for the grades
    2 and 3, none for 1, which answers nothing. A query without a relevant document measures nothing and is left out."""
    gains = {q: {d: max(0, grade - 1) for d, grade in grades.items()} for q, grades in judged["grades"].items()}
    answered = {query: documents for query, documents in gains.items() if any(documents.values())}
    return replace(corpus, qrels={**corpus.qrels, judged["split"]: answered})


class Collection:
    """The corpus artifact with all its splits, and what was noted while it was made.

    `made`: the corpus artifact. `kept`: the artifact that says which synthetic queries stay; without it all of them
    are there, more than the config asks for. `verdicts`: the artifact that holds what a person said. `judgements`: the
    one that holds a language model's grades of dev.
    """

    def __init__(
        self, made: Artifact, kept: Artifact | None = None, verdicts: Artifact | None = None,
        judgements: Artifact | None = None,
    ) -> None:  # fmt: skip
        self.made, self._kept, self._verdicts, self.judgements = made, kept, verdicts, judgements

    @property
    def filtered(self) -> Artifact:
        """What decides which queries there are: an input of every stage that reads training queries."""
        return self._kept or self.made

    @property
    def judged(self) -> Artifact:
        """What decides how queries measure: an input of every stage that measures."""
        return self.judgements or self.filtered

    @cached_property
    def judge(self) -> str | None:
        """The language model that judged dev; None if none did."""
        return str(read_json(self.judgements.path / JUDGED)["model"]) if self.judgements else None

    @property
    def known_from(self) -> list[Artifact]:
        """Inputs of a stage that reads known positives."""
        return [self.filtered, *([self._verdicts] if self._verdicts else [])]

    def with_verdicts(self, verdicts: Artifact) -> Collection:
        """The same, and what a person said."""
        return Collection(self.made, self._kept, verdicts, self.judgements)

    def with_judgements(self, judgements: Artifact) -> Collection:
        """The same, with dev judged by a language model."""
        return Collection(self.made, self._kept, self._verdicts, judgements)

    @cached_property
    def verdicts(self) -> Verdicts:
        """What a person said of training queries and documents; nothing if the config names no file."""
        return Verdicts.from_json(read_json(self._verdicts.path / "verdicts.json")) if self._verdicts else Verdicts()

    @cached_property
    def corpus(self) -> Corpus:
        """Documents, queries and judgements."""
        corpus = with_kept(load_corpus(self.made.path / "corpus"), self.kept)
        return with_grades(corpus, read_json(self.judgements.path / JUDGED)) if self.judgements else corpus

    @cached_property
    def kept(self) -> dict[str, list[str]]:
        """Ids of the synthetic queries that stay, by split."""
        return dict(read_json(self._kept.path / KEPT)["kept"]) if self._kept else {}

    @cached_property
    def notes(self) -> dict[str, Any]:
        """Training query ids, whether dev is an estimate, warnings."""
        notes = read_json(self.made.path / "notes.json")
        dropped = set(self.generated.get(SYNTHETIC_TRAIN, {})) - set(self.kept.get(SYNTHETIC_TRAIN, ()))
        if self._kept and dropped:
            notes["train_queries"] = [query for query in notes["train_queries"] if query not in dropped]
        return notes

    @cached_property
    def _generation(self) -> dict[str, Any]:
        path = self.made.path / GENERATED
        return read_json(path) if path.exists() else {"queries": {}, "wanted": {}, "tallies": {}, "examples": []}

    @property
    def example_rows(self) -> list[int]:
        """Rows of queries that people asked, without judgements, with which synthetic ones are compared."""
        return [self.corpus.query_row[query] for query in self._generation["examples"]]

    @property
    def overlap(self) -> dict[str, Any]:
        """With what probability documents keep their queries' words, and why; empty if no query is synthetic."""
        return dict(self._generation.get("overlap", {}))

    @property
    def realism(self) -> dict[str, float]:
        """By kind of dev query how well a classifier tells it from example queries (AUC); empty without examples."""
        return dict(read_json(self._kept.path / KEPT)["realism"]) if self._kept else {}

    @property
    def cosines(self) -> bool:
        """Whether the student's scores are cosines, which predictions are about; False if all queries are real."""
        return bool(read_json(self._kept.path / KEPT)["cosines"]) if self._kept else False

    @property
    def signals(self) -> Signals | None:
        """What can be seen of the example queries without judgements; None without any, or without cosines."""
        record = read_json(self._kept.path / KEPT)["signals"] if self._kept else None
        return Signals(**record) if record else None

    @cached_property
    def generated(self) -> dict[str, dict[str, SyntheticQuery]]:
        """The synthetic queries, by split and id."""
        table = load_corpus(self.made.path / "corpus")
        texts = dict(zip(table.query_ids, table.query_texts(), strict=True))
        return {
            split: {
                i: SyntheticQuery(texts[i], row, kind, query_removed)
                for i, (row, kind, query_removed) in queries.items()
            }
            for split, queries in self._generation["queries"].items()
        }

    def kinds(self, split: str) -> dict[str, str] | None:
        """By query the kind of synthetic query; None if the split's queries are no synthetic ones."""
        queries = self.generated.get(split)
        return {i: query.kind for i, query in queries.items()} if queries else None

    def wanted(self, split: str) -> int:
        """How many synthetic queries of a split the config asks for."""
        return int(self._generation["wanted"][split])

    def tally(self, split: str) -> QueryTally:
        """What was made of a split's queries, and dropped: so far, or in the end if `kept` is given."""
        record = read_json(self._kept.path / KEPT) if self._kept else self._generation
        return QueryTally.from_json(record["tallies"][split])

    @cached_property
    def query_removed(self) -> list[QueryRemovedDocument]:
        """Documents without their synthetic query, those of splits that measure first."""
        documents = [
            QueryRemovedDocument(identifier, query.document_row, split, query.query_removed)
            for split, queries in self.generated.items()
            for identifier, query in queries.items()
        ]
        return sorted(documents, key=lambda one: one.split == SYNTHETIC_TRAIN)

    @property
    def measuring(self) -> int:
        """How many of `query_removed` belong to splits that measure: these come first."""
        return sum(one.split != SYNTHETIC_TRAIN for one in self.query_removed)

    def query_removed_tokens(self, tokens: Ragged, *, training: bool) -> Ragged:
        """Token ids of `query_removed`: of those that measure, or, for `training`, of all; then those of queries that
        were dropped are empty, so that the others keep their positions."""
        if not training:
            return tokens.first(self.measuring)
        # Not by `corpus.qrels`: a language model's grades leave queries out there, and are no part of this key.
        kept = {query for queries in (self.kept or self.generated).values() for query in queries}
        pairs = zip(self.query_removed, tokens, strict=True)
        return Ragged.of([ids if one.query in kept else ids[:0] for one, ids in pairs], tokens.values_T.dtype)

    def query_removed_of(self, split: str) -> list[tuple[int, QueryRemovedDocument]]:
        """(position in `query_removed`, it) of a split's queries that are kept."""
        qrels = self.corpus.qrels.get(split, {})
        return [(n, one) for n, one in enumerate(self.query_removed) if one.split == split and one.query in qrels]

    @cached_property
    def query_removed_position(self) -> dict[int, int]:
        """Query row -> position in `query_removed`."""
        return {self.corpus.query_row[one.query]: position for position, one in enumerate(self.query_removed)}

    @cached_property
    def train_rows(self) -> Array:
        """Rows of the training queries: train without queries that are in another split, and synthetic ones."""
        rows = self.corpus.query_row
        return np.asarray(sorted(rows[identifier] for identifier in self.notes["train_queries"]), dtype=np.int64)

    @cached_property
    def held_out_rows(self) -> Array:
        """Rows of queries that people asked, kept out of training; nobody has judged them."""
        rows = self.corpus.query_row
        return np.asarray(sorted(rows[identifier] for identifier in self.notes["held_out_queries"]), dtype=np.int64)

    def rows_of(self, split: str) -> Array:
        """Rows of a split's judged queries."""
        return np.asarray(self.corpus.split_rows(split), dtype=np.int64)

    def own_documents(self, query_rows: Array) -> Array:
        """For each query the row of the document with its own id, -1 if there is none."""
        own, ids = self.corpus.document_row, self.corpus.query_ids
        return np.asarray([own.get(ids[row], -1) for row in query_rows], dtype=np.int64)

    def known_positives(self, query_rows: Sequence[int], use_labels: bool) -> list[list[int]]:
        """Document rows of the known positives of training queries: judged ones if labels may be used, always the
        document that a synthetic query was made from, and above both what a person said (`corpus.verdicts`)."""
        judged: dict[str, Any] = dict(self.corpus.qrels.get(SYNTHETIC_TRAIN, {}))
        if use_labels:
            judged |= self.corpus.qrels.get("train", {})
        ids, document_row, verdicts = self.corpus.query_ids, self.corpus.document_row, self.verdicts
        positives = []
        for row in query_rows:
            grades = judged.get(ids[row], {})
            known = {document_row[d] for d, grade in grades.items() if grade > 0 and d in document_row}
            positives.append(
                sorted((known | verdicts.relevant.get(row, frozenset())) - verdicts.refused.get(row, frozenset()))
            )
        return positives
