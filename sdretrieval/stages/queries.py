"""Which queries train and which measure: judged ones, those of a log, and those that are made from documents."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from sdretrieval.config import Config
from sdretrieval.corpus import (
    Corpus,
    carve_dev,
    normalised,
    require_positives,
    require_split,
    training_queries,
)
from sdretrieval.corpus.synthetic_queries import (
    GeneratedQuery,
    QueryTally,
    Recipe,
    keep_consistent,
    load_writer,
    plain,
    with_generated_split,
)
from sdretrieval.corpus.text import hash_rank
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.student import torch_device
from sdretrieval.errors import CorpusError
from sdretrieval.indexes.exact import exact_search
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.stages.inputs import GENERATED_TRAIN, KEPT, Prepared, Vectors
from sdretrieval.store import Work

logger = logging.getLogger("sdretrieval")

CONSISTENCY_DEPTH = 100
"""Documents that each retriever brings to the ranking in which a query must find its own."""


def generates(config: Config) -> bool:
    """Whether any queries are made from documents."""
    return not config.corpus.labels or config.corpus.generated_queries > 0


class Queries:
    """The splits of a run's corpus as they are filled: `corpus`, the training queries' ids, what was generated."""

    def __init__(self, raw: Corpus, config: Config) -> None:
        self.corpus, self._raw, self._config = raw, raw, config
        self.train: list[str] = []
        self.generated: dict[str, Mapping[str, GeneratedQuery]] = {}
        self.tallies: dict[str, QueryTally] = {}
        self.wanted: dict[str, int] = {}

    def fill(self) -> None:
        """All splits that the config asks for. Raises CorpusError where there is nothing to train on."""
        asked, split = self._config.corpus, self._config.evaluate.split
        if not self._made_for_the_report(split):
            require_split(self._raw, split)
        if asked.labels:
            require_positives(self._raw, "train")
            if not self._raw.qrels.get("dev"):
                self.corpus = carve_dev(self._raw, self._config.seed, asked.dev_share)
        else:
            require_for_control(self._config, self._raw)
            self._generate("dev", asked.dev_queries, held_out=True)
            if split != "dev" and self._made_for_the_report(split):
                self._generate(split, asked.dev_queries, held_out=True)
        self._choose_training()

    def _made_for_the_report(self, split: str) -> bool:
        """Whether the report's split comes from documents: dev is carved or made anyway; another split is made where
        the corpus judges nothing at all, and never because its name was mistyped."""
        return split == "dev" or (not self._config.corpus.labels and not any(self._raw.qrels.values()))

    def _choose_training(self) -> None:
        asked, corpus = self._config.corpus, self.corpus
        if corpus.qrels.get("train"):
            self.train = [corpus.query_ids[row] for row in training_queries(corpus)]
        unjudged = _unjudged(self._raw, corpus)
        if asked.unjudged_queries:
            self.train += unjudged
        elif unjudged:
            logger.info(
                "%d queries have no judgement and are not trained on; with --set corpus.unjudged_queries=true they are",
                len(unjudged),
            )
        if asked.train_queries is not None and len(self.train) > asked.train_queries:
            self.train = sorted(self.train, key=lambda query: hash_rank(self._config.seed, query))[
                : asked.train_queries
            ]
        if asked.generated_queries:
            self._generate(GENERATED_TRAIN, asked.generated_queries, held_out=False)
            self.train += list(self.generated[GENERATED_TRAIN])
        if not self.train:
            log = f"train on the {len(unjudged)} queries without a judgement (--set corpus.unjudged_queries=true), or "
            judged = len(self._raw.qrels.get("train", {})) if asked.labels else 0
            lacking = (
                f"all {judged} queries of its train split stand in another split too"
                if judged
                else "has no train split"
            )
            raise CorpusError(
                f"corpus {self._raw.name} {lacking}, so there are no queries to train on; "
                f"{log if unjudged else ''}make some from its documents: --set corpus.generated_queries=1000"
            )

    def _generate(self, split: str, count: int, *, held_out: bool) -> None:
        tally = QueryTally()
        self.corpus, self.generated[split] = with_generated_split(
            self.corpus, split, count, self._config.seed, held_out=held_out, recipe=recipe_of(self._config), tally=tally
        )
        self.tallies[split], self.wanted[split] = tally, count

    def record(self) -> dict[str, Any]:
        """`generated.json`: every generated query but its text, how many are wanted, what was dropped so far."""
        return {
            "queries": {
                split: {i: [query.document_row, query.kind, query.masked] for i, query in queries.items()}
                for split, queries in self.generated.items()
            },
            "wanted": self.wanted,
            "tallies": {split: tally.to_json() for split, tally in self.tallies.items()},
        }


def recipe_of(config: Config) -> Recipe:
    """The recipe that the config's section `corpus.generate` describes."""
    asked = config.corpus.generate
    shares = {kind: float(getattr(asked, kind)) for kind in Recipe().shares}
    writer = None
    if asked.model is not None and asked.written > 0:
        device = torch_device(config.student.device)
        writer = load_writer(locate_model(asked.model), asked.prompt, config.seed, str(device))
    return Recipe(shares, frozenset(asked.masked), writer)


