"""Generations: mine, score, targets, train, gate; then the controls and the final measurement.

Only this module knows in which order stages run.
"""

from __future__ import annotations

import json
import logging
import math
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np

from sdretrieval.config import identity_fields, members_of
from sdretrieval.config.schema import EmaConfig, TrainConfig
from sdretrieval.errors import WorkError
from sdretrieval.evaluation.gate import MERGE_SHARES, GateDecision, decide
from sdretrieval.run.measuring import Measuring
from sdretrieval.run.shared import Weights, precision_of
from sdretrieval.stages import learn, search
from sdretrieval.stages.inputs import GENERATED_TRAIN, Vectors
from sdretrieval.stages.queries import require_for_control
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact
from sdretrieval.targets.build import Targets
from sdretrieval.teachers.ensemble import TeacherScores

logger = logging.getLogger("sdretrieval")


@dataclass(frozen=True)
class Generation:
    """What came of a generation."""

    number: int
    decision: Literal["accepted", "merged", "rejected"]
    gate: dict[str, Any]
    weights: Weights
    mined: Artifact
    scores: Artifact
    targets: Artifact


@dataclass(frozen=True)
class Material:
    """What a training learns from: lists, and, where a teacher has a part in it, its targets, scores and vectors."""

    mined: Artifact
    targets: Artifact | None = None
    scores: Artifact | None = None
    teacher_vectors: dict[int, Artifact] = field(default_factory=dict)
    student: Artifact | None = None
    """The student's own vectors, towards which a teacher's are turned (`loss: embedding`)."""
    as_many_updates_as: Artifact | None = None
    """Lists whose number decides the updates, where a control learns from fewer."""

    def artifacts(self) -> list[Artifact]:
        """All of them."""
        others = (self.targets, self.scores, self.student, self.as_many_updates_as)
        return [self.mined, *(a for a in (*others, *self.teacher_vectors.values()) if a)]


