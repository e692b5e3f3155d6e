"""What all generations share: the base student, corpus, tokens, BM25, and vectors with their index.

Everything a stage needs is opened inside its build function, so that the same code plans without running.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from sdretrieval.config import Config, identity_fields, settings_from
from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.student import Student
from sdretrieval.encode.views import View
from sdretrieval.indexes.auto import choose
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.stages import learn, prepare, queries, search
from sdretrieval.stages.inputs import Prepared, TextTokens, Vectors, prompts_of, student_from
from sdretrieval.stages.machine import machine_name
from sdretrieval.store import Store, Work
from sdretrieval.store.runner import Artifact, Runner


@dataclass(frozen=True)
class Weights:
    """A student's weights: what stands for them in keys, and the folders of the student and of its moving average."""

    key: str
    student: Path
    average: Path

    @property
    def average_key(self) -> str:
        """Stands for the average in keys; the base student is its own average."""
        return self.key if self.average == self.student else f"{self.key}:average"


def precision_of(asked: str, measured: Artifact | None, task: Literal["train", "encode"]) -> Precision:
    """The format that `asked` means for `task`: `measured` says it where that is auto."""
    chosen = asked
    if measured is not None:
        chosen = json.loads((measured.path / "precision.json").read_text(encoding="utf8"))[task]
    return "bfloat16" if chosen == "bfloat16" else "float32"


