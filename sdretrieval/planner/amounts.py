"""How many units of work each stage has, in the units that its manifest counts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil
from typing import Any, NamedTuple

from sdretrieval.chat import Cost, ServedModel
from sdretrieval.config import Config, CrossEncoderConfig, DenseConfig, EmaConfig, Member, RerankerApiConfig, members_of
from sdretrieval.config.conflicts import member_paths, probes
from sdretrieval.corpus import find_source
from sdretrieval.corpus.read.documents.blocks import word_count
from sdretrieval.encode.views import View
from sdretrieval.evaluation.judge import judging_cost
from sdretrieval.planner.workload import Reader, Workload
from sdretrieval.stages.collection import SYNTHETIC_TRAIN
from sdretrieval.stages.corpus import shares_of, split_name, writer_of
from sdretrieval.stages.evaluate import SMALLER
from sdretrieval.stages.exits import MAP_FIT, MOST_TEXTS, STATIC_FIT, TRANSFORMER_FIT
from sdretrieval.stages.fit_teacher import BATCHES_PER_UPDATE, HALVES, LISTS_PER_BATCH
from sdretrieval.stages.guard import DOCUMENTS as GUARD_DOCUMENTS
from sdretrieval.stages.guard import QUERIES as GUARD_QUERIES
from sdretrieval.stages.judge import CHECKED, judges_dev
from sdretrieval.stages.run import chat_model
from sdretrieval.stages.smaller import (
    MEAN_SPAN,
    STATIC,
    spans_in,
)
from sdretrieval.stages.teachers import view_of
from sdretrieval.synthetic_queries import writing_cost
from sdretrieval.synthetic_queries.make import SPARE
from sdretrieval.teachers.reranker_api import rerank_cost
from sdretrieval.training.batches import count_updates
from sdretrieval.training.pretrain import LEAST_TOKENS, MOST_TOKENS
from sdretrieval.units import UNITS, Address

SHARED = 0.05
"""Of a batch's documents, those in several of its lists beyond what chance brings: some per cent."""
FORWARD_AND_BACK = 2
"""Of a forward pass, where half of the layers learn."""
BYTES_PER_TOKEN = 4
"""Of English text."""


@dataclass(frozen=True)
class Amount:
    """So much of a unit."""

    unit: str
    count: int


class Prediction(NamedTuple):
    """What a stage will take: its amount, seconds, and the most memory that the process will hold; None: not predicted.

    `took`: its seconds when it was last made. `pace`: seconds of a token (encode) or of an update (train).
    `device_bytes`: the most memory on the GPU; None without one.
    """

    amount: Amount | None
    seconds: float | None
    peak_bytes: int | None
    took: float | None = None
    pace: float | None = None
    device_bytes: int | None = None


def predicted_json(one: Prediction) -> dict[str, Any]:
    """Amount, seconds and peak memory, that of the GPU too; null: not predicted."""
    return {
        "amount": one.amount.count if one.amount else None,
        "seconds": None if one.seconds is None else round(one.seconds, 2),
        "peak_rss_bytes": one.peak_bytes,
        "peak_device_bytes": one.device_bytes,
    }


def amount_of(address: str, config: Config, load: Workload) -> Amount | None:
    """The amount of the stage at `address`; None for stages too small to count."""
    name, pairs = Address.of(address).stage, load.train * list_length(config, load)
    match name:
        case "corpus" | "lexical" | "index":
            count: float = load.documents
        case "tokens":
            reader = reader_at(address, load)
            count = sum(side.total() for side in (reader.documents, reader.queries, reader.query_removed))
        case "encode" if not address.endswith(":half"):  # which reads no text
            count = _encoded_tokens(address, config, load)
        case "guard":
            if address == "0/guard":
                return None
            count = guard_tokens(config, load)
        case "evaluate":
            count = load.splits.get(address.split(":")[-1], 0)
        case "probe":
            count = load.splits.get("dev", 0)
        case "probability":
            count = sum(load.splits.get(split, 0) for split in {"dev", config.evaluate.split})
        case "judge":
            count = judged_pairs(address, config, load)
        case "mine":
            count = pairs
        case "score":
            count = pairs * len(members_of(config.teacher))
        case "targets":
            count = load.train
        case "train" if config.pretrain is not None and address.startswith("pretrained/"):
            count = config.pretrain.updates
        case "train":
            control = ":" in address  # which has the updates of the last generation's student
            numbers = range(1, config.generations + 1)
            epochs = config.epochs_of(numbers) if control else config.train.epochs_of(int(Address.of(address).owner))
            per_update = min(config.train.queries_per_batch, max(load.train, 1)) * config.train.gradient_accumulation
            count = count_updates(load.train, epochs, per_update)
        case "fit" if not address.endswith(":cut"):  # which learns nothing
            teacher = teacher_fitted(address, config, load)
            count = teacher.updates if teacher else fitting(address, config, load).updates
        case _:
            return None
    return Amount(UNITS[name][0], round(count))