@dataclass
class Pipeline(Measuring):
    """A run of `config` over `store`, through `runner`; `systems` and `generations` fill up as it goes."""

    generations: list[Generation] = field(default_factory=list)
    _ended: bool = False
    """Whether the generations after the last would only have repeated it."""

    def run(self) -> None:
        """Everything up to the measured systems. Raises Stopped where the runner was told to stop."""
        self.with_verdicts()  # what a person marked wrongly is refused before any work
        if self.corpus.path.exists():  # the corpus may have been made for a run without the control
            require_for_control(self.config, self.collected.corpus)
        self.measure_base()
        student, first = self.base, None
        for generation in range(1, self.config.generations + 1):
            if self.not_worth_training() or self._would_repeat(generation):
                break
            lists = self.mine(generation, student)
            taught = self.teach(generation, student, lists)
            candidate = self.train(generation, student, taught)
            student = self.gate(generation, student, candidate, taught)
            first = first or lists
        if first is not None:
            self.measure_controls(first)
        self.measure_final(student)

    def _would_repeat(self, number: int) -> bool:
        """Whether the last generation was refused and this one would train the same student from the same lists."""
        last, epochs = self.generations[-1] if self.generations else None, self.config.train.epochs_of
        if last is None or last.decision != "rejected" or epochs(number) != epochs(last.number):
            return False
        self._ended = True
        logger.info("generation %d is not run: it would train what was refused in generation %d", number, last.number)
        return True

    def measure_final(self, weights: Weights) -> None:
        """What was accepted, alone and beside BM25; from here on `systems` stand in the report's order."""
        super().measure_final(weights)
        self.systems.sort(key=lambda system: _place(system.name))

    def mine(self, number: int, weights: Weights) -> Artifact:
        """The training queries' lists, from the index of the student as it stands."""
        vectors = self.student_vectors(f"{number}/encode", weights)
        index = self.index(f"{number}/index", vectors)
        use_labels = self.config.corpus.labels
        identity = {**self._mine_fields(), "labels": use_labels, "seed": self.config.seed}
        mined = self.runner.stage(
            f"{number}/mine", 1, identity, self.with_verdicts(vectors, index, self.lexical, self.judged),
            lambda work: search.build_candidates(
                work, self.prepared.train_rows, self.prepared, Vectors(vectors), self.open_index(index),
                self.lexical_index if self.config.mine.lexical else None, self.config, use_labels=use_labels,
            ),
        )  # fmt: skip
        self._require_lists(f"{number}/mine", mined)
        return mined

    def _mine_fields(self) -> dict[str, Any]:
        """The language is in the key of the BM25 index, an input: keys of before there was a choice stay."""
        return identity_fields(self.config.mine, without={"language"})

    def _require_lists(self, address: str, mined: Artifact) -> None:
        """Raise WorkError where mining left no list: targets and updates would be shares of nothing."""
        if not self.runner.planning and not len(search.load_candidates(mined)):
            raise WorkError(
                f"{address}: no query has a list of 2 documents or more, the least that can teach an order (the corpus "
                f"has {len(self.prepared.corpus.documents)} documents), so there is nothing to learn; give a larger "
                "corpus (--set corpus.max_documents=null keeps all of it), or more training queries "
                "(--set corpus.generated_queries=1000)"
            )

    def teach(self, number: int, student: Weights, mined: Artifact) -> Material:
        """Stages score and targets: what the teachers say of the lists, and the distributions that teach."""
        teacher_vectors = self.teacher_vectors(number, student)
        scores = self.score(f"{number}/score", mined, teacher_vectors)
        targets = self.targets(f"{number}/targets", mined, scores, shuffled=False)
        return Material(mined, targets, scores, teacher_vectors, self._turned_to(number, student))

    def _turned_to(self, number: int, student: Weights) -> Artifact | None:
        """The student's vectors, where the loss regresses on a teacher's."""
        embedding = self.config.train.loss == "embedding"
        return self.student_vectors(f"{number}/encode", student) if embedding else None

    def train(self, number: int, student: Weights, taught: Material) -> Weights:
        """The candidate: `student` trained on what was taught, and measured before the gate."""
        trained = self._train(f"{number}/train", student, taught, "teacher", self.config.train.epochs_of(number))
        new = Weights(trained.key, trained.path / "student", trained.path / "average")
        vectors = self.student_vectors(f"{number + 1}/encode", new)
        text = f"after generation {number}, before the gate"
        self.add_dense(f"generation_{number}", text, new, vectors, number + 1)
        return new

    def _train(self, address: str, start: Weights, material: Material, lesson: learn.Lesson, epochs: float) -> Artifact:
        asked = self.config.train
        # A setting of one loss is in that loss's key alone: other trainings do not depend on it. What is younger than
        # stores is in keys where it is asked for.
        idle = {name for name, used in _used(asked).items() if not used}
        identity = {
            **identity_fields(asked, without=idle),
            "epochs": epochs,
            "lesson": lesson,
            "student": [self.config.student.max_tokens, self.config.student.query_tokens, self._prompts()],
            "seed": self.config.seed,
        }
        if lesson == "hard":  # the teacher has no part in it: a run with another teacher finds the same control
            others = ("scope", "hard_label_weight", "margin_scale")
            identity = {name: value for name, value in identity.items() if name not in others} | {"loss": "listwise_kl"}
        else:
            members = members_of(self.config.teacher)
            identity["averages"] = _averages([m for m in members if isinstance(m, EmaConfig)])
        if self.config.train.early_stop is not None:
            identity["gate"] = self.config.gate.measure
        if self.query_side:
            identity["learns"] = "query"
        kept = self.kept_documents()
        precision = self.measured_precision(self.config.train.precision)

        def build(work: Work) -> None:
            room = self._classroom(start, material, lesson, epochs, precision)
            room.kept = learn.KeptVectors(*map(Vectors, kept)) if kept else None
            learn.build_student(work, room)

        inputs: list[Artifact | str] = [start.key, self.tokens, self.judged, *material.artifacts(), *kept]
        inputs += [precision] if precision else []
        return self.runner.stage(address, 3, identity, inputs, build, resumable=True)

    def _classroom(
        self, start: Weights, material: Material, lesson: learn.Lesson, epochs: float, precision: Artifact | None
    ) -> learn.Classroom:
        candidates = search.load_candidates(material.mined)
        as_many = search.load_candidates(material.as_many_updates_as or material.mined)
        taught = material.targets is not None and material.scores is not None
        return learn.Classroom(
            config=self.config,
            prepared=self.prepared,
            tokens=self.text_tokens,
            candidates=candidates,
            targets=Targets.load(material.targets.path) if material.targets else learn.no_targets(candidates),
            scores=TeacherScores.load(material.scores.path) if material.scores else None,
            weights=self.weights() if taught else [],
            make_teachers=lambda: self.room(material.teacher_vectors).teachers(),
            student_vectors=Vectors(material.student) if material.student else None,
            start=start.student,
            snapshot=start.average,
            lesson=lesson,
            epochs=epochs * len(as_many) / len(candidates),
            precision=precision_of(self.config.train.precision, precision, "train"),
        )

    def gate(self, number: int, old: Weights, new: Weights, material: Material) -> Weights:
        """The student to go on with: the candidate `new`, its mixture with `old`, or `old`, as dev decides."""
        before, after = self.dev_measured(f"{number}", old), self.dev_measured(f"{number + 1}", new)
        identity = {**identity_fields(self.config.gate), "seed": self.config.seed}

        def build(work: Work) -> None:
            decision = self._decide(before, after)
            (work.folder / "gate.json").write_text(json.dumps(_record(decision)) + "\n", encoding="utf8")
            work.counts.update(accepted=decision.accepted, difference=decision.difference)

        made = self.runner.stage(f"{number}/gate", 1, identity, [before, after], build)
        if self.runner.planning and not made.path.exists():
            return new
        gate = json.loads((made.path / "gate.json").read_text(encoding="utf8"))
        if gate["accepted"]:
            return self._close(number, "accepted", gate, new, material)
        return self._try_merges(number, old, new, before, gate, material)

    def _decide(self, before: Artifact, after: Artifact, of: int = 1) -> GateDecision:
        """`of`: how many candidates dev has chosen among."""
        measure = self.config.gate.measure
        base, candidate = search.read_measured(before).of(measure), search.read_measured(after).of(measure)
        return decide(base, candidate, self.config.gate.tolerance, self.config.seed, of=of)

    def _try_merges(
        self, number: int, old: Weights, new: Weights, before: Artifact, gate: dict[str, Any], material: Material,
    ) -> Weights:  # fmt: skip
        for share in MERGE_SHARES:
            merged = self._merged(number, old, new, share)
            dev = self.dev_measured(f"{number}m{share}", merged)
            if not dev.path.exists():  # planning: as if it were taken
                return merged
            decision = self._decide(before, dev, of=len(MERGE_SHARES))
            if decision.accepted:
                record = {**_record(decision), "share": share, "unmerged": gate}
                return self._close(number, "merged", record, merged, material)
        return self._close(number, "rejected", gate, old, material)

    def _merged(self, number: int, old: Weights, new: Weights, share: float) -> Weights:
        made = self.runner.stage(
            f"{number}/merge:{share}", 1, {"share": share}, [old.key, new.key],
            partial(learn.build_merge, config=self.config, old=old.student, new=new.student, share=share),
        )  # fmt: skip
        return Weights(made.key, made.path / "student", made.path / "average")

    def _close(
        self, number: int, decision: Literal["accepted", "merged", "rejected"], gate: dict[str, Any], weights: Weights,
        material: Material,
    ) -> Weights:  # fmt: skip
        logger.info("generation %d: %s", number, gate["reason"])
        assert material.scores is not None and material.targets is not None  # a generation has a teacher
        self.generations.append(
            Generation(number, decision, gate, weights, material.mined, material.scores, material.targets)
        )
        return weights

    def measure_controls(self, mined: Artifact) -> None:
        """Train and measure the controls that the config asks for, on the first generation's lists."""
        for control in self.config.evaluate.controls:
            self.control(control, mined)

    def control(self, control: str, mined: Artifact) -> None:
        """As many updates as the final student has had, from the base, on the first generation's lists."""
        hard = control == "hard_labels"
        material = self._hard_material(mined) if hard else self._shuffled_material(mined)
        epochs = self._epochs_of_final()
        trained = self._train(f"1/train:{control}", self.base, material, "hard" if hard else "shuffled", epochs)
        weights = Weights(trained.key, trained.path / "student", trained.path / "average")
        text = "equal updates on known positives, no teacher" if hard else "equal updates, teacher shuffled"
        self.add_dense(control, text, weights, self.student_vectors(f"{control}/encode", weights), control)

    def _epochs_of_final(self) -> float:
        """Of all generations that were not refused; of the first, where all were; of all, while none was run."""
        kept = [one.number for one in self.generations if one.decision != "rejected"]
        unknown = self.runner.planning and not self._ended and len(self.generations) < self.config.generations
        if unknown or not self.generations or len(kept) == self.config.generations:
            return self.config.all_epochs
        epochs_of = self.config.train.epochs_of
        return sum(epochs_of(number) for number in kept) or epochs_of(1)

    def _hard_material(self, mined: Artifact) -> Material:
        if self.config.corpus.labels:
            return Material(mined)
        return Material(self._labelled(), as_many_updates_as=mined)

    def _shuffled_material(self, mined: Artifact) -> Material:
        teacher_vectors = self.teacher_vectors(1, self.base)
        scores = self.score("1/score", mined, teacher_vectors)
        targets = self.targets("1/targets:shuffled", mined, scores, shuffled=True)
        return Material(mined, targets, scores, teacher_vectors, self._turned_to(1, self.base))

    def _labelled(self) -> Artifact:
        """Lists for the hard-label control of a run without labels: the control alone reads the train judgements."""
        vectors = self.student_vectors("1/encode", self.base)
        index = self.index("1/index", vectors)
        identity = {**self._mine_fields(), "labels": True, "seed": self.config.seed}

        def build(work: Work) -> None:
            prepared = self.prepared
            judged = {**prepared.corpus.qrels.get(GENERATED_TRAIN, {}), **prepared.corpus.qrels.get("train", {})}
            rows = np.asarray(
                [r for r in prepared.train_rows if prepared.corpus.query_ids[r] in judged], dtype=np.int64
            )
            search.build_candidates(
                work, rows, prepared, Vectors(vectors), self.open_index(index),
                self.lexical_index if self.config.mine.lexical else None, self.config, use_labels=True,
            )  # fmt: skip

        inputs = self.with_verdicts(vectors, index, self.lexical, self.judged)
        mined = self.runner.stage("1/mine:labelled", 1, identity, inputs, build)
        self._require_lists("1/mine:labelled", mined)
        return mined


