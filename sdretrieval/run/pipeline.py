"""Generations: encode, index, mine, score, targets, train, evaluate, gate; then the controls, the test, the report.

Only this module knows in which order stages run and what they hand to each other. Everything a stage needs is opened
inside its build function, so that the same code plans without running.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.student import Student
from sdretrieval.encode.views import View
from sdretrieval.evaluation import fuse, read_trec
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.ragged import Ragged
from sdretrieval.run.config import Config, identity_fields, members_of
from sdretrieval.run.config.schema import EmaConfig
from sdretrieval.run.gate import MERGE_SHARES, GateDecision, choose_merge, decide
from sdretrieval.run.stages import learn, prepare, probe, search, teach
from sdretrieval.run.stages.inputs import Prepared, TextTokens, Vectors, student_from
from sdretrieval.run.stages.runner import Artifact, Runner
from sdretrieval.run.store import Store, Work
from sdretrieval.targets.build import Targets
from sdretrieval.teachers.ensemble import TeacherScores

logger = logging.getLogger("sdretrieval")


@dataclass(frozen=True)
class Weights:
    """A student's weights: what stands for them in keys, and the folders of the student and of its moving average."""

    key: str
    student: Path
    average: Path


@dataclass(frozen=True)
class System:
    """One system of the report: its runs' artifacts by split."""

    name: str
    description: str
    runs: dict[str, Artifact]


@dataclass(frozen=True)
class Generation:
    """What came of a generation."""

    number: int
    decision: Literal["accepted", "merged", "rejected"]
    gate: dict[str, Any]
    weights: Weights
    mined: Artifact
    targets: Artifact


