"""The systems of the report: each one's runs over dev and over the report's split."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from sdretrieval.errors import MissingScores
from sdretrieval.evaluation import Run, fuse, read_trec
from sdretrieval.run.shared import Weights
from sdretrieval.run.teaching import Teaching
from sdretrieval.stages import probe, search, teach
from sdretrieval.stages.inputs import Vectors
from sdretrieval.stages.seeing import say_coverage
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact

logger = logging.getLogger("sdretrieval")


@dataclass(frozen=True)
class System:
    """One system of the report: its runs' artifacts by split."""

    name: str
    description: str
    runs: dict[str, Artifact]


@dataclass
class Measuring(Teaching):
    """Adds systems; they stand in the order of the report."""

    systems: list[System] = field(default_factory=list)
    final: Weights = field(init=False)
    final_vectors: Artifact = field(init=False)
    final_index: Artifact = field(init=False)

    def dev_measured(self, name: str, weights: Weights) -> Artifact:
        """A student's run over dev."""
        vectors = self.student_vectors(f"{name}/encode", weights)
        return self.dense_measured(f"{name}/evaluate:dev", "dev", vectors, self.index(f"{name}/index", vectors))

    def dense_measured(self, address: str, split: str, vectors: Artifact, index: Artifact) -> Artifact:
        """A student's run over a split."""
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

        return self.runner.stage(address, 1, whole, [*inputs, self.judged], build)

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

    def add_dense(self, name: str, description: str, weights: Weights, vectors: Artifact, prefix: int | str) -> System:
        """A student as a system of the report."""
        index = self.index(f"{prefix}/index", vectors)
        runs = {
            split: self.dense_measured(f"{prefix}/evaluate:{split}", split, vectors, index) for split in self.splits
        }
        return self._add(name, description, runs)

    def _add_fused(self, name: str, description: str, dense: System) -> System:
        runs = {}
        for split in self.splits:
            parts = [self._lexical_system.runs[split], dense.runs[split]]
            runs[split] = self._measured(
                f"0/evaluate:{name}:{split}", split, {"fused": "even", "over": self.config.evaluate.depth}, parts,
                lambda parts=parts: fuse(
                    [read_trec(part.path / "run.trec") for part in parts], [0.5, 0.5], self.config.evaluate.depth
                ),
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

    def measure_base(self) -> None:
        """BM25, the base student, their even mix, and the teacher."""
        self.systems.append(self._lexical_system)
        self._say_coverage()
        vectors = self.student_vectors("1/encode", self.base)
        base = self.add_dense("student_0", "the base student", self.base, vectors, 1)
        self._add_fused("hybrid_0", "base student + BM25, even mix", base)
        if not self.takes_scores_from_files():
            self._measure_teacher()

    def _say_coverage(self) -> None:
        if not self.runner.planning and self.tokens.path.exists():
            specials = self.student(self.base.student).document_specials.count
            say_coverage(self.config, self.prepared, self.text_tokens.documents.lengths, specials)

    def _measure_imported(self) -> None:
        """A teacher whose scores come from a file, late: the file may be made from what generation 1 mined.

        It seldom holds the pairs of dev and test; then the report goes without this row.
        """
        try:
            self._measure_teacher()
        except MissingScores as lack:
            logger.warning(
                "the report has no row teacher@student_0 (the teacher reranking the base student on %s): %s. "
                "`sdretrieval score CONFIG --pairs FILE --teacher-row` writes all pairs that it needs",
                " and ".join(self.splits), str(lack).removesuffix("."),
            )  # fmt: skip

    def _measure_teacher(self) -> None:
        """The teacher reranking the base student's own top documents: what there is to learn."""
        vectors, index = self._base_searched()
        teacher_vectors = self.teacher_vectors(1, self.base)
        depth = self.config.evaluate.teacher_depth
        identity: dict[str, Any] = {
            "members": self.member_identities(),
            "calibrate": self.config.targets.calibrate,
            "rerank": depth,
            "below": "the student's order",
        }
        weighing = self.weighing()
        identity["weights"] = None if weighing else self.weights()
        identity |= self.of_made_queries()

        def rerank(split: str) -> Run:
            prepared, opened = self.prepared, Vectors(vectors)
            rows, lists = self.rerank_pool(split)
            _, scores = teach.scored(self.room(teacher_vectors), rows, lists, split)
            reranked = probe.rerank_run(prepared, rows, lists, scores.mixed(self.weights()))
            whole = search.dense_run(prepared, split, opened, self.open_index(index), self.config.evaluate.depth)
            return probe.with_rest(reranked, whole)

        inputs = [vectors, index, self.lexical, *teacher_vectors.values(), *weighing]
        runs = {
            split: self._measured(
                f"0/evaluate:teacher:{split}", split, identity, inputs,
                lambda split=split: rerank(split),
            )
            for split in self.splits
        }  # fmt: skip
        self._add("teacher@student_0", f"the teacher reranking the base student's top {depth}", runs)

    def measure_final(self, weights: Weights) -> None:
        """What was accepted, alone and beside BM25."""
        if self.takes_scores_from_files():
            self._measure_imported()
        vectors = self.student_vectors("final/encode", weights)
        final = self.add_dense("final", "what was accepted", weights, vectors, "final")
        self._add_fused("hybrid_final", "final student + BM25, even mix", final)
        self.final = weights
        self.final_vectors = vectors
        self.final_index = self.index("final/index", vectors)
