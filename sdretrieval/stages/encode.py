"""Stage N/encode: vectors of every window of every document under a view, and one of every query.

The student's own vectors (`1/encode`), its average's under a teacher's view (`1/encode:teacher0`), another
bi-encoder's (`0/encode:teacher1`); if the query encoder alone learns, queries beside the base's documents, and if an
adapter does, the base's vectors times its matrix.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdretrieval.config import DenseConfig, settings_from
from sdretrieval.encode.adapter import map_vectors, matrix_of
from sdretrieval.encode.encoder import Embeddings, Precision, encode_texts
from sdretrieval.encode.locate import locate_model, model_digest, require_digest
from sdretrieval.encode.prompts import FoundPrompts, find_prompts
from sdretrieval.encode.reuse import ReusableArtifact
from sdretrieval.encode.student import Student, load_student
from sdretrieval.encode.views import Specials, View
from sdretrieval.indexes.auto import choose
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.coverage import say_coverage
from sdretrieval.stages.precision import number_format
from sdretrieval.stages.run import Run, Weights, prompts_of
from sdretrieval.stages.tokens import Tokens, tokenize_texts
from sdretrieval.store import Reusable, Work
from sdretrieval.store.runner import Artifact

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


@dataclass(frozen=True)
class Vectors(Artifact):
    """Document windows' vectors and one vector for each query."""

    documents_of: Artifact | None = None
    """The artifact whose documents these are, if the query encoder alone learned; None: its own."""
    without_half: Vectors | None = None
    """The same without the lexical half, if it has one."""

    @property
    def plain(self) -> Vectors:
        """The transformer's own vectors."""
        return self.without_half or self

    @cached_property
    def documents(self) -> Embeddings:
        """Memory-mapped."""
        return Embeddings.load(self.path / "documents")

    @cached_property
    def queries_QD(self) -> Array:
        """By query row, in memory."""
        return np.asarray(Embeddings.load(self.path / "queries").vectors_WD)

    @cached_property
    def query_removed(self) -> Embeddings | None:
        """By position in `Collection.query_removed`: those that measure, or all; None if there are none."""
        folder = self.path / "query_removed"
        return Embeddings.load(folder) if folder.exists() else None


def encode_student(
    run: Run, collected: Collection, tokens: Tokens, address: str, weights: Weights, view: View | None = None, *,
    teaches: bool = False, also_from: Sequence[Artifact] = (), maps_base: bool = True,
) -> Vectors:  # fmt: skip
    """All documents' and queries' vectors by a student under a view (None: its own).

    `teaches`: by its moving average, which scores training queries too; so documents are also encoded without the
    queries made from them to train on (`collected` says which of these stay), not only without those that measure.
    If queries alone learn, documents' vectors are the base student's, made in generation 1; if an adapter
    learns, all vectors follow from these (not if `maps_base` is false: of a student with an encoder of its own).
    `also_from`: artifacts that hold some of the same. Raises RequestError, before hours of encoding, if the index does
    not suit so many documents.
    """
    key, folder = (weights.average_key, weights.average) if teaches else (weights.key, weights.student)
    view = view or View(run.config.student.max_tokens)
    if run.learns_adapter_only and maps_base and key != run.base.key:
        base = encode_student(
            run, collected, tokens, f"1/{address.split('/')[1]}", run.base, view, teaches=teaches, also_from=also_from
        )
        return map_student(run, address, key, folder, base)
    precision = number_format(run, "encode")
    documents = None
    if run.learns_queries_only and key != run.base.key:
        first = f"1/{address.split('/')[1]}"
        documents = encode_student(run, collected, tokens, first, run.base, view, teaches=teaches)

    def build(work: Work) -> None:
        student = run.student(folder)
        if address in (
            "1/encode",
            "student_0/encode",
        ):  # the base student is loaded: if all of this is found, it is not
            say_coverage(run, collected, tokens)
        encoding = Encoding(
            work, student, batch_tokens_of(run), precision, address, also_from, run.expected.get(address)
        )
        if documents is None:
            count = len(collected.corpus.documents)
            chosen = choose(settings_from(run.config.index), count, student.dims)
            if run.config.student.lexical_half is None:  # else it is checked with all dims before the run
                chosen.settings.check(student.dims, count, unit=student.unit_length)
            encoding.documents("document", "documents", tokens.documents, view)
        else:
            for side in ("documents", "query_removed"):
                if (documents.path / side).is_dir():
                    _share(documents.path / side, work.folder / side)
            work.counts["document_windows"] = 0
        encoding.queries(tokens.queries)
        if documents is None:
            encoding.query_removed(collected, tokens, view, training=teaches)

    if documents is None:
        identity: dict[str, Any] = {"view": [view.max_tokens, view.windows, view.stride]}
    else:
        identity = {"encoded": "queries"}
    inputs: list[Artifact | str] = [tokens, key, *([documents] if documents else [])]
    if teaches and run.config.corpus.generated_queries:
        inputs.append(collected.filtered)
    made = run.runner.stage(address, 3, identity | student_identity(run), inputs, build, resumable=True)
    return Vectors(made.key, made.path, documents)