@dataclass
class Pipeline:
    """A run of `config` over `store`, through `runner`; `results` fills up as it goes."""

    config: Config
    store: Store
    runner: Runner
    systems: list[System] = field(default_factory=list)
    generations: list[Generation] = field(default_factory=list)
    _loaded: tuple[Path, Student] | None = None

    # --- roots and what all generations share

    def run(self) -> None:
        """Everything up to the measured systems. Raises Stopped where the runner was told to stop."""
        base = self.base
        self._measure_base()
        weights = base
        first: Artifact | None = None
        for number in range(1, self.config.generations + 1):
            if self._not_worth_training():
                break
            mined = self._mine(number, weights)
            first = first or mined
            weights = self._generation(number, weights, mined)
        for control in self.config.evaluate.controls:
            if first is not None and self.generations:
                self._control(control, first)
        self._measure_final(weights)

    @cached_property
    def base(self) -> Weights:
        """The student before training."""
        folder = locate_model(self.config.student.model)
        return Weights(model_digest(folder), folder, folder)

    @cached_property
    def corpus(self) -> Artifact:
        """Documents, queries and splits."""
        identity = {**identity_fields(self.config.corpus, without={"source"}), "seed": self.config.seed}
        identity["split"] = self.config.evaluate.split
        return self.runner.stage(
            "0/corpus", 1, identity, [prepare.source_digest(self.config.corpus.source)],
            lambda work: prepare.build_corpus(work, self.config),
        )  # fmt: skip

    @cached_property
    def prepared(self) -> Prepared:
        """The corpus artifact, opened."""
        return Prepared(self.corpus)

    @cached_property
    def tokens(self) -> Artifact:
        """Token ids of all texts."""
        return self.runner.stage(
            "0/tokens", 1, {}, [self.corpus, self.base.key],
            lambda work: prepare.build_tokens(work, self.prepared, self.student(self.base.student)),
        )  # fmt: skip

    @cached_property
    def text_tokens(self) -> TextTokens:
        """The tokens artifact, opened."""
        return TextTokens(self.tokens)

    @cached_property
    def lexical(self) -> Artifact:
        """The BM25 index."""
        split = self.config.mine.split_identifiers
        return self.runner.stage(
            "0/lexical", 1, {"split_identifiers": split}, [self.corpus],
            lambda work: prepare.build_lexical(work, self.prepared, split),
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
        return [identity_fields(self.config.student.prompts)]

    # --- vectors, index, candidates

    def vectors(self, address: str, weights_key: str, folder: Path, view: View) -> Artifact:
        """All documents' and queries' vectors under a view."""
        asked = self.config.student
        identity = {
            "view": [view.max_tokens, view.windows, view.stride],
            "query_tokens": asked.query_tokens,
            "prompts": self._prompts(),
        }
        return self.runner.stage(
            address, 1, identity, [self.tokens, weights_key],
            lambda work: search.build_vectors(
                work, self.student(folder), self.text_tokens, view, asked.batch_tokens, address
            ),
            resumable=True,
        )  # fmt: skip

    def student_vectors(self, address: str, weights: Weights) -> Artifact:
        """The vectors under the student's own view."""
        return self.vectors(address, weights.key, weights.student, View(self.config.student.max_tokens))

    def index(self, address: str, vectors: Artifact) -> Artifact:
        """The FAISS index of some vectors."""
        identity = {**identity_fields(self.config.index), "seed": self.config.seed}
        return self.runner.stage(
            address, 1, identity, [vectors, self.corpus],
            lambda work: search.build_index(work, Vectors(vectors), self.prepared, self.config),
        )  # fmt: skip

    def open_index(self, index: Artifact) -> VectorIndex:
        """A FAISS index on the device that the config names."""
        return VectorIndex.load(index.path, self.config.index.device)

    def _mine(self, number: int, weights: Weights) -> Artifact:
        vectors = self.student_vectors(f"{number}/encode", weights)
        index = self.index(f"{number}/index", vectors)
        use_labels = self._lists_hold_positives()
        identity = {**identity_fields(self.config.mine), "labels": use_labels, "seed": self.config.seed}
        return self.runner.stage(
            f"{number}/mine", 1, identity, [vectors, index, self.lexical, self.corpus],
            lambda work: search.build_candidates(
                work, self.prepared.train_rows, self.prepared, Vectors(vectors), self.open_index(index),
                self.lexical_index if self.config.mine.lexical else None, self.config, use_labels=use_labels,
            ),
        )  # fmt: skip

    def _lists_hold_positives(self) -> bool:
        return self.config.corpus.labels

    # --- teachers

    def _ema_vectors(self, number: int, weights: Weights, what: str = "teacher") -> dict[int, Artifact]:
        found = {}
        for position, member in enumerate(members_of(self.config.teacher)):
            if isinstance(member, EmaConfig):
                view = teach.view_of(member.view, self.config)
                address = f"{number}/{what}-encode:{position}"
                found[position] = self.vectors(address, f"{weights.key}:average", weights.average, view)
        return found

    def _room(self, ema: dict[int, Artifact]) -> teach.TeacherRoom:
        opened = {position: Vectors(artifact) for position, artifact in ema.items()}
        return teach.TeacherRoom(self.config, self.store, self.prepared, self.lexical_index, opened)

    def _members(self) -> list[dict[str, Any]]:
        return [teach.member_identity(member, self.config) for member in members_of(self.config.teacher)]

    def _score(self, address: str, lists: Artifact, ema: dict[int, Artifact]) -> Artifact:
        identity = {"members": self._members(), "calibrate": self.config.targets.calibrate}

        def build(work: Work) -> None:
            candidates = search.load_candidates(lists)
            teach.build_scores(work, self._room(ema), candidates.query_rows_Q, candidates.rows)

        return self.runner.stage(address, 1, identity, [lists, self.lexical, self.corpus, *ema.values()], build)

    @cached_property
    def probe(self) -> Artifact:
        """The configured teachers and their mixtures against the base student, on dev."""
        return self._probe()

    def _probe(self) -> Artifact:
        vectors = self.student_vectors("1/encode", self.base)
        index = self.index("1/index", vectors)
        ema = self._ema_vectors(0, self.base, "probe")
        asked = self.config
        identity = {
            "members": self._members(),
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
            student = lists.with_values(_dots(lists, opened, rows))
            room = self._room(ema)
            from sdretrieval.teachers.ensemble import score_candidates

            scores = score_candidates(room.teachers(), rows, lists, asked.targets.calibrate)
            probe.build_probe(
                work, prepared, rows, lists, scores, student, asked.gate.measure, asked.gate.tolerance, asked.seed
            )

        inputs = [vectors, index, self.lexical, self.corpus, *ema.values()]
        return self.runner.stage("0/probe", 1, identity, inputs, build)

    def _pool(self, rows: Any, vectors: Vectors, index: VectorIndex) -> Ragged:
        depth = self.config.evaluate.teacher_depth
        dense = index.search(vectors.queries_QD[rows], depth + 1)
        texts = self.prepared.corpus.query_texts(rows.tolist())
        lexical = self.lexical_index.search(texts, depth).rows_Qk if self.config.mine.lexical else None
        return probe.pool_lists(dense.rows_Qk[:, :depth], lexical, self.prepared.own_documents(rows))

    @property
    def probe_was_made(self) -> bool:
        """Whether the run needed the probe."""
        return "probe" in self.__dict__

    def probe_record(self) -> dict[str, Any]:
        """What the probe found."""
        return dict(json.loads((self.probe.path / "probe.json").read_text(encoding="utf8")))

    def _auto_weights(self) -> bool:
        return any(member.weight == "auto" for member in members_of(self.config.teacher))

    def _not_worth_training(self) -> bool:
        """With `weight: auto`, the probe may say that no mixture is better than the student: then nothing is trained."""
        if not self._auto_weights():
            return False
        made = self.probe
        if self.runner.planning and not made.path.exists():
            return False
        record = self.probe_record()
        if not record["train"]:
            logger.warning("the probe says do not train: %s", record["reason"])
        return not record["train"]

    def weights(self) -> list[float]:
        """The members' weights, the probe's where the config says auto."""
        return teach.chosen_weights(self.config, self.probe_record() if self._auto_weights() else None)

    # --- one generation

    def _generation(self, number: int, old: Weights, mined: Artifact) -> Weights:
        ema = self._ema_vectors(number, old)
        scores = self._score(f"{number}/score", mined, ema)
        targets = self._targets(f"{number}/targets", mined, scores, shuffled=False)
        trained = self._train(
            f"{number}/train", number, old, mined, targets, scores, ema, "teacher", self.config.train.epochs
        )
        new = Weights(trained.key, trained.path / "student", trained.path / "average")
        vectors = self.student_vectors(f"{number + 1}/encode", new)
        self._add_dense(f"generation_{number}", f"after generation {number}, before the gate", new, vectors, number + 1)
        return self._gate(number, old, new, mined, targets)

    def _targets(self, address: str, mined: Artifact, scores: Artifact, *, shuffled: bool) -> Artifact:
        identity = {**identity_fields(self.config.targets), "shuffled": shuffled, "seed": self.config.seed}
        inputs: list[Artifact | str] = [mined, scores]
        if self._auto_weights():
            inputs.append(self.probe)
        else:
            identity["weights"] = self.weights()

        def build(work: Work) -> None:
            teach.build_list_targets(
                work, search.load_candidates(mined), TeacherScores.load(scores.path), self.weights(), self.config,
                shuffled=shuffled,
            )  # fmt: skip

        return self.runner.stage(address, 1, identity, inputs, build)

    def _train(
        self, address: str, number: int, start: Weights, mined: Artifact, targets: Artifact, scores: Artifact,
        ema: dict[int, Artifact], lesson: learn.Lesson, epochs: float,
    ) -> Artifact:  # fmt: skip
        identity = {
            **identity_fields(self.config.train),
            "epochs": epochs,
            "lesson": lesson,
            "modes": [getattr(member, "mode", "") for member in members_of(self.config.teacher)],
            "half_lives": [getattr(member, "half_life", 0) for member in members_of(self.config.teacher)],
            "student": [self.config.student.max_tokens, self.config.student.query_tokens, self._prompts()],
            "seed": self.config.seed,
        }
        if lesson == "hard":  # the teacher has no part in it: another teacher's run finds the same control
            identity = {
                k: v for k, v in identity.items() if k not in ("modes", "half_lives", "scope", "hard_label_weight")
            }
        precision = self._precision()

        def build(work: Work) -> None:
            room = learn.Classroom(
                self.config, self.prepared, self.text_tokens, search.load_candidates(mined), Targets.load(targets.path),
                TeacherScores.load(scores.path), self.weights(), self._room(ema).teachers, start.student, start.average,
                lesson, epochs, self._chosen_precision(precision),
            )  # fmt: skip
            learn.build_student(work, room)

        teaching = [] if lesson == "hard" else [targets, scores, *ema.values()]
        inputs = [start.key, mined, self.tokens, self.corpus, *teaching, *([precision] if precision else [])]
        return self.runner.stage(address, 1, identity, inputs, build, resumable=True)

    def _precision(self) -> Artifact | None:
        """Measured once per store, machine and model; its digest is an input of every training."""
        if self.config.train.precision != "auto":
            return None
        from sdretrieval.run.stages.machine import machine_name

        return self.runner.stage(
            "0/precision", 1, {"machine": machine_name()}, [self.base.key],
            lambda work: learn.build_precision(work, self.config, self.base.student),
        )  # fmt: skip

    def _chosen_precision(self, measured: Artifact | None) -> Literal["float32", "bfloat16"]:
        if measured is None:
            asked = self.config.train.precision
            return "bfloat16" if asked == "bfloat16" else "float32"
        record = json.loads((measured.path / "precision.json").read_text(encoding="utf8"))
        return "bfloat16" if record["precision"] == "bfloat16" else "float32"

    def _gate(self, number: int, old: Weights, new: Weights, mined: Artifact, targets: Artifact) -> Weights:
        before, after = self._dev(f"{number}", old, number), self._dev(f"{number + 1}", new, number + 1)
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
            return self._close(number, "accepted", gate, new, mined, targets)
        return self._try_merges(number, old, new, before, gate, mined, targets)

    def _decide(self, before: Artifact, after: Artifact) -> GateDecision:
        measure = self.config.gate.measure
        base, candidate = search.read_measured(before).of(measure), search.read_measured(after).of(measure)
        return decide(base, candidate, self.config.gate.tolerance, self.config.seed)

    def _try_merges(
        self, number: int, old: Weights, new: Weights, before: Artifact, gate: dict[str, Any], mined: Artifact,
        targets: Artifact,
    ) -> Weights:  # fmt: skip
        merged, measured = {}, {}
        for share in MERGE_SHARES:
            made = self.runner.stage(
                f"{number}/merge:{share}", 1, {"share": share}, [old.key, new.key],
                lambda work, share=share: learn.build_merge(work, self.config, old.student, new.student, share),
            )  # fmt: skip
            merged[share] = Weights(made.key, made.path / "student", made.path / "average")
            dev = self._dev(f"{number}m{share}", merged[share], number)
            measured[share] = search.read_measured(dev).of(self.config.gate.measure)
        base = search.read_measured(before).of(self.config.gate.measure)
        choice = choose_merge(base, measured, self.config.gate.tolerance, self.config.seed)
        if choice is None:
            return self._close(number, "rejected", gate, old, mined, targets)
        share, decision = choice
        record = {**_record(decision), "share": share, "unmerged": gate}
        return self._close(number, "merged", record, merged[share], mined, targets)

    def _close(
        self, number: int, decision: Literal["accepted", "merged", "rejected"], gate: dict[str, Any], weights: Weights,
        mined: Artifact, targets: Artifact,
    ) -> Weights:  # fmt: skip
        logger.info("generation %d: %s. %s", number, decision, gate["reason"])
        self.generations.append(Generation(number, decision, gate, weights, mined, targets))
        return weights

    # --- measuring

    def _dev(self, name: str, weights: Weights, number: int) -> Artifact:
        vectors = self.student_vectors(f"{name}/encode", weights)
        return self._dense(f"{name}/evaluate:dev", "dev", vectors, self.index(f"{name}/index", vectors))

    def _dense(self, address: str, split: str, vectors: Artifact, index: Artifact) -> Artifact:
        return self._measured(
            address, split, {}, [vectors, index],
            lambda: search.dense_run(
                self.prepared, split, Vectors(vectors), self.open_index(index), self.config.evaluate.depth
            ),
        )  # fmt: skip

    def _measured(
        self, address: str, split: str, identity: dict[str, Any], inputs: Sequence[Artifact], run: Any
    ) -> Artifact:
        measures = self.measures
        whole = {"split": split, "measures": list(measures), "depth": self.config.evaluate.depth, **identity}

        def build(work: Work) -> None:
            search.write_measured(work, run(), self.prepared, split, measures, address)

        return self.runner.stage(address, 1, whole, [*inputs, self.corpus], build)

    @property
    def measures(self) -> tuple[str, ...]:
        """The report's measures and the gate's."""
        return tuple(dict.fromkeys((*self.config.evaluate.measures, self.config.gate.measure)))

    @property
    def splits(self) -> tuple[str, ...]:
        """Dev, then the split of the report."""
        return tuple(dict.fromkeys(("dev", self.config.evaluate.split)))

    def _add(self, name: str, description: str, runs: dict[str, Artifact]) -> System:
        system = System(name, description, runs)
        self.systems.append(system)
        return system

    def _add_dense(self, name: str, description: str, weights: Weights, vectors: Artifact, prefix: int | str) -> System:
        index = self.index(f"{prefix}/index", vectors)
        runs = {split: self._dense(f"{prefix}/evaluate:{split}", split, vectors, index) for split in self.splits}
        return self._add(name, description, runs)

    def _add_fused(self, name: str, description: str, dense: System) -> System:
        runs = {}
        for split in self.splits:
            parts = [self._lexical_system.runs[split], dense.runs[split]]
            runs[split] = self._measured(
                f"0/evaluate:{name}:{split}", split, {"fused": "even"}, parts,
                lambda parts=parts: fuse([read_trec(part.path / "run.trec") for part in parts], [0.5, 0.5]),
            )  # fmt: skip
        return self._add(name, description, runs)

    @cached_property
    def _lexical_system(self) -> System:
        runs = {
            split: self._measured(
                f"0/evaluate:bm25:{split}", split, {}, [self.lexical],
                lambda split=split: search.lexical_run(
                    self.prepared, split, self.lexical_index, self.config.evaluate.depth
                ),
            )
            for split in self.splits
        }  # fmt: skip
        return System("bm25", "BM25 alone", runs)

    def _measure_base(self) -> None:
        self.systems.append(self._lexical_system)
        vectors = self.student_vectors("1/encode", self.base)
        base = self._add_dense("student_0", "the base student", self.base, vectors, 1)
        self._add_fused("hybrid_0", "base student + BM25, even mix", base)
        self._measure_teacher(vectors)

    def _measure_teacher(self, vectors: Artifact) -> None:
        """The teacher reranking the base student's own top documents: what there is to learn."""
        index = self.index("1/index", vectors)
        ema = self._ema_vectors(0, self.base, "probe")
        depth = self.config.evaluate.teacher_depth
        identity = {"members": self._members(), "calibrate": self.config.targets.calibrate, "rerank": depth}
        probing = [self.probe] if self._auto_weights() else []
        identity["weights"] = None if probing else self.weights()

        def rerank(split: str) -> Any:
            from sdretrieval.teachers.ensemble import score_candidates

            prepared, opened = self.prepared, Vectors(vectors)
            rows = prepared.rows_of(split)
            hits = self.open_index(index).search(opened.queries_QD[rows], depth + 1)
            lists = probe.pool_lists(hits.rows_Qk[:, :depth], None, prepared.own_documents(rows))
            scores = score_candidates(self._room(ema).teachers(), rows, lists, self.config.targets.calibrate)
            return probe.rerank_run(prepared, rows, lists, scores.mixed(self.weights()))

        runs = {
            split: self._measured(
                f"0/evaluate:teacher:{split}", split, identity, [vectors, index, self.lexical, *ema.values(), *probing],
                lambda split=split: rerank(split),
            )
            for split in self.splits
        }  # fmt: skip
        self._add("teacher@student_0", f"the teacher reranking the base student's top {depth}", runs)

    def _control(self, control: str, mined: Artifact) -> None:
        """The same updates in all, from the base, on the first generation's lists."""
        ema = self._ema_vectors(1, self.base)
        scores = self._score("1/score", mined, ema)
        lesson: learn.Lesson = "hard" if control == "hard_labels" else "shuffled"
        if lesson == "hard" and not self._lists_hold_positives():
            mined = self._labelled(mined)
            scores = self._score("1/score:labelled", mined, ema)
        targets = self._targets(f"1/targets:{control}", mined, scores, shuffled=lesson == "shuffled")
        epochs = self.config.train.epochs * self.config.generations
        trained = self._train(f"1/train:{control}", 1, self.base, mined, targets, scores, ema, lesson, epochs)
        weights = Weights(trained.key, trained.path / "student", trained.path / "average")
        vectors = self.student_vectors(f"{control}/encode", weights)
        text = (
            "equal updates on the known positives, no teacher"
            if lesson == "hard"
            else "equal updates, teacher shuffled"
        )
        self._add_dense(control, text, weights, vectors, control)

    def _labelled(self, mined: Artifact) -> Artifact:
        """Lists for the hard-label control of a run without labels: the control alone reads the train judgements."""
        del mined
        vectors = self.student_vectors("1/encode", self.base)
        index = self.index("1/index", vectors)
        identity = {**identity_fields(self.config.mine), "labels": True, "seed": self.config.seed}

        def build(work: Work) -> None:
            prepared = self.prepared
            judged = prepared.corpus.qrels.get("train", {})
            rows = np.asarray(
                [r for r in prepared.train_rows if prepared.corpus.query_ids[r] in judged], dtype=np.int64
            )
            search.build_candidates(
                work, rows, prepared, Vectors(vectors), self.open_index(index),
                self.lexical_index if self.config.mine.lexical else None, self.config, use_labels=True,
            )  # fmt: skip

        return self.runner.stage("1/mine:labelled", 1, identity, [vectors, index, self.lexical, self.corpus], build)

    def _measure_final(self, weights: Weights) -> None:
        vectors = self.student_vectors("final/encode", weights)
        final = self._add_dense("final", "what was accepted", weights, vectors, "final")
        self._add_fused("hybrid_final", "final student + BM25, even mix", final)
        self.final = weights
        self.final_vectors = vectors
        self.final_index = self.index("final/index", vectors)


def _dots(lists: Ragged, vectors: Vectors, rows: Any) -> Any:
    out = np.empty(len(lists.values_T), dtype=np.float32)
    for q, row in enumerate(rows):
        span = slice(lists.offsets[q], lists.offsets[q + 1])
        out[span] = np.asarray(vectors.documents.vectors_WD[lists[q]]) @ vectors.queries_QD[row]
    return out


def _record(decision: GateDecision) -> dict[str, Any]:
    return {
        "accepted": decision.accepted,
        "proven": decision.proven,
        "difference": decision.difference,
        "interval90": list(decision.interval90),
        "p": decision.p,
        "n": decision.n,
        "detectable": decision.detectable,
        "reason": decision.reason,
    }
