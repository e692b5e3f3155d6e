"""The teacher's side: its vectors and scores, the probe, the weights, the targets."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.config import DenseConfig, EmaConfig, ScoresConfig, identity_fields, members_of
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.ragged import Array, Ragged
from sdretrieval.run.shared import Shared, Weights, precision_of
from sdretrieval.stages import masks, prepare, probe, search, teach
from sdretrieval.stages.guests import Guest
from sdretrieval.stages.inputs import TextTokens, Vectors
from sdretrieval.store import Work
from sdretrieval.store.run_folder import read_json
from sdretrieval.store.runner import Artifact
from sdretrieval.teachers.ensemble import TeacherScores

logger = logging.getLogger("sdretrieval")


@dataclass
class Teaching(Shared):
    """Adds the teacher to what is shared."""

    _guests: dict[int, Guest] = field(default_factory=dict)

    def teacher_vectors(self, number: int, weights: Weights) -> dict[int, Artifact]:
        """By member position: the vectors of each dense member, and of each EMA member, under its own view."""
        found = {}
        for position, member in enumerate(members_of(self.config.teacher)):
            if isinstance(member, EmaConfig):
                found[position] = self._average_vectors(position, member, number, weights)
            elif isinstance(member, DenseConfig):
                found[position] = self._guest_vectors(position, member)
        return found

    def _average_vectors(self, position: int, member: EmaConfig, number: int, weights: Weights) -> Artifact:
        """An EMA member's vectors. Those of the base, where it teaches throughout, are made in generation 1."""
        if member.mode == "base":
            number, weights = 1, self.base
        address, view = f"{number}/encode:teacher{position}", teach.view_of(member.view, self.config)
        return self.vectors(address, weights.average_key, weights.average, view, self._first_windows(number, weights))

    def _first_windows(self, number: int, weights: Weights) -> list[Path]:
        """Where the average is the student itself, as the base is, a document's first window is encoded already."""
        same = weights.average_key == weights.key
        return [self.student_vectors(f"{number}/encode", weights).path] if same else []

    def _guest_vectors(self, position: int, member: DenseConfig) -> Artifact:
        """A dense member's vectors, from its own tokenizer's tokens: the same in all generations, hence of 0."""
        guest = self._guests.setdefault(
            position, Guest(member, teach.view_of(member.view, self.config), self.config.student.device)
        )
        tokens = self.runner.stage(
            f"0/tokens:teacher{position}", 1, {}, [self.corpus, guest.digest],
            lambda work: prepare.build_tokens(work, self.collected, guest.model()),
            resumable=True,
        )  # fmt: skip
        precision = self.config.student.encode_precision
        measured = self.measured_precision(precision)
        identity = {
            "view": [guest.view.max_tokens, guest.view.windows, guest.view.stride],
            "query_tokens": guest.query_tokens,
            "prompts": guest.prompts_identity(),
            "encode_precision": precision,
        }
        address = f"0/encode:teacher{position}"

        def build(work: Work) -> None:
            search.build_vectors(
                work, guest.model(), TextTokens(tokens), guest.view, member.batch_tokens,
                precision_of(precision, measured, "encode"), address, self.collected.measuring,
            )  # fmt: skip
            guest.unload()

        inputs: list[Artifact | str] = [tokens, guest.digest, *([measured] if measured else [])]
        return self.runner.stage(address, 1, identity, inputs, build, resumable=True)

    def room(self, teacher_vectors: dict[int, Artifact]) -> teach.TeacherRoom:
        """Where the members are made from this generation's artifacts."""
        opened = {position: Vectors(artifact) for position, artifact in teacher_vectors.items()}
        return teach.TeacherRoom(self.config, self.store, self.prepared, self.lexical_index, opened)

    def of_made_queries(self) -> dict[str, Any]:
        """Younger than stores, and of queries made from documents alone: a document without a word of the query is no
        hit of BM25's, whatever else it was."""
        return {} if self.config.corpus.labels else {"lexical_top": "above zero"}

    def takes_scores_from_files(self) -> bool:
        """Whether a member's scores were made elsewhere: only the pairs of its file are known."""
        return any(isinstance(member, ScoresConfig) for member in members_of(self.config.teacher))

    def member_identities(self) -> list[dict[str, Any]]:
        """What decides the members' raw scores."""
        return [teach.member_identity(member, self.config) for member in members_of(self.config.teacher)]

    def score(self, address: str, lists: Artifact, teacher_vectors: dict[int, Artifact]) -> Artifact:
        """Raw scores of every member for every candidate of `lists`."""
        identity: dict[str, Any] = {"members": self.member_identities(), "calibrate": self.config.targets.calibrate}

        def build(work: Work) -> None:
            candidates = search.load_candidates(lists)
            teach.build_scores(work, self.room(teacher_vectors), candidates.query_rows_Q, candidates.rows)

        return self.runner.stage(
            address, 1, identity, [lists, self.lexical, self.judged, *teacher_vectors.values()], build
        )

    @cached_property
    def probe(self) -> Artifact:
        """The configured teachers and their mixtures against the base student, on dev."""
        vectors, index = self._base_searched()
        teacher_vectors = self.teacher_vectors(1, self.base)
        asked = self.config
        identity = {
            "members": self.member_identities(),
            "calibrate": asked.targets.calibrate,
            "depth": asked.evaluate.teacher_depth,
            "lexical": asked.mine.lexical,
            "gate": identity_fields(asked.gate),
            "seed": asked.seed,
            **self.of_made_queries(),
        }

        def build(work: Work) -> None:
            prepared, opened = self.prepared, Vectors(vectors)
            rows = prepared.rows_of("dev")
            lists = self._pool(rows, opened, self.open_index(index))
            student = lists.with_values(_student_scores(lists, opened, rows))
            student = masks.dense_masks(prepared, "dev", opened).correct(rows, lists, student)
            _, scores = teach.scored_with_gaps_written(self.room(teacher_vectors), rows, lists, "dev")
            probe.build_probe(
                work, prepared, rows, lists, scores, student, asked.gate.measure, asked.gate.tolerance, asked.seed
            )

        inputs = [vectors, index, self.lexical, self.judged, *teacher_vectors.values()]
        return self.runner.stage("0/probe", 1, identity, inputs, build)

    def _base_searched(self) -> tuple[Artifact, Artifact]:
        """The base student's vectors and their index."""
        vectors = self.student_vectors("1/encode", self.base)
        return vectors, self.index("1/index", vectors)

    def probe_pool(self) -> tuple[Array, Ragged]:
        """Rows of the dev queries, and the documents of each that the probe asks the teachers about."""
        vectors, index = self._base_searched()
        rows = self.prepared.rows_of("dev")
        return rows, self._pool(rows, Vectors(vectors), self.open_index(index))

    def rerank_pool(self, split: str) -> tuple[Array, Ragged]:
        """Rows of a split's queries, and the base student's top documents, which the teacher reranks in the report."""
        vectors, index = self._base_searched()
        rows, depth = self.prepared.rows_of(split), self.config.evaluate.teacher_depth
        hits = search.dense_hits(self.prepared, split, Vectors(vectors), self.open_index(index), depth)
        return rows, probe.pool_lists(hits.rows_Qk, None, self.prepared.own_documents(rows))

    def _pool(self, rows: Array, vectors: Vectors, index: VectorIndex) -> Ragged:
        depth = self.config.evaluate.teacher_depth
        dense = search.dense_hits(self.prepared, "dev", vectors, index, depth)
        lexical = None
        if self.config.mine.lexical:
            lexical = search.lexical_hits(self.prepared, "dev", self.lexical_index, depth).rows_Qk
        return probe.pool_lists(dense.rows_Qk, lexical, self.prepared.own_documents(rows))

    @property
    def probe_was_made(self) -> bool:
        """Whether the run needed the probe."""
        return "probe" in self.__dict__

    def probe_record(self) -> dict[str, Any]:
        """What the probe found."""
        return dict(json.loads((self.probe.path / "probe.json").read_text(encoding="utf8")))

    def auto_weights(self) -> bool:
        """Whether the probe chooses the members' weights."""
        return self._any_auto() and getattr(self.config.teacher, "weights_by", "dev") == "dev"

    def agreed_weights(self) -> bool:
        """Whether the members' agreement chooses their weights."""
        return self._any_auto() and not self.auto_weights()

    def _any_auto(self) -> bool:
        return any(member.weight == "auto" for member in members_of(self.config.teacher))

    def mine(self, number: int, weights: Weights) -> Artifact:
        """The training queries' lists; `Pipeline` knows how."""
        raise NotImplementedError

    @cached_property
    def agreement(self) -> Artifact:
        """How the members agree on the base student's lists, and the weights that follow: no label is read."""
        lists = self.mine(1, self.base)
        scores = self.score("1/score", lists, self.teacher_vectors(1, self.base))
        return self.runner.stage(
            "0/agreement", 1, {}, [scores],
            lambda work: teach.build_agreement(work, TeacherScores.load(scores.path)),
        )  # fmt: skip

    def weighing(self) -> list[Artifact]:
        """What chose the members' weights, an input of whatever mixes them; nothing where the config gives numbers."""
        if not self._any_auto():
            return []
        return [self.probe] if self.auto_weights() else [self.agreement]

    def not_worth_training(self) -> bool:
        """With `weight: auto`, the probe may find no mixture better than the student: then nothing is trained."""
        if not self.auto_weights():
            return False
        made = self.probe
        if self.runner.planning and not made.path.exists():
            return False
        record = self.probe_record()
        if not record["train"]:
            logger.warning("the probe says do not train: %s", record["reason"])
        return not record["train"]

    def weights(self) -> list[float]:
        """The members' weights; where the config says auto, the probe's or those of their agreement."""
        if self.agreed_weights():
            return teach.chosen_weights(self.config, read_json(self.agreement.path / "agreement.json"))
        return teach.chosen_weights(self.config, self.probe_record() if self.auto_weights() else None)

    def targets(self, address: str, mined: Artifact, scores: Artifact, *, shuffled: bool) -> Artifact:
        """The distributions that teach; `shuffled` is the control."""
        identity: dict[str, Any] = {
            # At their default query weights change nothing: the keys of targets made before there were any stay.
            **identity_fields(self.config.targets, without={"query_weights"}),
            "shuffled": shuffled,
            "seed": self.config.seed,
        }
        live = [n for n, m in enumerate(members_of(self.config.teacher)) if getattr(m, "mode", "") == "live"]
        if live and not shuffled:  # their scores join in training, so these targets leave them out
            identity["live"] = live
        if self.config.targets.query_weights.by != "none":
            identity["query_weights"] = identity_fields(self.config.targets.query_weights)
        if any(getattr(m, "missing", "") == "skip" for m in members_of(self.config.teacher)):
            identity["usual"] = "of known pairs"  # younger than stores
        weighing = self.weighing()
        if not weighing:
            identity["weights"] = self.weights()

        def build(work: Work) -> None:
            candidates = search.load_candidates(mined)
            teach.build_list_targets(
                work, candidates, TeacherScores.load(scores.path), self.weights(), self.config,
                shuffled=shuffled, confirmed=teach.confirmed_negatives(self.prepared.verdicts, candidates),
            )  # fmt: skip

        return self.runner.stage(address, 1, identity, [mined, scores, *weighing], build)


def _student_scores(lists: Ragged, vectors: Vectors, rows: Array) -> Array:
    """The student's own scores of listed documents, flat."""
    out = np.empty(len(lists.values_T), dtype=np.float32)
    for q, row in enumerate(rows):
        span = slice(lists.offsets[q], lists.offsets[q + 1])
        out[span] = np.asarray(vectors.documents.vectors_WD[lists[q]]) @ vectors.queries_QD[row]
    return out
