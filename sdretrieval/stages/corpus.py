"""Stage 0/corpus: from a source to documents, queries and splits: which queries train, and which measure."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import replace
from itertools import chain
from math import ceil
from typing import Any

from sdretrieval.chat import WRITING, Chat
from sdretrieval.config import Config, WriterConfig, identity_fields
from sdretrieval.config.conflicts import follows
from sdretrieval.corpus import (
    Corpus,
    carve_dev,
    cut_queries,
    find_source,
    left_out,
    normalised,
    open_corpus,
    repeated_queries,
    require_positives,
    save_corpus,
    save_left_out,
    training_queries,
)
from sdretrieval.corpus.arrow import query_table, table_rows
from sdretrieval.corpus.language import AUTO, detect, sample
from sdretrieval.corpus.read.documents.blocks import word_count
from sdretrieval.corpus.read.example_queries import ENOUGH, read_example_queries
from sdretrieval.corpus.text import content_digest, hash_rank
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.student import torch_device
from sdretrieval.errors import CorpusError
from sdretrieval.files import write_json
from sdretrieval.formatting import quantity
from sdretrieval.indexes.lexical import LexicalIndex, stop_words_of
from sdretrieval.indexes.terms import Vocabulary
from sdretrieval.stages.collection import GENERATED, SYNTHETIC_TRAIN, Collection
from sdretrieval.stages.run import Run
from sdretrieval.store import Work
from sdretrieval.synthetic_queries import (
    JUDGING,
    KINDS,
    Kind,
    QueryTally,
    Recipe,
    SyntheticQuery,
    chat_writer,
    load_writer,
    with_synthetic_split,
    writing_cost,
)
from sdretrieval.synthetic_queries.make import SPARE
from sdretrieval.synthetic_queries.overlap import PRIOR, Overlap, keep_of, natural_overlap, thinned

logger = logging.getLogger("sdretrieval")

MOST_EXAMPLES = 500
"""Queries that people asked, to compare synthetic ones with."""
HELD_OUT = 100
"""Queries that people asked, without judgements, that are kept out of training to see whether what it taught carries
over."""
HELD_OUT_SHARE = 0.2
"""At most this share of them."""
COST_SAMPLE = 2000
"""Documents whose length stands for that of all, when a language model's work is counted beforehand."""


