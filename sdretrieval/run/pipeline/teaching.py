"""The teacher's side: its vectors and scores, the probe, the weights, the targets."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.ragged import Array, Ragged
from sdretrieval.run.artifacts import read_json
from sdretrieval.run.config import identity_fields, members_of
from sdretrieval.run.config.schema import EmaConfig
from sdretrieval.run.pipeline.shared import Shared, Weights
from sdretrieval.run.stages import masks, probe, search, teach
from sdretrieval.run.stages.inputs import Vectors
from sdretrieval.run.stages.runner import Artifact
from sdretrieval.run.store import Work
from sdretrieval.teachers.ensemble import TeacherScores, score_candidates

logger = logging.getLogger("sdretrieval")


@dataclass
class Teaching(Shared):
    """Adds the teacher to what is shared."""

    def ema_vectors(self, number: int, weights: Weights) -> dict[int, Artifact]:
        """By member position: the vectors of each EMA member under its own view."""
        found = {}
        for position, member in enumerate(members_of(self.config.teacher)):
            if isinstance(member, EmaConfig):
                view = teach.view_of(member.view, self.config)
                address = f"{number}/encode:teacher{position}"
                found[position] = self.vectors(address, weights.average_key, weights.average, view)
        return found

    def room(self, ema: dict[int, Artifact]) -> teach.TeacherRoom:
        """Where the members are made from this generation's artifacts."""
        opened = {position: Vectors(artifact) for position, artifact in ema.items()}
        return teach.TeacherRoom(self.config, self.store, self.prepared, self.lexical_index, opened)

    def member_identities(self) -> list[dict[str, Any]]:
        """What decides the members' raw scores."""
        return [teach.member_identity(member, self.config) for member in members_of(self.config.teacher)]

    def score(self, address: str, lists: Artifact, ema: dict[int, Artifact]) -> Artifact:
        """Raw scores of every member for every candidate of `lists`."""
        identity: dict[str, Any] = {"members": self.member_identities(), "calibrate": self.config.targets.calibrate}

        def build(work: Work) -> None:
            candidates = search.load_candidates(lists)
            teach.build_scores(work, self.room(ema), candidates.query_rows_Q, candidates.rows)

        return self.runner.stage(address, 1, identity, [lists, self.lexical, self.judged, *ema.values()], build)

    @cached_property
    def probe(self) -> Artifact:
        """The configured teachers and their mixtures against the base student, on dev."""
        vectors = self.student_vectors("1/encode", self.base)
        index = self.index("1/index", vectors)
        ema = self.ema_vectors(1, self.base)
        asked = self.config
        identity = {
            "members": self.member_identities(),
            "calibrate": asked.targets.calibrate,
            "depth": asked.evaluate.teacher_depth,
            "lexical": asked.mine.lexical,
            "gate": identity_fields(asked.gate),
            "seed": asked.seed,
        }

        def build(work: Work) -> None:
            prepared, opened = self.prepared, Vectors(vectors)
            rows = prepared.rows_of("dev")
            lists = self._pool(rows, opened, self.open_index(index))
            student = lists.with_values(_student_scores(lists, opened, rows))
            student = masks.dense_masks(prepared, "dev", opened).correct(rows, lists, student)
            room = self.room(ema)
            scores = score_candidates(room.teachers("dev"), rows, lists, asked.targets.calibrate)
            probe.build_probe(
                work, prepared, rows, lists, scores, student, asked.gate.measure, asked.gate.tolerance, asked.seed
            )

        inputs = [vectors, index, self.lexical, self.judged, *ema.values()]
        return self.runner.stage("0/probe", 1, identity, inputs, build)

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
        scores = self.score("1/score", lists, self.ema_vectors(1, self.base))
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