def _encoded_tokens(address: str, config: Config, load: Workload) -> float:
    """Content tokens of all windows that the stage encodes."""
    reader, view = reader_at(address, load), view_at(address, config)
    if address.endswith(":hidden"):
        return reader.query_removed.seen(view, reader.specials)
    if address.endswith(":spans"):
        return spans_in(round(reader.documents.total())) * MEAN_SPAN
    tokens = reader.queries.seen(reader.query_view, reader.query_specials)
    first = address.startswith(("0/", "1/", "student_0/", "pretrained/"))  # an adapter is behind what these make
    owner = Address.of(address).owner
    if owner.startswith(SMALLER):
        cfg = next((one for one in config.smaller if one.name == owner), None)
        if not address.endswith(":cut") and (cfg is None or cfg.model == STATIC or not cfg.encodes_itself):
            return 0  # shared, mapped, or added up
        return tokens + reader.documents.seen(view, reader.specials)
    if config.student.train == "adapter" and not first:
        return 0  # vectors times a matrix
    # If queries alone learn, documents keep the base student's vectors.
    if config.student.train == "both" or first:
        tokens += reader.documents.seen(view, reader.specials)
        teaches = ":teacher" in address  # a teacher scores training queries too
        removed = load.measuring + (load.wanted.get(SYNTHETIC_TRAIN, 0) if teaches else 0)
        tokens += reader.query_removed.first(removed).seen(view, reader.specials)
    return tokens


class Fitting(NamedTuple):
    """Updates that fit a smaller student, and the content tokens that a transformer reads in them."""

    updates: int
    tokens: float


def fitting(address: str, config: Config, load: Workload) -> Fitting:
    """Of the stage at `address`."""
    owner, reader = Address.of(address).owner, load.reader
    cfg = next((one for one in config.smaller if one.name == owner), None)
    documents, queries = min(load.documents, MOST_TEXTS), min(load.train, MOST_TEXTS)
    if cfg is None or not cfg.encodes_itself:
        return Fitting(count_updates(documents + queries, MAP_FIT.epochs, min(MAP_FIT.batch, documents + queries)), 0)
    spans = spans_in(round(reader.documents.total()))
    how = STATIC_FIT if cfg.model == STATIC else TRANSFORMER_FIT
    if cfg.model == STATIC:
        documents = max(documents, spans)
    epochs = cfg.epochs or how.epochs
    texts = documents + queries + spans
    updates = count_updates(texts, epochs, min(how.batch, texts))
    view = View(config.student.max_tokens)
    read = documents * reader.documents.mean_seen(view, reader.specials) + spans * MEAN_SPAN
    read += queries * reader.queries.mean_seen(reader.query_view, reader.query_specials)
    return Fitting(updates, 0 if cfg.model == STATIC else epochs * read)


class TeacherFitted(NamedTuple):
    """What fits a cross-encoder in both halves: its updates, and what they cost in pairs that it would only score."""

    member: CrossEncoderConfig
    updates: int
    passes: float


