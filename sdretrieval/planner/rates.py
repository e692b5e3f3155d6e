"""What a unit of work takes on this machine, by trials: encoding, training, reading pairs, exact search, BM25.

What takes a second or so is set against one of them, evaluation: what it takes of a query, in units of what evaluating
one takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from sdretrieval.config import (
    CrossEncoderConfig,
    DenseConfig,
    EmaConfig,
    LexicalConfig,
    identity_fields,
    members_of,
    settings_from,
)
from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.student import Student, load_student
from sdretrieval.encode.views import View
from sdretrieval.indexes.auto import choose
from sdretrieval.planner import trials
from sdretrieval.planner.amounts import FLOAT32, Known
from sdretrieval.planner.speeds import Figures, Speeds, shape
from sdretrieval.planner.workload import SAMPLE, Reader, examples
from sdretrieval.ragged import Array
from sdretrieval.stages.inputs import student_from
from sdretrieval.stages.teach import view_of
from sdretrieval.teachers.cross_encoder import load_cross_encoder
from sdretrieval.training.train import TrainSettings

OF_A_QUERY = {"evaluate": 1.0, "fused": 3.0, "teacher": 3.0, "mine": 1.0, "score": 1.0, "probe": 4.0, "targets": 0.05}
"""What a stage takes for a query, measured on three collections, in units of what evaluating it took."""


@dataclass
class Rates:
    """Of a config's work; trials run when a stage that needs them is first asked for."""

    known: Known
    speeds: Speeds
    precision: dict[str, Precision]
    """Number formats of `encode` and of `train`."""
    batch_tokens: int
    """Of the student's batches, where the config leaves that open."""
    base_bytes: int
    """What the process holds before any stage: Python, the libraries, the student."""

    # --- what trials say

    @cached_property
    def resident(self) -> int:
        """Of the process with its libraries and the student: what every stage holds."""
        return self.base_bytes + int(self.encoding("1/encode")["bytes"])

    def encoding(self, address: str, precision: Precision | None = None) -> Figures:
        """Of encoding as `address` does it, or in another precision. `bytes`: with a guest's weights, since the
        process does not hold them else."""
        member, view = self.known.member(address), self.known.view(address)
        guest = member if isinstance(member, DenseConfig) else None
        digest = model_digest(locate_model(guest.model)) if guest else self.known.student.digest
        batch = guest.batch_tokens if guest else self.known.config.student.batch_tokens or self.batch_tokens
        reader = self.known.reader(address)
        mean, precision = shape(_mean(reader, view)), precision or self.precision["encode"]
        work = f"encode windows of about {mean} tokens, batches of {batch or 'the usual'} tokens, {precision}"

        def trial() -> Figures:
            encoder = self._encoder(guest)
            found = trials.encode_trial(encoder, _cut(reader, view), batch, precision)
            return {**found, "bytes": found["bytes"] + (weights_bytes(encoder) if guest else 0)}

        return self.speeds.of(work, trial, digest)

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
            f"BM25 of {len(texts)} documents of about {mean} characters, identifiers {identifiers}",
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

    def own_best(self, queries: int) -> float:
        """Seconds of searching each free teacher's own best documents, by whose scores it is calibrated."""
        known = self.known
        if known.config.targets.calibrate != "zscore":
            return 0.0
        seconds = 0.0
        for position, member in enumerate(members_of(known.config.teacher)):
            if isinstance(member, EmaConfig | DenseConfig):
                reader, view = known.reader(f":teacher{position}"), known.view(f":teacher{position}")
                windows = reader.documents.windows(view, reader.specials) / max(reader.documents.count, 1)
                seconds += self.searched(queries) * windows
            elif isinstance(member, LexicalConfig):
                seconds += self.worded(queries)
        return seconds

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
        chosen = choose(settings_from(self.known.config.index), count, dims).settings
        return round(count * chosen.memory_bytes(count, dims))


def weights_bytes(student: Student) -> int:
    """Of a model's weights in float32."""
    return FLOAT32 * sum(parameter.numel() for parameter in student.model.parameters())


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
