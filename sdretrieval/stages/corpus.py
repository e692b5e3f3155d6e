"""Stage 0/corpus: from a source to documents, queries and splits: which queries train, and which measure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from math import ceil
from typing import Any

from sdretrieval.chat import WRITING, Chat
from sdretrieval.config import Config, WriterConfig, identity_fields
from sdretrieval.corpus import (
    Corpus,
    carve_dev,
    find_source,
    normalised,
    open_corpus,
    repeated_queries,
    require_positives,
    save_corpus,
    training_queries,
)
from sdretrieval.corpus.text import hash_rank
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.student import torch_device
from sdretrieval.errors import CorpusError
from sdretrieval.files import write_json
from sdretrieval.formatting import quantity
from sdretrieval.stages.collection import GENERATED, SYNTHETIC_TRAIN, Collection
from sdretrieval.stages.run import Run
from sdretrieval.store import Work
from sdretrieval.synthetic_queries import (
    QueryTally,
    Recipe,
    SyntheticQuery,
    chat_writer,
    load_writer,
    with_synthetic_split,
    writing_cost,
)
from sdretrieval.synthetic_queries.make import SPARE

logger = logging.getLogger("sdretrieval")

COST_SAMPLE = 2000
"""Documents whose length stands for that of all, when a language model's work is counted beforehand."""


def collect(run: Run) -> Collection:
    """Documents, queries and splits. Raises CorpusError as reading the source does."""
    cfg = run.config.corpus
    # Verdicts touch training alone: they are inputs of what reads known positives.
    identity = {**identity_fields(cfg, without={"source", "generate", "verdicts"}), "seed": run.config.seed}
    identity["split"] = run.config.evaluate.split
    if generates(run.config):  # a corpus without synthetic queries is the same whatever their recipe
        identity["generate"] = identity_fields(cfg.generate, without={"within", "writer"})
        if (writer := writer_of(run.config)) is not None:
            identity["generate"]["writer"] = _writer_identity(writer)
    digest = find_source(cfg.source).digest()

    def build(work: Work) -> None:
        build_corpus(work, run.config, run.chat)
        if find_source(cfg.source).digest() != digest:  # it would be found again under the digest of what it was
            raise CorpusError(f"corpus {cfg.source} was changed while it was read; run again when nothing writes to it")

    return Collection(run.runner.stage("0/corpus", 4, identity, [digest], build))


def writer_of(config: Config) -> WriterConfig | None:
    """The model that is to write queries; None if none is made, or none by a model."""
    cfg = config.corpus.generate
    return cfg.writer if generates(config) and cfg.written > 0 else None


def _writer_identity(cfg: WriterConfig) -> dict[str, Any]:
    if cfg.url is None:
        return {"model": model_digest(locate_model(cfg.model)), "prompt": cfg.prompt}
    return {"chat": cfg.model, "prompts": {kind: list(prompt) for kind, prompt in WRITING.items()}}


def generates(config: Config) -> bool:
    """Whether any queries are made from documents."""
    return not config.corpus.labels or config.corpus.generated_queries > 0


def build_corpus(work: Work, config: Config, chat: Callable[[WriterConfig, str], Chat] | None = None) -> None:
    """Read the source, make the splits that the config asks for, say what was left out. `chat`: gives the language
    model that writes queries (`Run.chat`); None only if none does."""
    cfg = config.corpus
    # Without labels, train and dev judgements may not even decide which documents a cut corpus keeps.
    deciding = None if cfg.labels else {config.evaluate.split}
    raw = open_corpus(cfg.source, max_documents=cfg.max_documents, keep_positives_of=deciding)
    splits = Splits(raw, config, chat)
    splits.fill()
    corpus, train = splits.corpus, splits.train
    repeated = repeated_queries(raw)
    if repeated:
        logger.warning(
            "left out of training, since in two splits: %s, e.g. %r",
            quantity(len(repeated), "query texts"),
            next(iter(repeated)),
        )
    save_corpus(corpus, work.folder / "corpus")
    notes = {
        "name": raw.name,
        "estimate": not cfg.labels,
        "train_queries": train,
        "repeated_queries": len(repeated),
        "splits": {split: len(judged) for split, judged in corpus.qrels.items()},
    }
    write_json(work.folder / "notes.json", notes)
    if splits.generated:
        write_json(work.folder / GENERATED, splits.record())
    if splits.writer is not None:
        splits.writer.say_what_it_took("queries")
        work.counts.update(splits.writer.counts("written"))
    work.counts.update(documents=len(corpus.documents), train_queries=len(train), dev_queries=len(corpus.qrels["dev"]))