def map_student(run: Run, address: str, key: str, folder: Path, base: Vectors) -> Vectors:
    """All vectors of a student that is the base with an adapter, from the base's: no text is read."""

    def build(work: Work) -> None:
        map_DD = matrix_of(run.student(folder).model)
        for side in ("documents", "queries", "query_removed"):
            if (base.path / side).is_dir():
                mapped = map_vectors(base.path / side, work.folder / side, map_DD, f"{address} {side}: map")
                work.counts[f"{side}_mapped"] = mapped

    made = run.runner.stage(address, 3, {"encoded": "mapped"}, [base, key], build)
    return Vectors(made.key, made.path)


def share_documents(run: Run, address: str, queries: Vectors, documents: Vectors) -> Vectors:
    """The query vectors of one student beside the documents that another, of the same dims, has encoded."""

    def build(work: Work) -> None:
        _share(queries.path / "queries", work.folder / "queries")
        for side in ("documents", "query_removed"):
            if (documents.path / side).is_dir():
                _share(documents.path / side, work.folder / side)

    made = run.runner.stage(address, 3, {"encoded": "shared"}, [queries, documents], build)
    return Vectors(made.key, made.path, documents)


def encode_query_removed(run: Run, tokens: Tokens, also_from: Sequence[Artifact] = ()) -> Vectors:
    """Every document without the query that was made from it, those of training queries too, by the base student.

    `also_from`: artifacts that hold some of the same.
    """
    view, precision, address = View(run.config.student.max_tokens), number_format(run, "encode"), "1/encode:hidden"

    def build(work: Work) -> None:
        if tokens.query_removed is not None:
            student = run.student(run.base.student)
            encoding = Encoding(work, student, batch_tokens_of(run), precision, address, also_from)
            encoding.documents("query_removed", "query_removed", tokens.query_removed, view)

    identity = {"encoded": "hidden", "max_tokens": view.max_tokens, **student_identity(run)}
    inputs: list[Artifact | str] = [tokens, run.base.key]
    made = run.runner.stage(address, 2, identity, inputs, build, resumable=True)
    return Vectors(made.key, made.path)


def encode_external(run: Run, collected: Collection, position: int, encoder: ExternalEncoder) -> Vectors:
    """A dense member's vectors, from its own tokenizer's tokens: the same in all generations, hence of 0."""
    tokens = tokenize_texts(run, collected, encoder.digest, encoder.model, f"0/tokens:teacher{position}")
    precision, address = number_format(run, "encode"), f"0/encode:teacher{position}"

    def build(work: Work) -> None:
        encoding = Encoding(
            work, encoder.model(), encoder.member.batch_tokens, precision, address, expected=run.expected.get(address)
        )
        encoding.documents("document", "documents", tokens.documents, encoder.view)
        encoding.queries(tokens.queries)
        encoding.query_removed(collected, tokens, encoder.view, training=True)
        encoder.unload()

    identity = {
        "view": [encoder.view.max_tokens, encoder.view.windows, encoder.view.stride],
        "query_tokens": encoder.query_tokens,
        "prompts": list(astuple(encoder.prompts.prompts)),
        "encode_precision": precision,
    }
    inputs: list[Artifact | str] = [tokens, encoder.digest]
    if run.config.corpus.generated_queries:
        inputs.append(collected.filtered)
    made = run.runner.stage(address, 3, identity, inputs, build, resumable=True)
    return Vectors(made.key, made.path)


def batch_tokens_of(run: Run) -> int | None:
    """Most tokens of the student's batches; None: as many as suit the device."""
    return run.config.student.batch_tokens or run.batch_tokens