def teacher_fitted(address: str, config: Config, load: Workload) -> TeacherFitted | None:
    """Of the stage at `address`; None if it fits a smaller student. Every training query is taken to be judged."""
    member = member_at(address, config)
    if not isinstance(member, CrossEncoderConfig) or member.fit is None:
        return None
    updates = len(HALVES) * count_updates(
        ceil(load.train / len(HALVES)), member.fit.epochs, LISTS_PER_BATCH * BATCHES_PER_UPDATE
    )
    pairs = load.train * member.fit.epochs * min(member.fit.candidates, list_length(config, load))
    return TeacherFitted(member, updates, FORWARD_AND_BACK * pairs)


def guard_tokens(config: Config, load: Workload) -> float:
    """Tokens that a student reads of the guard, about: its documents are not read yet, and its queries are taken to be
    as long as the corpus' own."""
    assert config.gate.guard is not None
    size, reader = find_source(config.gate.guard).size(GUARD_DOCUMENTS), load.reader
    documents = min(size.bytes / BYTES_PER_TOKEN, size.documents * config.student.max_tokens)
    queries = min(size.queries, GUARD_QUERIES)
    return documents + queries * reader.queries.mean_seen(reader.query_view, reader.query_specials)


def reused_tokens(address: str, config: Config, load: Workload) -> float:
    """Of the tokens of an `encode` stage, those whose vectors are copied: in generation 1 the base student is its own
    moving average, so that a teacher of windows as long as the student's finds the first of each document."""
    own_average = address.startswith("1/") and isinstance(member_at(address, config), EmaConfig)
    same = own_average and view_at(address, config).max_tokens == config.student.max_tokens
    return _encoded_tokens("1/encode", config, load) if same else 0.0


def pairs_read(address: str, config: Config, load: Workload) -> int:
    """Pairs that each cross-encoder reads in the stage at `address`, at most: those of earlier generations' lists are
    remembered."""
    queries, documents = lists_read(address, config, load)
    return queries * documents + without_query(address, load) if queries else 0


def lists_read(address: str, config: Config, load: Workload) -> tuple[int, int]:
    """Queries, and documents of each, whose pairs a cross-encoder reads in the stage at `address`."""
    kind, split = Address.of(address).stage, address.split(":")[-1]
    if kind == "score":
        return load.train, list_length(config, load)
    depth = min(config.evaluate.teacher_depth, load.documents)
    if kind == "probe":  # the student's best, and BM25's if lists hold them
        return load.splits.get("dev", 0), depth * (2 if config.mine.lexical else 1)
    # What the probe has read of dev is not read again.
    if ":teacher:" in address and kind == "evaluate" and not (split == "dev" and probes(config)):
        return load.splits.get(split, 0), depth
    return 0, 0


def without_query(address: str, load: Workload) -> int:
    """Documents that the stage at `address` reads once more, without the synthetic query that was made from each."""
    kind, split = Address.of(address).stage, address.split(":")[-1]
    return load.wanted.get({"score": SYNTHETIC_TRAIN, "probe": "dev"}.get(kind, split), 0)


def judged_pairs(address: str, config: Config, load: Workload) -> int:
    """Pairs that a language model grades in the stage at `address`, at most: the student and BM25 find some twice."""
    split = Address.of(address).part
    queries = load.splits.get(split, 0)
    if not judges_dev(config) or split != "dev":
        queries = min(queries, CHECKED)
    return queries * min(2 * config.evaluate.teacher_depth + 1, load.documents)


def asked_of_models(address: str, config: Config, load: Workload) -> list[tuple[str, ServedModel, Cost]]:
    """What the stage at `address` asks of models behind servers: the setting, the model, and the cost."""
    writer, judge, stage = writer_of(config), config.evaluate.judge, Address.of(address).stage
    if stage == "corpus" and writer is not None and writer.url is not None:
        shares = {split: shares_of(config, split != SYNTHETIC_TRAIN) for split in load.wanted}
        return [
            ("corpus.generate.writer", chat_model(writer),
             writing_cost(load.document_texts, ceil(SPARE * count), shares[split], split_name(split)))
            for split, count in load.wanted.items() if shares[split]["written"]
        ]  # fmt: skip
    if stage == "judge" and judge is not None:
        pairs = judged_pairs(address, config, load)
        cost = judging_cost(load.document_texts, pairs, Address.of(address).part)
        return [("evaluate.judge", chat_model(judge), cost)]
    return _asked_of_rerankers(address, config, load)


