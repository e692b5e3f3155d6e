"""Seconds and peak memory of each stage: its amount of work, times what a trial on this machine took for a unit.

What costs (encoding, training, reading pairs, exact search, BM25) is measured. Stages of a second or so are set against
one of them, evaluation: what they take of a query, in units of what evaluating one takes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.student import Student, load_student
from sdretrieval.encode.views import View
from sdretrieval.ragged import Array
from sdretrieval.run.config import (
    CrossEncoderConfig,
    DenseConfig,
    EmaConfig,
    identity_fields,
    members_of,
    settings_from,
)
from sdretrieval.run.planner import trials
from sdretrieval.run.planner.amounts import FLOAT32, Amount, Known, amount_of
from sdretrieval.run.planner.speeds import Figures, Speeds, shape
from sdretrieval.run.planner.workload import SAMPLE, Reader, examples
from sdretrieval.run.stages.inputs import student_from
from sdretrieval.run.stages.teach import view_of
from sdretrieval.teachers.cross_encoder import load_cross_encoder
from sdretrieval.training.train import TrainSettings

SMALL = 0.2
"""Seconds of any stage: opening what it reads, digests and the manifest of what it wrote."""
OF_A_QUERY = {"evaluate": 1.0, "fused": 3.0, "teacher": 3.0, "mine": 1.0, "score": 1.0, "probe": 4.0, "targets": 0.05}
"""What a stage takes for a query, measured on three collections, in units of what evaluating it took."""
USUAL_DEPTH = 100
"""Of mining, at which its part of `OF_A_QUERY` was measured."""
STILL_NEW = 0.5
"""Of a later generation's pairs, those that no earlier one read: the lists change, but not all of them."""
START_OF_TRAINING = 2.0
"""Seconds: trainer, accelerate, the first checkpoint."""


class Prediction(NamedTuple):
    """What a stage will take: its amount, seconds, and the most memory that the process will hold."""

    amount: Amount | None
    seconds: float
    peak_bytes: int