def student_identity(run: Run) -> dict[str, Any]:
    """What decides the student's vectors beside its weights, the tokens and the view of documents."""
    cfg = run.config.student
    return {
        "query_tokens": min(cfg.query_tokens or cfg.max_tokens, cfg.max_tokens),
        "prompts": list(astuple(prompts_of(run.config).prompts)),
        "encode_precision": number_format(run, "encode"),
    }


def _share(source: Path, target: Path) -> None:
    """The same files under a second name, which costs no room and outlives the first; copies if disks have none."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for file in source.iterdir():
        try:
            os.link(file, target / file.name)
        except OSError:
            shutil.copy2(file, target / file.name)


@dataclass(frozen=True)
class Encoding:
    """How a student's texts are encoded into folders of `work`, and counted there.

    Rows of texts that an earlier corpus had are copied, and what the artifacts `also_from` hold of the same student.
    """

    work: Work
    student: Student
    batch_tokens: int | None
    precision: Precision
    what: str
    also_from: Sequence[Artifact] = ()
    expected: float | None = None
    """Seconds of a token."""

    def documents(self, kind: str, side: str, texts: Ragged, view: View) -> None:
        """All windows of `texts` under `view`."""
        self._encode(kind, side, texts, view, self.student.document_model, self.student.document_specials)

    def queries(self, texts: Ragged) -> None:
        """One vector a query."""
        student = self.student
        self._encode("query", "queries", texts, student.query_view, student.model, student.query_specials)

    def query_removed(self, collected: Collection, tokens: Tokens, view: View, *, training: bool) -> None:
        """Documents without the query that was made from them, if there are any; see `query_removed_tokens`."""
        if tokens.query_removed is None:
            return
        texts = collected.query_removed_tokens(tokens.query_removed, training=training)
        if len(texts):
            self.documents("query_removed", "query_removed", texts, view)

    def _encode(
        self, kind: str, side: str, texts: Ragged, view: View, model: SentenceTransformer, specials: Specials
    ) -> None:
        work = self.work
        (work.folder / side).mkdir(exist_ok=True)
        reusable = [ReusableArtifact(one.path / side) for one in self.also_from]
        reusable += [ReusableArtifact(one.path / side, one.sound) for one in self._reusable]
        embeddings, reused = encode_texts(
            model, texts, view, specials, work.folder / side, batch_tokens=self.batch_tokens,
            precision=self.precision, description=f"{self.what} {side}", reusable=reusable,
            expected=self.expected,
        )  # fmt: skip
        work.counts[f"{kind}_windows"] = len(embeddings.vectors_WD)
        work.counts[f"{kind}_windows_reused"] = reused
        work.counts[f"{kind}_tokens"] = int(
            sum(b - a for n in texts.lengths.tolist() for a, b in view.spans(n, specials.count))
        )

    @cached_property
    def _reusable(self) -> list[Reusable]:
        return self.work.reusable()


@dataclass
class ExternalEncoder:
    """A dense member's model: known by its digest, loaded when something must be encoded."""

    member: DenseConfig
    view: View
    device: str
    _loaded: Student | None = None

    @cached_property
    def folder(self) -> Path:
        """Where the model is."""
        return locate_model(self.member.model)

    @cached_property
    def digest(self) -> str:
        """Stands for the model in keys."""
        return model_digest(self.folder)

    @property
    def query_tokens(self) -> int:
        """Of a query, never more than a window has."""
        return min(self.member.query_tokens or self.view.max_tokens, self.view.max_tokens)

    @cached_property
    def prompts(self) -> FoundPrompts:
        """The prompts that the config asks for, else the model's own."""
        cfg = self.member.prompts
        return find_prompts(self.folder, self.member.model, cfg.query, cfg.document)

    def model(self) -> Student:
        """Loaded once, with its prompts."""
        if self._loaded is None:
            self._loaded = load_student(
                str(self.folder), max_tokens=self.view.max_tokens, query_tokens=self.query_tokens, device=self.device,
                trust_remote_code=self.member.trust_remote_code, prompts=self.prompts.prompts,
            )  # fmt: skip
            require_digest(self.folder, self.digest)
        return self._loaded

    def unload(self) -> None:
        """Its vectors are made: the model would only cost memory."""
        self._loaded = None