def collect(run: Run) -> Collection:
    """Documents, queries and splits. Raises CorpusError as reading the source does."""
    cfg = run.config.corpus
    # Verdicts touch training alone: they are inputs of what reads known positives.
    identity = {
        **identity_fields(cfg, without={"source", "generate", "verdicts", "example_queries"}),
        "seed": run.config.seed,
    }
    identity["split"] = run.config.evaluate.split
    identity["holds_out"] = follows(run.config)
    if generates(run.config):  # a corpus without synthetic queries is the same whatever their recipe
        recipe = identity_fields(cfg.generate, without={"within", "writer"})
        recipe |= {"language": run.config.mine.language, "split_identifiers": run.config.mine.split_identifiers}
        recipe |= {"examples": content_digest("\n".join(given_examples(run.config))).hex()}
        if (writer := writer_of(run.config)) is not None:
            recipe["writer"] = _writer_identity(writer)
        identity["generate"] = recipe
    digest = find_source(cfg.source).digest()

    def build(work: Work) -> None:
        build_corpus(work, run.config, run.chat)
        if find_source(cfg.source).digest() != digest:  # it would be found again under the digest of what it was
            raise CorpusError(f"corpus {cfg.source} was changed while it was read; run again when nothing writes to it")

    return Collection(run.runner.stage("0/corpus", 7, identity, [digest], build))


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
    corpus, train = cut_queries(splits.corpus, splits.used), splits.train
    repeated = repeated_queries(raw)
    if repeated:
        logger.warning(
            "left out of training, since in two splits: %s, e.g. %r",
            quantity(len(repeated), "query texts"),
            next(iter(repeated)),
        )
    save_corpus(corpus, work.folder / "corpus")
    save_left_out(left_out(splits.corpus, splits.used), work.folder / "corpus")
    notes = {
        "name": raw.name,
        "estimate": not cfg.labels,
        "train_queries": train,
        "repeated_queries": len(repeated),
        "held_out_queries": splits.held_out,
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
        self.examples: list[str] = []
        self.held_out: list[str] = []
        self.overlap: dict[str, Any] = {}

    def fill(self) -> None:
        """All splits that the config asks for. Raises CorpusError if there is nothing to train on."""
        cfg, split, raw = self._config.corpus, self._config.evaluate.split, self._raw
        # Dev is carved or made anyway. Another split is made only if no judgement may be read (a log's clicks are of
        # train), never because its name was mistyped.
        if generates(self._config):
            self._find_examples()
        split_is_synthetic = split == "dev" or not (cfg.labels or measuring_splits(raw.qrels))
        if not split_is_synthetic:
            require_positives(raw, split)
        if cfg.labels:
            require_positives(raw, "train")
            if raw.qrels.get("dev"):
                require_positives(raw, "dev")
            else:
                self.corpus = carve_dev(self.corpus, self._config.seed, cfg.dev_share)
        else:
            require_for_control(self._config, raw)
            self._generate("dev", cfg.dev_queries, held_out=True)
            if split != "dev" and split_is_synthetic:
                self._generate(split, cfg.dev_queries, held_out=True)
        self._choose_training()
        if self.generated:
            self._thin()

    @property
    def used(self) -> Set[str]:
        """Ids of the queries that a stage reads: of others, nobody needs a vector."""
        measuring = (self.corpus.qrels["dev"], self.corpus.qrels[self._config.evaluate.split])
        return {*self.train, *self.held_out, *self.examples, *chain.from_iterable(measuring)}

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
        if follows(self._config):
            self._hold_out()
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

    def _hold_out(self) -> None:
        """Some of the training queries, if there are enough of them, of those first that would not be trained on."""
        ranked = sorted(self.train, key=lambda query: hash_rank(self._config.seed, query))
        count = min(HELD_OUT, int(HELD_OUT_SHARE * len(ranked)))
        if count >= ENOUGH:
            self.held_out = ranked[-count:]
            held_out = set(self.held_out)
            self.train = [query for query in self.train if query not in held_out]

    def _generate(self, split: str, count: int, *, held_out: bool) -> None:
        tally = QueryTally()
        recipe = Recipe(shares_of(self._config, held_out), [word_count(text) for text in self.example_texts])
        recipe = self._with_writer(recipe, split, count)
        # With labels, dev and test measure documents that no training query was made from. Without labels, judgements
        # decide nothing: the report shows apart what training has seen.
        judged = [name for name in self.corpus.qrels if name not in ("train", SYNTHETIC_TRAIN)]
        self.corpus, self.generated[split] = with_synthetic_split(
            self.corpus, split, count, self._config.seed, held_out=held_out,
            recipe=recipe, tally=tally, without=judged if self._config.corpus.labels else (),
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

    def _find_examples(self) -> None:
        """Queries that people asked, without their judgements: the config's file, or else the corpus' own queries of
        train and of no split, if these are enough."""
        given, corpus = given_examples(self._config), self.corpus
        if given:
            known = set(corpus.query_ids)
            named = {
                f"example-{n}": text for n, text in enumerate(given[:MOST_EXAMPLES]) if f"example-{n}" not in known
            }
            self.examples = list(named)
            self.corpus = replace(corpus, queries=query_table([*table_rows(corpus.queries), *named.items()]))
        elif not self._config.corpus.labels:
            judged = {query for split, qrels in self._raw.qrels.items() if split != "train" for query in qrels}
            own = [query for query in corpus.query_ids if query not in judged]
            if len(own) >= ENOUGH:
                self.examples = sorted(own, key=lambda query: hash_rank(self._config.seed, query))[:MOST_EXAMPLES]

    @property
    def example_texts(self) -> list[str]:
        """Texts of `examples`."""
        return self.corpus.query_texts([self.corpus.query_row[query] for query in self.examples])

    def _thin(self) -> None:
        """Documents of synthetic queries keep as many of the query's words as documents of real queries hold."""
        cfg, seed = self._config, self._config.seed
        language: str = cfg.mine.language
        if language == AUTO:
            language = detect(sample(self.corpus.document_texts())).stemmer
        like = Vocabulary(cfg.mine.split_identifiers, stop_words_of(language), language)
        share, why = self._share(language)
        kept = {
            kind: keep_of(kind, [query for query in self._made() if query.kind == kind], share, like)
            for kind in dict.fromkeys(query.kind for query in self._made())
        }
        self.overlap = Overlap(share, why, {kind: round(keep, 3) for kind, keep in kept.items()}).to_json()
        self.generated = {
            split: {
                i: query._replace(query_removed=thinned(query.query_removed, query.text, kept[query.kind], seed, like))
                for i, query in queries.items()
            }
            for split, queries in self.generated.items()
        }
        logger.info("documents of synthetic queries hold %.2f of a query's words: %s", share, why)

    def _made(self) -> Iterator[SyntheticQuery]:
        return chain.from_iterable(queries.values() for queries in self.generated.values())

    def _share(self, language: str) -> tuple[float, str]:
        """The share of a query's words that a relevant document holds, and how it is known."""
        cfg = self._config
        if cfg.corpus.generate.overlap != "auto":
            return float(cfg.corpus.generate.overlap), "set by corpus.generate.overlap"
        if not self.examples:
            return PRIOR, "no query that somebody asked is known, so the median of the collections measured is taken"
        index = LexicalIndex.build(
            self.corpus.document_texts(), split_identifiers=cfg.mine.split_identifiers, language=language
        )
        share = natural_overlap(index, self.example_texts)
        return share, f"by what BM25 finds for {quantity(len(self.examples), 'queries')} that people asked"

    def record(self) -> dict[str, Any]:
        """`generated.json`: every synthetic query but its text, how many are wanted, what was dropped so far."""
        return {
            "queries": {
                split: {i: [query.document_row, query.kind, query.query_removed] for i, query in queries.items()}
                for split, queries in self.generated.items()
            },
            "overlap": self.overlap,
            "examples": self.examples,
            "wanted": self.wanted,
            "tallies": {split: tally.to_json() for split, tally in self.tallies.items()},
        }


def split_name(split: str) -> str:
    """What a split of synthetic queries is called in sentences."""
    return "training" if split == SYNTHETIC_TRAIN else split


def measuring_splits(judged: Mapping[str, object]) -> list[str]:
    """The splits with judgements that a run without labels may measure on, as all but train and dev."""
    return [split for split, queries in judged.items() if queries and split not in ("train", "dev")]


def shares_of(config: Config, held_out: bool) -> dict[Kind, float]:
    """How often each kind of query is tried first in a split that measures (`held_out`) or trains: the config's shares.
    Without labels the kinds that measure are not trained on; if dev is judged, training may have all."""
    cfg, judging = config.corpus.generate, JUDGING if not config.corpus.labels else ()
    kinds = judging if held_out else [kind for kind in KINDS if kind not in judging]
    return dict(Recipe({kind: float(getattr(cfg, kind)) for kind in KINDS}).of(kinds).shares)


def given_examples(config: Config) -> list[str]:
    """The queries of `corpus.example_queries`; none if the config names no file. Raises CorpusError as reading does."""
    file = config.corpus.example_queries
    return read_example_queries(file) if file is not None else []


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
