"""How many units of work each stage has, in the units that its manifest counts, and the bytes that it will write."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sdretrieval.config import Config, DenseConfig, EmaConfig, Member, members_of
from sdretrieval.encode.locate import locate_model
from sdretrieval.encode.reuse import DIGEST_BYTES
from sdretrieval.encode.student import Student
from sdretrieval.encode.views import View
from sdretrieval.planner.workload import Reader, Workload, read_by_student
from sdretrieval.stages.teach import view_of
from sdretrieval.teachers.dense import dims_of
from sdretrieval.training.batches import count_updates

COUNTED = {
    "corpus": ("documents", ("documents",)),
    "tokens": ("tokens", ("document_tokens", "query_tokens", "masked_tokens")),
    "lexical": ("documents", ("documents",)),
    "encode": ("tokens", ("document_tokens", "query_tokens", "masked_tokens")),
    "index": ("vectors", ("vectors",)),
    "evaluate": ("queries", ("queries",)),
    "probe": ("queries", ("queries",)),
    "mine": ("candidates", ("candidates",)),
    "score": ("pairs", ("pairs",)),
    "targets": ("lists", ("lists",)),
    "train": ("updates", ("updates",)),
}
"""Of a stage: its unit, and the counts of its manifest that make it up."""

INT32, FLOAT32, OFFSET = 4, 4, 8
SHARED = 0.05
"""Of a batch's documents, those in several of its lists beyond what chance brings: some per cent
(`python -m benchmarks.batches`)."""


@dataclass(frozen=True)
class Amount:
    """So much of a unit; `bytes` of the artifact, 0 where they are few or not foretold."""

    unit: str
    count: int
    bytes: int = 0


@dataclass(frozen=True)
class Known:
    """What amounts follow from."""

    config: Config
    load: Workload
    student: Student
    guests: Mapping[int, Reader] = field(default_factory=dict)
    """How dense members see the texts, by position."""

    def reader(self, address: str) -> Reader:
        """How the model that `address` tokenizes for, or encodes with, sees the texts."""
        found = re.search(r":teacher(\d+)$", address)
        own = self.guests.get(int(found[1])) if found else None
        return own or read_by_student(self.load, self.student)

    def member(self, address: str) -> Member | None:
        """The teacher whose vectors or tokens `address` names."""
        found = re.search(r":teacher(\d+)$", address)
        return members_of(self.config.teacher)[int(found[1])] if found else None

    def view(self, address: str) -> View:
        """What is seen of a document where `address` encodes."""
        member = self.member(address)
        if isinstance(member, EmaConfig | DenseConfig):
            return view_of(member.view, self.config)
        return View(self.config.student.max_tokens)

    def encodes_documents(self, address: str) -> bool:
        """Whether the stage does: where queries alone learn, documents keep the base student's vectors."""
        return self.config.student.train == "both" or address.startswith(("0/", "1/"))

    @property
    def training_view(self) -> View:
        """What is seen of a document in training."""
        most = self.config.student.max_tokens
        return View(min(self.config.train.document_tokens or most, most))

    @property
    def candidates(self) -> int:
        """Documents of a training query's list."""
        return min(self.config.mine.keep, self.load.documents.count)

    @property
    def lists(self) -> int:
        """Training queries that get a list."""
        return self.load.train

    @property
    def batch(self) -> tuple[int, int]:
        """Queries of an update, and the distinct documents that their lists bring, about."""
        asked = self.config.train
        queries = min(asked.queries_per_batch, max(self.lists, 1))
        drawn = queries * min(asked.candidates_per_query, self.candidates)
        everything = self.load.documents.count
        distinct = (1 - SHARED) * everything * (1 - (1 - 1 / max(everything, 1)) ** drawn)
        return queries * asked.gradient_accumulation, round(distinct) * asked.gradient_accumulation


def amount_of(address: str, known: Known) -> Amount | None:
    """The amount of the stage at `address`; None for stages too small to count."""
    name = address.split("/")[-1].split(":")[0]
    return AMOUNTS[name](address, known) if name in AMOUNTS else None


def counted(stage: str, counts: Mapping[str, Any]) -> int | None:
    """What a finished stage's `counts` say in the unit of its amount."""
    name = stage.split("/")[-1].split(":")[0]
    if name not in COUNTED:
        return None
    return sum(int(counts.get(one, 0)) for one in COUNTED[name][1])


def _corpus(address: str, known: Known) -> Amount:
    return Amount("documents", known.load.documents.count)


def _tokens(address: str, known: Known) -> Amount:
    load, seen = known.load, known.reader(address)
    tokens = sum(side.total() for side in (seen.documents, seen.queries, seen.masked))
    return Amount("tokens", round(tokens), round(INT32 * tokens) + (OFFSET + DIGEST_BYTES) * load.texts)


def _encode(address: str, known: Known) -> Amount:
    load, texts_of, view = known.load, known.reader(address), known.view(address)
    member = known.member(address)
    dims = dims_of(locate_model(member.model)) if isinstance(member, DenseConfig) else known.student.dims
    measuring = texts_of.masked.first(load.measuring)
    sides = [(texts_of.documents, view), (texts_of.queries, texts_of.query_view), (measuring, view)]
    if address.endswith(":hidden"):
        sides = [(texts_of.masked, view)]
    specials = texts_of.specials
    encoded = sides if known.encodes_documents(address) else sides[1:2]
    tokens = sum(texts.seen(seen, specials) for texts, seen in encoded)
    windows = sum(texts.windows(seen, specials) for texts, seen in sides)
    return Amount("tokens", round(tokens), round((FLOAT32 * dims + DIGEST_BYTES) * windows) + OFFSET * load.texts)


def _index(address: str, known: Known) -> Amount:
    return Amount("vectors", known.load.documents.count)


def _evaluate(address: str, known: Known) -> Amount:
    return Amount("queries", known.load.splits.get(address.split(":")[-1], 0))


def _probe(address: str, known: Known) -> Amount:
    return Amount("queries", known.load.splits.get("dev", 0))


def _mine(address: str, known: Known) -> Amount:
    return Amount("candidates", known.lists * known.candidates)


def _score(address: str, known: Known) -> Amount:
    return Amount("pairs", known.lists * known.candidates * len(members_of(known.config.teacher)))


def _targets(address: str, known: Known) -> Amount:
    return Amount("lists", known.lists)


def _train(address: str, known: Known) -> Amount:
    asked = known.config.train
    control = ":" in address  # it has the updates of all generations
    epochs = known.config.all_epochs if control else asked.epochs_of(int(address.split("/")[0]))
    per_update = min(asked.queries_per_batch, max(known.lists, 1)) * asked.gradient_accumulation
    weights = sum(parameter.numel() for parameter in known.student.model.parameters())
    return Amount("updates", count_updates(known.lists, epochs, per_update), 2 * FLOAT32 * weights)


AMOUNTS: dict[str, Callable[[str, Known], Amount]] = {
    "corpus": _corpus, "tokens": _tokens, "lexical": _corpus, "encode": _encode, "index": _index, "evaluate": _evaluate,
    "probe": _probe, "mine": _mine, "score": _score, "targets": _targets, "train": _train,
}  # fmt: skip