class Splits:
    """The splits of a run's corpus as they are filled: `corpus`, the training queries' ids, synthetic queries."""

    def __init__(self, raw: Corpus, config: Config, chat: Callable[[WriterConfig, str], Chat] | None = None) -> None:
        self.corpus, self._raw, self._config = raw, raw, config
        cfg = writer_of(config)
        self.writer: Chat | None = None
        if cfg is not None and cfg.url is not None:
            assert chat is not None, "a language model writes queries, and nobody gave it"
            self.writer = chat(cfg, "corpus.generate.writer")
        self.train: list[str] = []
        self.generated: dict[str, Mapping[str, SyntheticQuery]] = {}
        self.tallies: dict[str, QueryTally] = {}
        self.wanted: dict[str, int] = {}

    def fill(self) -> None:
        """All splits that the config asks for. Raises CorpusError if there is nothing to train on."""
        cfg, split, raw = self._config.corpus, self._config.evaluate.split, self._raw
        # Dev is carved or made anyway. Another split is made only if no judgement may be read (a log's clicks are of
        # train), never because its name was mistyped.
        split_is_synthetic = split == "dev" or not (cfg.labels or measuring_splits(raw.qrels))
        if not split_is_synthetic:
            require_positives(raw, split)
        if cfg.labels:
            require_positives(raw, "train")
            if raw.qrels.get("dev"):
                require_positives(raw, "dev")
            else:
                self.corpus = carve_dev(raw, self._config.seed, cfg.dev_share)
        else:
            require_for_control(self._config, raw)
            self._generate("dev", cfg.dev_queries, held_out=True)
            if split != "dev" and split_is_synthetic:
                self._generate(split, cfg.dev_queries, held_out=True)
        self._choose_training()

    def _choose_training(self) -> None:
        cfg, corpus = self._config.corpus, self.corpus
        if corpus.qrels.get("train"):
            self.train = [corpus.query_ids[row] for row in training_queries(corpus)]
        # Queries of no split, without those whose text is in a split that measures.
        judged = {query for qrels in self._raw.qrels.values() for query in qrels}
        measured = {query for split, qrels in corpus.qrels.items() if split != "train" for query in qrels}
        texts = {normalised(text) for text in corpus.query_texts(sorted(corpus.query_row[query] for query in measured))}
        pairs = zip(self._raw.query_ids, self._raw.query_texts(), strict=True)
        unjudged = [query for query, text in pairs if query not in judged and normalised(text) not in texts]
        if cfg.unjudged_queries:
            self.train += unjudged
        elif unjudged:
            logger.info(
                "not trained on: %s without a judgement; --set corpus.unjudged_queries=true trains on such queries too",
                quantity(len(unjudged), "queries"),
            )
        if cfg.train_queries is not None and len(self.train) > cfg.train_queries:
            self.train = sorted(self.train, key=lambda query: hash_rank(self._config.seed, query))[: cfg.train_queries]
        if cfg.generated_queries:
            self._generate(SYNTHETIC_TRAIN, cfg.generated_queries, held_out=False)
            self.train += list(self.generated[SYNTHETIC_TRAIN])
        if not self.train:
            log = f"train on the {len(unjudged)} queries without a judgement (--set corpus.unjudged_queries=true), or "
            labelled = len(self._raw.qrels.get("train", {})) if cfg.labels else 0
            lacking = (
                f"all {labelled} queries of its train split are in another split too"
                if labelled
                else "has no train split"
            )
            raise CorpusError(
                f"corpus {self._raw.name} {lacking}, so there are no queries to train on; "
                f"{log if unjudged else ''}make some from its documents: --set corpus.generated_queries=1000"
            )

    def _generate(self, split: str, count: int, *, held_out: bool) -> None:
        tally = QueryTally()
        # With labels, dev and test measure documents that no training query was made from. Without labels, judgements
        # decide nothing: the report shows apart what training has seen.
        judged = [name for name in self.corpus.qrels if name not in ("train", SYNTHETIC_TRAIN)]
        self.corpus, self.generated[split] = with_synthetic_split(
            self.corpus, split, count, self._config.seed, held_out=held_out,
            recipe=self._with_writer(recipe_of(self._config), split, count), tally=tally,
            without=judged if self._config.corpus.labels else (),
        )  # fmt: skip
        self.tallies[split], self.wanted[split] = tally, count

    def _with_writer(self, recipe: Recipe, split: str, count: int) -> Recipe:
        """The recipe of a split with the model that writes queries, if it has such. What a language model behind a
        server will cost is said here, before its first call."""
        config, cfg = self._config, writer_of(self._config)
        if cfg is None or not recipe.shares["written"]:
            return recipe
        if self.writer is None:
            device = torch_device(config.student.device)
            return replace(recipe, writer=load_writer(locate_model(cfg.model), cfg.prompt, config.seed, str(device)))
        sample = self.corpus.document_texts(range(min(len(self.corpus.documents), COST_SAMPLE)))
        cost = writing_cost(sample, ceil(SPARE * count), recipe.shares, split_name(split))
        self.writer.say_cost(cost)
        return replace(recipe, writer=chat_writer(self.writer, cost.calls))

    def record(self) -> dict[str, Any]:
        """`generated.json`: every synthetic query but its text, how many are wanted, what was dropped so far."""
        return {
            "queries": {
                split: {i: [query.document_row, query.kind, query.query_removed] for i, query in queries.items()}
                for split, queries in self.generated.items()
            },
            "wanted": self.wanted,
            "tallies": {split: tally.to_json() for split, tally in self.tallies.items()},
        }


def split_name(split: str) -> str:
    """What a split of synthetic queries is called in sentences."""
    return "training" if split == SYNTHETIC_TRAIN else split


def measuring_splits(judged: Mapping[str, object]) -> list[str]:
    """The splits with judgements that a run without labels may measure on, as all but train and dev."""
    return [split for split, queries in judged.items() if queries and split not in ("train", "dev")]


def recipe_of(config: Config) -> Recipe:
    """The recipe that the config's section `corpus.generate` describes, without the model that writes."""
    cfg = config.corpus.generate
    return Recipe({kind: float(getattr(cfg, kind)) for kind in Recipe().shares}, frozenset(cfg.query_removed))


def require_for_control(config: Config, corpus: Corpus) -> None:
    """Raise CorpusError if the control hard_labels is asked for and nothing is judged that it could learn from."""
    cfg = config.corpus
    if "hard_labels" not in config.evaluate.controls or cfg.labels or cfg.generated_queries:
        return
    if not any(grade > 0 for judged in corpus.qrels.get("train", {}).values() for grade in judged.values()):
        raise CorpusError(
            f"corpus {corpus.name} has no train judgements, which the control hard_labels learns from; leave it out: "
            "--set evaluate.controls=[shuffled_teacher]"
        )