@dataclass
class Shared:
    """Roots of a run: each artifact is made, or found, when it is first asked for."""

    config: Config
    store: Store
    runner: Runner
    batch_tokens: int | None = None
    """Of the student's batches where the config leaves that open; None takes what suits its kind of device."""
    _loaded: tuple[Path, Student] | None = None
    _base_vectors: dict[View, Artifact] = field(default_factory=dict)

    @cached_property
    def base(self) -> Weights:
        """The student before training."""
        folder = locate_model(self.config.student.model)
        return Weights(model_digest(folder), folder, folder)

    @cached_property
    def corpus(self) -> Artifact:
        """Documents, queries and splits."""
        asked = self.config.corpus
        # Verdicts touch training alone, so they are in the keys of what trains: see `with_verdicts`.
        elsewhere = {"source", "generate", "unjudged_queries", "train_queries", "verdicts"}
        identity = {**identity_fields(asked, without=elsewhere), "seed": self.config.seed}
        identity["split"] = self.config.evaluate.split
        for name in ("unjudged_queries", "train_queries"):  # younger than stores: where not asked for, no part of a key
            if getattr(asked, name):
                identity[name] = getattr(asked, name)
        if queries.generates(self.config):  # a corpus without generated queries is the same whatever their recipe
            identity["generate"] = self._recipe()
        return self.runner.stage(
            "0/corpus", 1, identity, [prepare.source_digest(self.config.corpus.source)],
            lambda work: prepare.build_corpus(work, self.config),
        )  # fmt: skip

    def _recipe(self) -> dict[str, Any]:
        asked = self.config.corpus.generate
        recipe = {**identity_fields(asked, without={"within", "model", "prompt"}), "version": 2}
        if asked.model is not None and asked.written > 0:
            recipe |= {"model": model_digest(locate_model(asked.model)), "prompt": asked.prompt}
        return recipe

    @cached_property
    def collected(self) -> Prepared:
        """The corpus artifact, opened: with all the queries that were made from documents."""
        return Prepared(self.corpus)

    @cached_property
    def judged(self) -> Artifact:
        """What learns and measures: the corpus, or, where queries were made from its documents, those that are kept."""
        if not queries.generates(self.config):
            return self.corpus
        within = self.config.corpus.generate.within
        vectors = self.student_vectors("1/encode", self.base)
        return self.runner.stage(
            "0/queries", 1, {"within": within}, [self.corpus, vectors, self.lexical],
            lambda work: queries.build_queries(work, self.collected, Vectors(vectors), self.lexical_index, within),
        )  # fmt: skip

    @cached_property
    def verdicts(self) -> Artifact | None:
        """What a person said of training pairs, where the config names a file."""
        if self.config.corpus.verdicts is None:
            return None
        path = Path(self.config.corpus.verdicts).expanduser()
        return self.runner.stage(
            "0/verdicts", 1, {}, [self.judged, prepare.verdicts_digest(path)],
            lambda work: prepare.build_verdicts(work, Prepared(self.corpus, self._kept), path),
        )  # fmt: skip

    def with_verdicts(self, *inputs: Artifact) -> list[Artifact]:
        """Inputs of a stage that reads known positives."""
        return [*inputs, *([self.verdicts] if self.verdicts else [])]

    @cached_property
    def prepared(self) -> Prepared:
        """The corpus as it learns and measures, opened."""
        return Prepared(self.corpus, self._kept, self.verdicts)

    @property
    def _kept(self) -> Artifact | None:
        return None if self.judged is self.corpus else self.judged

    @cached_property
    def tokens(self) -> Artifact:
        """Token ids of all texts."""
        return self.runner.stage(
            "0/tokens", 1, {}, [self.corpus, self.base.key],
            lambda work: prepare.build_tokens(work, self.collected, self.student(self.base.student)),
            resumable=True,
        )  # fmt: skip

    @cached_property
    def text_tokens(self) -> TextTokens:
        """The tokens artifact, opened."""
        return TextTokens(self.tokens)

    @cached_property
    def lexical(self) -> Artifact:
        """The BM25 index."""
        asked = self.config.mine
        identity = {"split_identifiers": asked.split_identifiers, "language": asked.language}
        return self.runner.stage(
            "0/lexical", 2, identity, [self.corpus],
            lambda work: prepare.build_lexical(work, self.collected, asked.split_identifiers, asked.language),
        )  # fmt: skip

    @cached_property
    def lexical_index(self) -> LexicalIndex:
        """The BM25 index, opened."""
        return LexicalIndex.load(self.lexical.path)

    def student(self, folder: Path) -> Student:
        """A student; the one used last stays loaded, an earlier one would only cost memory."""
        if self._loaded is None or self._loaded[0] != folder:
            self._loaded = (folder, student_from(folder, self.config))
        return self._loaded[1]

    def _prompts(self) -> list[Any]:
        """The config's prompts; those of the model's files stand in its digest. What was found elsewhere is added."""
        found = prompts_of(self.config)
        beyond = [[found.prompts.query, found.prompts.document]] if found.prompts != found.plain else []
        return [identity_fields(self.config.student.prompts), *beyond]

    def measured_precision(self, asked: str) -> Artifact | None:
        """Where `asked` is auto: the faster formats, measured once per store, machine and model; an input of keys."""
        if asked != "auto":
            return None
        return self.runner.stage(
            "0/precision", 2, {"machine": machine_name(self.config.student.device)}, [self.base.key],
            lambda work: learn.build_precision(work, self.config, self.base.student),
        )  # fmt: skip

    # --- vectors, index, candidates

    def encoding_identity(self, view: View) -> dict[str, Any]:
        """What decides a student's vectors beside its weights and the tokens."""
        return {"view": [view.max_tokens, view.windows, view.stride], **self._encoding()}

    def vectors(
        self, address: str, weights_key: str, folder: Path, view: View, also_from: Sequence[Path] = ()
    ) -> Artifact:
        """All documents' and queries' vectors under a view; where only queries learn, the base student's documents'.

        `also_from`: artifacts that hold some of the same.
        """
        if self.query_side and weights_key != self.base.key:
            return self._query_vectors(address, weights_key, folder, view)
        asked, identity = self.config.student, self.encoding_identity(view)
        measured = self.measured_precision(asked.encode_precision)

        def build(work: Work) -> None:
            student = self.student(folder)
            self._check_index(student.dims)
            search.build_vectors(
                work, student, self.text_tokens, view, asked.batch_tokens or self.batch_tokens,
                precision_of(asked.encode_precision, measured, "encode"), address, self.collected.measuring, also_from,
            )  # fmt: skip

        inputs: list[Artifact | str] = [self.tokens, weights_key, *([measured] if measured else [])]
        return self.runner.stage(address, 1, identity, inputs, build, resumable=True)

    def _encoding(self) -> dict[str, Any]:
        """Identity of vectors beside the view of documents."""
        asked = self.config.student
        return {
            "query_tokens": min(asked.query_tokens or asked.max_tokens, asked.max_tokens),
            "prompts": self._prompts(),
            "encode_precision": asked.encode_precision,
        }

    @property
    def query_side(self) -> bool:
        """Whether the query encoder alone learns, so that documents keep the base student's vectors and index."""
        return self.config.student.train == "query"

    def _base_side(self, address: str, view: View) -> Artifact:
        """The base student's vectors under a view, at generation 1's address of the same name; asked for once."""
        if view not in self._base_vectors:
            address = f"1/{address.split('/')[1]}"
            self._base_vectors[view] = self.vectors(address, self.base.key, self.base.student, view)
        return self._base_vectors[view]

    def _query_vectors(self, address: str, weights_key: str, folder: Path, view: View) -> Artifact:
        documents, asked = self._base_side(address, view), self.config.student
        measured = self.measured_precision(asked.encode_precision)

        def build(work: Work) -> None:
            search.build_query_vectors(
                work, self.student(folder), self.text_tokens, documents.path, asked.batch_tokens or self.batch_tokens,
                precision_of(asked.encode_precision, measured, "encode"), address,
            )  # fmt: skip

        inputs: list[Artifact | str] = [self.tokens, weights_key, documents, *([measured] if measured else [])]
        identity = {"encoded": "queries", **self._encoding()}
        return self.runner.stage(address, 1, identity, inputs, build, resumable=True)

    def kept_documents(self) -> list[Artifact]:
        """Where only queries learn: the vectors that training takes for documents, and, where queries are made from
        documents, those of documents without them."""
        if not self.query_side:
            return []
        kept = [self._base_side("1/encode", View(self.config.student.max_tokens))]
        asked = self.config.corpus
        return [*kept, self._hidden()] if asked.generated_queries and asked.generate.masked else kept

    def _hidden(self) -> Artifact:
        asked, view, address = self.config.student, View(self.config.student.max_tokens), "1/encode:hidden"
        measured = self.measured_precision(asked.encode_precision)

        def build(work: Work) -> None:
            search.build_hidden(
                work, self.student(self.base.student), self.text_tokens, view, asked.batch_tokens or self.batch_tokens,
                precision_of(asked.encode_precision, measured, "encode"), address,
            )  # fmt: skip

        inputs: list[Artifact | str] = [self.tokens, self.base.key, *([measured] if measured else [])]
        identity = {"encoded": "hidden", "max_tokens": view.max_tokens, **self._encoding()}
        return self.runner.stage(address, 1, identity, inputs, build, resumable=True)

    def _check_index(self, dims: int) -> None:
        """Raise RequestError, before hours of encoding, where the index asked for does not suit so many documents."""
        count = len(self.collected.corpus.documents)
        choose(settings_from(self.config.index), count, dims).settings.check(dims, count)

    def student_vectors(self, address: str, weights: Weights, also_from: Sequence[Path] = ()) -> Artifact:
        """The vectors under the student's own view."""
        return self.vectors(address, weights.key, weights.student, View(self.config.student.max_tokens), also_from)

    def index(self, address: str, vectors: Artifact) -> Artifact:
        """The FAISS index of some vectors; where only queries learn, there is one, the base student's."""
        if self.query_side:
            vectors = self._base_side("1/encode", View(self.config.student.max_tokens))
        identity = {**identity_fields(self.config.index), "seed": self.config.seed}
        return self.runner.stage(
            address, 1, identity, [vectors, self.judged],
            lambda work: search.build_index(work, Vectors(vectors), self.prepared, self.config),
        )  # fmt: skip

    def open_index(self, index: Artifact) -> VectorIndex:
        """A FAISS index on the device that the config names."""
        return VectorIndex.load(index.path, self.config.index.device)