def build_queries(work: Work, collected: Prepared, vectors: Vectors, lexical: LexicalIndex, within: int | None) -> None:
    """`kept.json`: by split the generated queries that stay, and the record of all that were made."""
    corpus, kept, tallies = collected.corpus, {}, {}
    texts = _Texts(corpus)
    for split, queries in collected.generated.items():
        rows = [corpus.query_row[identifier] for identifier in queries]
        depth = min(CONSISTENCY_DEPTH, len(corpus.documents))
        found = keep_consistent(
            queries,
            exact_search(vectors.documents.vectors_WD, vectors.queries_QD[rows], depth).rows_Qk,
            lexical.search(corpus.query_texts(rows), depth).rows_Qk,
            texts.__getitem__,
            count=collected.wanted(split),
            within=within,
            tally=collected.tally(split),
        )
        if not found.ids:
            raise CorpusError(_nothing_kept(corpus, split, len(queries), found.tally))
        kept[split], tallies[split] = list(found.ids), found.tally.to_json()
        work.counts[f"{split}_made"], work.counts[f"{split}_kept"] = len(queries), len(found.ids)
        logger.info("generated queries for %s: %d of %d kept", split, len(found.ids), len(queries))
    (work.folder / KEPT).write_text(
        json.dumps({"kept": kept, "tallies": tallies}, ensure_ascii=False) + "\n", encoding="utf8"
    )


class _Texts:
    """Texts of documents, read one by one and remembered in one case: a document is often among the best."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus
        self._known: dict[int, str] = {}

    def __getitem__(self, row: int) -> str:
        if row not in self._known:
            self._known[row] = plain(self._corpus.document_text(row))
        return self._known[row]


def _nothing_kept(corpus: Corpus, split: str, made: int, tally: QueryTally) -> str:
    reasons = Counter[str]()
    for (_, reason), count in tally.dropped.items():
        reasons[reason] += count
    told = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
    return (
        f"corpus {corpus.name}: none of the {made} queries made from documents for '{split}' is kept ({told}): the "
        "documents are too much alike, or too short; raise corpus.generate.within, remove copies, or give queries"
    )


def _unjudged(raw: Corpus, corpus: Corpus) -> list[str]:
    """Queries of no split, without those whose text stands in a split that measures."""
    judged = {query for qrels in raw.qrels.values() for query in qrels}
    measuring = _texts(corpus, (query for split in corpus.qrels if split != "train" for query in corpus.qrels[split]))
    pairs = zip(raw.query_ids, raw.query_texts(), strict=True)
    return [query for query, text in pairs if query not in judged and normalised(text) not in measuring]


def _texts(corpus: Corpus, queries: Iterable[str]) -> set[str]:
    rows = sorted({corpus.query_row[query] for query in queries})
    return {normalised(text) for text in corpus.query_texts(rows)}


def require_for_control(config: Config, corpus: Corpus) -> None:
    """Raise CorpusError where the control hard_labels is asked for and nothing is judged that it could learn from."""
    asked = config.corpus
    if "hard_labels" not in config.evaluate.controls or asked.labels or asked.generated_queries:
        return
    if not any(grade > 0 for judged in corpus.qrels.get("train", {}).values() for grade in judged.values()):
        raise CorpusError(
            f"corpus {corpus.name} has no train judgements, which the control hard_labels learns from; leave it out: "
            "--set evaluate.controls=[shuffled_teacher]"
        )