@dataclass
class Predictor:
    """Predictions of a config's stages on this machine; trials run when a stage that needs them is first asked for."""

    known: Known
    speeds: Speeds
    precision: dict[str, Precision]
    """Number formats of `encode` and of `train`."""
    batch_tokens: int
    """Of the student's batches, where the config leaves that open."""
    base_bytes: int
    """What the process holds before any stage: Python, the libraries, the student."""

    def of(self, address: str) -> Prediction:
        """The prediction for the stage at `address`."""
        name = address.split("/")[-1].split(":")[0]
        amount = amount_of(address, self.known)
        work = STAGES.get(name)
        seconds, peak = work(self, address, amount or Amount("", 0)) if work else (0.0, 0)
        return Prediction(amount, seconds + SMALL, max(peak, self.resident))

    # --- what trials say

    @cached_property
    def resident(self) -> int:
        """Of the process with its libraries and the student: what every stage holds."""
        return self.base_bytes + int(self.encoding("1/encode")["bytes"])

    def encoding(self, address: str) -> Figures:
        """Of encoding as `address` does it."""
        member, view = self.known.member(address), self.known.view(address)
        guest = member if isinstance(member, DenseConfig) else None
        digest = model_digest(locate_model(guest.model)) if guest else self.known.student.digest
        batch = guest.batch_tokens if guest else self.known.config.student.batch_tokens or self.batch_tokens
        reader = self.known.reader(address)
        mean, precision = shape(_mean(reader, view)), self.precision["encode"]
        work = f"encode windows of about {mean} tokens, batches of {batch or 'the usual'} tokens, {precision}"
        return self.speeds.of(
            work, lambda: trials.encode_trial(self._encoder(guest), _cut(reader, view), batch, precision), digest
        )

    def _encoder(self, guest: DenseConfig | None) -> Student:
        if guest is None:
            return self.known.student
        return load_student(
            guest.model,
            max_tokens=view_of(guest.view, self.known.config).max_tokens,
            query_tokens=guest.query_tokens,
            device=self.known.config.student.device,
            trust_remote_code=guest.trust_remote_code,
        )

    def training(self) -> Figures:
        """Of training as the config asks for it."""
        config, student = self.known.config, self.known.student
        asked = config.train
        view, reader = self.known.training_view, self.known.reader("1/train")
        settings = TrainSettings(freeze=asked.freeze, dropout=asked.dropout, precision=self.precision["train"])
        work = (
            f"train on documents of about {shape(_mean(reader, view))} tokens, frozen "
            f"{', '.join(asked.freeze) or 'nothing'}, dropout {asked.dropout:g}, {settings.precision}"
        )

        def trial() -> Figures:
            queries, documents = self.known.batch
            shown = _fitting(_cut(reader, view), trials.TRAINED_TOKENS)
            sides = examples(self.known.load.queries.sample, max(2, round(queries * len(shown) / max(documents, 1))))
            given = [student.query_view.cut(ids, student.query_specials)[0] for ids in sides]
            own = student_from(locate_model(config.student.model), config)  # training changes it
            return trials.train_trial(own, given, shown, settings)

        return self.speeds.of(work, trial, student.digest)

    def reading(self, position: int) -> Figures:
        """Of a cross-encoder's pairs."""
        member = members_of(self.known.config.teacher)[position]
        assert isinstance(member, CrossEncoderConfig)
        load, view = self.known.load, identity_fields(member.view)
        mean = shape(load.documents.total() / max(load.documents.count, 1))
        digest = model_digest(locate_model(member.model))
        work = f"read pairs with documents of about {mean} tokens, at most {member.max_tokens} at once, {view}"
        count = max(6, trials.READ_TOKENS // max(min(mean, member.max_tokens), 1))

        def trial() -> Figures:
            device = self.known.config.student.device
            model, _ = load_cross_encoder(member.model, max_tokens=member.max_tokens, device=device)
            texts = examples(load.document_texts, count)
            asked = [load.query_texts[i % len(load.query_texts)] for i in range(len(texts))]
            return trials.pair_trial(
                model, list(zip(asked, texts, strict=True)), max_tokens=member.max_tokens,
                windows=member.view.windows, stride=member.view.stride, batch_tokens=member.batch_tokens,
            )  # fmt: skip

        return self.speeds.of(work, trial, digest)

    @property
    def _search(self) -> Figures:
        dims = self.known.student.dims
        return self.speeds.of(f"search vectors of {dims} dims", lambda: trials.search_trial(dims))

    @property
    def _evaluation(self) -> float:
        """Seconds of a query's evaluation."""
        depth = self.known.config.evaluate.depth
        return self.speeds.of(f"evaluate {depth} documents a query", lambda: trials.evaluate_trial(depth))[
            "seconds_per_query"
        ]

    @property
    def lexical(self) -> Figures:
        """Of BM25."""
        load, asked = self.known.load, self.known.config.mine
        texts, queries = examples(load.document_texts, 1000), examples(load.query_texts, 200)
        mean = shape(sum(map(len, texts)) / max(len(texts), 1))
        identifiers = "split" if asked.split_identifiers else "whole"
        return self.speeds.of(
            f"BM25 of about {mean} characters a document, identifiers {identifiers}",
            lambda: trials.lexical_trial(texts, queries, asked.split_identifiers),
        )

    # --- parts of stages

    def searched(self, queries: int) -> float:
        """Seconds of the index's search; exact search is an upper bound for the other kinds."""
        return queries * self.known.load.documents.count * self._search["seconds_per_product"]

    def worded(self, queries: int) -> float:
        """Seconds of BM25's search: it grows with the documents that hold a word."""
        sampled = min(1000, len(self.known.load.document_texts))
        return queries * self.lexical["seconds_per_query"] * max(self.known.load.documents.count / max(sampled, 1), 1)

    def small(self, kind: str, queries: int) -> float:
        """Seconds of what is done for each query, beside searching."""
        return queries * OF_A_QUERY[kind] * self._evaluation

    def read(self, queries: int, depth: int, share: float = 1.0) -> tuple[float, int]:
        """Seconds and peak of the cross-encoders' pairs of lists of `depth`, of which a `share` is new."""
        seconds, peak = 0.0, 0
        for position, member in enumerate(members_of(self.known.config.teacher)):
            if isinstance(member, CrossEncoderConfig):
                found = self.reading(position)
                pairs = queries * min(depth, self.known.load.documents.count) * share
                seconds, peak = (
                    seconds + pairs * found["seconds_per_pair"],
                    max(peak, self.base_bytes + int(found["bytes"])),
                )
        return seconds, peak

    @property
    def index_bytes(self) -> int:
        """Of the opened index."""
        count, dims = max(self.known.load.documents.count, 1), self.known.student.dims
        chosen = settings_from(self.known.config.index).chosen(count, dims).settings
        return round(count * chosen.memory_bytes(count, dims))


def _cut(reader: Reader, view: View) -> list[Array]:
    """Windows of some documents."""
    return [piece for ids in examples(reader.documents.sample, SAMPLE) for piece in view.cut(ids, reader.specials)]


def _mean(reader: Reader, view: View) -> float:
    """Tokens of a document's window."""
    documents, specials = reader.documents, reader.specials
    return documents.seen(view, specials) / max(documents.windows(view, specials), 1) + specials.count


def _fitting(sequences: Sequence[Array], tokens: int) -> list[Array]:
    """So many of them, evenly spread, that they hold about `tokens`."""
    mean = sum(map(len, sequences)) / max(len(sequences), 1)
    return examples(sequences, max(4, round(tokens / max(mean, 1))))


# --- stages: (seconds, peak bytes)

Cost = tuple[float, int]


def _corpus(predictor: Predictor, address: str, amount: Amount) -> Cost:
    return predictor.known.load.read_seconds, 0


def _tokens(predictor: Predictor, address: str, amount: Amount) -> Cost:
    return amount.count * predictor.known.load.seconds_per_token, 0


def _lexical(predictor: Predictor, address: str, amount: Amount) -> Cost:
    return amount.count * predictor.lexical["seconds_per_document"], 0


def _queries(predictor: Predictor, address: str, amount: Amount) -> Cost:
    made = predictor.known.load.made
    return predictor.searched(made) + predictor.worded(made) + predictor.small("mine", made), 0


def _encode(predictor: Predictor, address: str, amount: Amount) -> Cost:
    found, known = predictor.encoding(address), predictor.known
    tokens: float = amount.count
    if address.startswith("1/encode:teacher"):  # the base student is its own average: first windows are there
        view, specials = View(known.config.student.max_tokens), known.student.document_specials
        member, seen = known.member(address), known.view(address)
        if isinstance(member, EmaConfig) and seen.max_tokens == view.max_tokens:
            load = known.load
            tokens = load.documents.seen(seen, specials) - load.documents.seen(view, specials)
    return tokens * found["seconds_per_token"], predictor.base_bytes + int(found["bytes"])


def _refresh(predictor: Predictor, address: str, amount: Amount) -> Cost:
    """As if all were encoded: what moved is known only then."""
    whole = amount_of(address.replace("/refresh", "/encode"), predictor.known)
    assert whole is not None
    return _encode(predictor, address, whole)


def _index(predictor: Predictor, address: str, amount: Amount) -> Cost:
    return 1.0 + predictor.searched(200), predictor.resident + predictor.index_bytes


def _evaluate(predictor: Predictor, address: str, amount: Amount) -> Cost:
    kind = address.split(":")[1] if address.startswith("0/") else "dense"
    if kind == "bm25":
        return predictor.worded(amount.count) + predictor.small("evaluate", amount.count), 0
    if kind.startswith("hybrid"):
        return predictor.small("fused", amount.count), 0
    if kind == "teacher":
        depth = predictor.known.config.evaluate.teacher_depth
        seconds, peak = predictor.read(amount.count, depth)
        return seconds + predictor.searched(2 * amount.count) + predictor.small("teacher", amount.count), peak
    return predictor.searched(amount.count) + predictor.small("evaluate", amount.count), 0


def _probe(predictor: Predictor, address: str, amount: Amount) -> Cost:
    depth = 2 * predictor.known.config.evaluate.teacher_depth
    seconds, peak = predictor.read(amount.count, depth)
    return seconds + predictor.searched(amount.count) + predictor.small("probe", amount.count), peak


def _mine(predictor: Predictor, address: str, amount: Amount) -> Cost:
    queries = predictor.known.lists
    worded = predictor.worded(queries) if predictor.known.config.mine.lexical else 0.0
    deep = predictor.small("mine", queries) * predictor.known.config.mine.depth / USUAL_DEPTH
    return predictor.searched(queries) + worded + deep, predictor.resident + predictor.index_bytes


def _score(predictor: Predictor, address: str, amount: Amount) -> Cost:
    queries, later = predictor.known.lists, not address.startswith("1/")
    seconds, peak = predictor.read(queries, predictor.known.candidates, STILL_NEW if later else 1.0)
    return seconds + predictor.small("score", queries), peak


def _targets(predictor: Predictor, address: str, amount: Amount) -> Cost:
    return predictor.small("targets", predictor.known.lists), 0


def _train(predictor: Predictor, address: str, amount: Amount) -> Cost:
    known, found = predictor.known, predictor.training()
    queries, documents = known.batch
    load, student = known.load, known.student
    shown = documents if known.config.student.train == "both" else 0  # else their vectors are there
    tokens = shown * load.documents.mean_seen(known.training_view, student.document_specials)
    tokens += queries * load.queries.mean_seen(student.query_view, student.query_specials)
    seconds = START_OF_TRAINING + amount.count * (tokens * found["seconds_per_token"] + found["seconds_per_update"])
    held = tokens / known.config.train.gradient_accumulation * found["bytes_per_token"]
    weights = FLOAT32 * sum(parameter.numel() for parameter in student.model.parameters())
    return seconds, round(predictor.base_bytes + found["bytes_fixed"] + held + weights)


STAGES: dict[str, Callable[[Predictor, str, Amount], Cost]] = {
    "corpus": _corpus, "tokens": _tokens, "lexical": _lexical, "queries": _queries, "encode": _encode,
    "refresh": _refresh, "index": _index,
    "evaluate": _evaluate, "probe": _probe, "mine": _mine, "score": _score, "targets": _targets, "train": _train,
}  # fmt: skip