def _asked_of_rerankers(address: str, config: Config, load: Workload) -> list[tuple[str, ServedModel, Cost]]:
    pairs = pairs_read(address, config, load)
    if not pairs:
        return []
    texts, queries = load.document_texts, load.query_texts
    words = sum(map(word_count, texts)) / max(len(texts), 1) + sum(map(word_count, queries)) / max(len(queries), 1)
    asked = []
    for path, member in zip(member_paths(config), members_of(config.teacher), strict=True):
        if isinstance(member, RerankerApiConfig):
            requests = requests_made(address, config, load, member.documents_per_request)
            asked.append((path, chat_model(member), rerank_cost(pairs, requests, pairs * words)))
    return asked


def requests_made(address: str, config: Config, load: Workload, most: int) -> int:
    """Requests of at most `most` documents of one query that the pairs of the stage at `address` take."""
    queries, documents = lists_read(address, config, load)
    return queries * ceil(documents / most) + without_query(address, load) if queries else 0


def documents_of_update(config: Config, load: Workload) -> tuple[int, int]:
    """Queries of an update, and the distinct documents that their lists bring, about."""
    cfg = config.train
    queries = min(cfg.queries_per_batch, max(load.train, 1))
    drawn = queries * min(cfg.candidates_per_query, list_length(config, load))
    # Drawn with replacement from `documents`, so many different ones are expected: n (1 - (1 - 1/n)^drawn).
    documents = max(load.documents, 1)
    distinct = (1 - SHARED) * documents * (1 - (1 - 1 / documents) ** drawn)
    return queries * cfg.gradient_accumulation, round(distinct) * cfg.gradient_accumulation


def tokens_of_update(config: Config, load: Workload) -> float:
    """Content tokens that the student reads in an update."""
    if config.student.train == "adapter":
        return 0  # all texts' vectors are there
    queries, documents = documents_of_update(config, load)
    reader = load.reader
    tokens = queries * reader.queries.mean_seen(reader.query_view, reader.query_specials)
    if config.student.train == "both":  # else the documents' vectors are there
        tokens += documents * reader.documents.mean_seen(training_view(config), reader.specials)
    return tokens


def tokens_of_pieces(config: Config, load: Workload) -> float:
    """Content tokens that the student reads in an update of pretraining."""
    assert config.pretrain is not None
    documents = min(config.pretrain.documents_per_batch, max(load.documents, 1))
    return documents * (LEAST_TOKENS + MOST_TOKENS)  # two pieces of a document, each half of that on average


def tokens_held(config: Config, tokens: float) -> float:
    """Of an update's `tokens`, those that are held at once for the way back: a batch's, or a piece's."""
    held = tokens / config.train.gradient_accumulation
    if config.train.batch_tokens is None:
        return held
    return min(held, max(config.train.batch_tokens, training_view(config).max_tokens))  # a piece is a text at least


def list_length(config: Config, load: Workload) -> int:
    """Documents of a training query's list."""
    return min(config.mine.keep, load.documents)


def training_view(config: Config) -> View:
    """What is seen of a document in training."""
    most = config.student.max_tokens
    return View(min(config.train.document_tokens or most, most))


def member_at(address: str, config: Config) -> Member | None:
    """The teacher whose vectors or tokens `address` names."""
    teacher = re.search(r":teacher(\d+)$", address)
    return members_of(config.teacher)[int(teacher[1])] if teacher else None


def reader_at(address: str, load: Workload) -> Reader:
    """The texts as the model sees them that `address` tokenizes for, or encodes with."""
    teacher = re.search(r":teacher(\d+)$", address)
    return load.external.get(int(teacher[1]), load.reader) if teacher else load.reader


def view_at(address: str, config: Config) -> View:
    """What is seen of a document at `address`."""
    member = member_at(address, config)
    if isinstance(member, EmaConfig | DenseConfig):
        return view_of(member.view, config)
    return View(config.student.max_tokens)