def _used(asked: TrainConfig) -> dict[str, bool]:
    """Whether a setting has a part in a training."""
    return {
        "margin_scale": asked.loss == "margin_mse",
        "later_epochs": False,  # a generation's own number stands under `epochs`
    }


def _averages(members: list[EmaConfig]) -> list[list[str | float]]:
    """What decides the average that a training keeps. The base, where it alone teaches, leaves it as it usually is."""
    moving: list[list[str | float]] = [[m.mode, m.half_life] for m in members if m.mode != "base"]
    usual: list[list[str | float]] = [["frozen", learn.HALF_LIFE]] if members else []
    return moving or usual


def _place(name: str) -> tuple[int, int]:
    order = ("bm25", "student_0", "hybrid_0", "teacher@student_0", "hard_labels", "shuffled_teacher")
    late = {"final": 8, "hybrid_final": 9}
    number = int(name.removeprefix("generation_")) if name.startswith("generation_") else 0
    return (order.index(name) if name in order else late.get(name, 7), number)


def _record(decision: GateDecision) -> dict[str, Any]:
    return {
        "accepted": decision.accepted,
        "proven": decision.proven,
        "difference": decision.difference,
        "interval90": list(decision.interval90),
        "p": decision.p,
        "n": decision.n,
        "detectable": decision.detectable if math.isfinite(decision.detectable) else None,  # JSON knows no infinity
        "reason": decision.reason,
    }
