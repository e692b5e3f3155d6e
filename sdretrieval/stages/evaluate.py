"""Stages N/evaluate: one system's run over one split, with its measures query by query."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sdretrieval.evaluation import Measured, absolute, evaluate, log_odds, read_trec, reciprocal_ranks, write_trec
from sdretrieval.evaluation import Run as TrecRun
from sdretrieval.files import read_json, write_json
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.index import index_vectors, open_index
from sdretrieval.stages.lexical import Lexical
from sdretrieval.stages.probe import rerank_pool, rerank_run, with_rest
from sdretrieval.stages.run import Run
from sdretrieval.stages.score import score_lists
from sdretrieval.stages.search import dense_run, lexical_norm, lexical_run
from sdretrieval.stages.targets import MixtureWeights
from sdretrieval.stages.teachers import Made, member_identities
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact
from sdretrieval.targets.calibrate import EVIDENCE

ORDER = (
    "bm25", "student_0", "half_0", "hybrid_0", "hybrid_dev", "hybrid_rrf", "hybrid_log_odds", "pretrained",
    "teacher@student_0", "teacher@pretrained", "hard_labels", "shuffled_teacher",
)  # fmt: skip
AFTER = len(ORDER)
SMALLER = "final-"
"""Begins the names of smaller students."""
STRENGTHS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 9.0, 14.0)
"""Of BM25's evidence, in sigmas: what `hybrid_dev` chooses from."""


@dataclass(frozen=True)
class System:
    """One system of the report: its runs' artifacts by split. `mark`: of the seed, if it is not the config's first."""

    name: str
    description: str
    runs: dict[str, Artifact]
    mark: str = ""

    @property
    def place(self) -> tuple[int, int]:
        """In the report's order: what is there before training, controls, generations, what is final, and smaller
        students as the config names them."""
        if self.name.startswith("generation_"):
            return (AFTER, int(self.name.removeprefix("generation_")))
        if self.name.startswith(SMALLER):
            return (AFTER + 3, 0)
        last = {"final": AFTER + 1, "hybrid_final": AFTER + 2}
        return (ORDER.index(self.name) if self.name in ORDER else last[self.name], 0)


def measure_run(
    run: Run, collection: Collection, address: str, split: str, identity: Mapping[str, Any],
    inputs: Sequence[Artifact], search: Callable[[], TrecRun],
) -> Artifact:  # fmt: skip
    """`run.trec` and `measured.json` (per query) of what `search` finds for a split's queries."""
    measures, depth = run.measures, run.config.evaluate.depth

    def build(work: Work) -> None:
        trec = search()
        measured = evaluate(collection.corpus.qrels[split], trec, measures)
        write_trec(trec, work.folder / "run.trec", address)
        record = {"system": address, "split": split, "per_query": {m: dict(measured.of(m)) for m in measures}}
        write_json(work.folder / "measured.json", record)
        work.counts.update(queries=measured.n_queries, **measured.means())

    whole = {"split": split, "measures": list(measures), "depth": depth, **identity}
    return run.runner.stage(address, 1, whole, [*inputs, collection.judged], build)


def read_measured(artifact: Artifact) -> Measured:
    """What `measure_run` wrote."""
    return Measured(read_json(artifact.path / "measured.json")["per_query"])


def measure_bm25(run: Run, collection: Collection, lexical: Lexical) -> System:
    """BM25 alone."""
    runs = {
        split: measure_run(
            run, collection, f"0/evaluate:bm25:{split}", split, {}, [lexical],
            partial(_search_words, run, collection, split, lexical),
        )
        for split in run.splits
    }  # fmt: skip
    return System("bm25", "BM25 alone", runs)


def _search_words(run: Run, collection: Collection, split: str, lexical: Lexical) -> TrecRun:
    return lexical_run(collection, split, lexical.index, run.config.evaluate.depth)


def measure_split(
    run: Run, collection: Collection, prefix: str, split: str, vectors: Vectors, index: Artifact
) -> Artifact:
    """A student's run over a split, under the address PREFIX/evaluate:SPLIT."""
    return measure_run(
        run, collection, f"{prefix}/evaluate:{split}", split, {}, [vectors, index],
        lambda: dense_run(collection, split, vectors, open_index(run, index), run.config.evaluate.depth),
    )  # fmt: skip


def measure_student(
    run: Run, collection: Collection, prefix: str, name: str, description: str, vectors: Vectors
) -> System:
    """A student as a system of the report."""
    index = index_vectors(run, collection, f"{prefix}/index", vectors)
    runs = {split: measure_split(run, collection, prefix, split, vectors, index) for split in run.splits}
    return System(name, description, runs, run.runner.mark)


@dataclass(frozen=True)
class Hybrids:
    """A student's run and BM25's, to be mixed. `prefix` of the addresses: whose student it is."""

    run: Run
    collection: Collection
    words: Lexical
    lexical: System
    dense: System
    prefix: str

    def absolute(self, name: str, description: str, strength: float = EVIDENCE) -> System:
        """Mixed on the absolute scale: how this project mixes."""
        identity = {"absolute": strength, "unit": "norm", "over": self.run.config.evaluate.depth}
        return self._measure(name, description, identity, lambda split: self._mixed(split, strength), [self.words])

    def baseline(self, name: str) -> System:
        """Mixed in another way, as `evaluate.baselines` names it."""
        depth = self.run.config.evaluate.depth
        identity = {"fused": name, "over": depth}
        if name == "hybrid_dev":
            chosen = self._chosen_strength()
            strength = self.run.runner.result(chosen, "strength.json", {"strength": EVIDENCE})["strength"]
            text = f"base student + BM25, strength {strength:g} chosen on dev from {len(STRENGTHS)}"
            return self._measure(name, text, identity, lambda split: self._mixed(split, strength), [self.words, chosen])
        fused, text = (
            (reciprocal_ranks, "reciprocal ranks") if name == "hybrid_rrf" else (log_odds, "calibrated log-odds")
        )
        text = f"base student + BM25, {text}"
        return self._measure(name, text, identity, lambda split: fused(self._parts(split), depth), [])

    def _parts(self, split: str) -> list[TrecRun]:
        """The student's run and BM25's."""
        return [read_trec(system.runs[split].path / "run.trec") for system in (self.dense, self.lexical)]

    def _mixed(self, split: str, strength: float) -> TrecRun:
        norm = lexical_norm(self.collection, split, self.words.index)
        dense, lexical = self._parts(split)
        return absolute(dense, lexical, norm, strength, self.run.config.evaluate.depth)

    def _measure(
        self, name: str, description: str, identity: Mapping[str, Any], mix: Callable[[str], TrecRun],
        others: Sequence[Artifact],
    ) -> System:  # fmt: skip
        """`others`: what is read beside the two runs."""
        part = "hybrid" if name in ("hybrid_0", "hybrid_final") else name
        runs = {
            split: measure_run(
                self.run, self.collection, f"{self.prefix}/evaluate:{part}:{split}", split, identity,
                [self.lexical.runs[split], self.dense.runs[split], *others], partial(mix, split),
            )
            for split in self.run.splits
        }  # fmt: skip
        return System(name, description, runs, self.run.runner.mark)

    def _chosen_strength(self) -> Artifact:
        """`strength.json`: the strength of `STRENGTHS` that is best on dev."""
        measure = self.run.config.gate.measure

        def build(work: Work) -> None:
            qrels = self.collection.corpus.qrels["dev"]
            found = {s: evaluate(qrels, self._mixed("dev", s), [measure]).mean(measure) for s in STRENGTHS}
            write_json(work.folder / "strength.json", {"strength": max(found, key=found.__getitem__), "dev": found})

        inputs = [self.lexical.runs["dev"], self.dense.runs["dev"], self.words, self.collection.judged]
        identity = {"strengths": list(STRENGTHS), "measure": measure, "over": self.run.config.evaluate.depth}
        return self.run.runner.stage(f"{self.prefix}/evaluate:strength", 1, identity, inputs, build)


def measure_teacher(
    run: Run, collection: Collection, lexical: Lexical, vectors: Vectors, index: Artifact,
    made: Made, weights: MixtureWeights,
) -> System:  # fmt: skip
    """The teacher reranking the top documents of the student that generations begin with: what there is to learn.

    Raises MissingScores if a member's scores come from a file that lacks these pairs.
    """
    config, depth = run.config, run.config.evaluate.teacher_depth
    identity: dict[str, Any] = {
        "members": member_identities(config),
        "calibrate": config.targets.calibrate,
        "version": 3,  # of the calibration
        "rerank": depth,
        "weights": weights.identity,
    }

    def rerank(split: str) -> TrecRun:
        rows, lists = rerank_pool(run, collection, split, vectors, index)
        _, scores = score_lists(
            run, collection, lexical, made, rows, lists, identity["members"], split, write_gaps=False
        )
        reranked = rerank_run(collection, rows, lists, scores.mixed(weights.values()))
        return with_rest(reranked, dense_run(collection, split, vectors, open_index(run, index), config.evaluate.depth))

    inputs = [vectors, index, lexical, *made.values(), *weights.inputs]
    runs = {
        split: measure_run(
            run, collection, f"0/evaluate:teacher:{split}", split, identity, inputs, partial(rerank, split)
        )
        for split in run.splits
    }
    name, whose = ("student_0", "base student") if run.pretrained is None else ("pretrained", "pretrained student")
    whose += "" if vectors.plain is vectors else " with its lexical half"
    return System(f"teacher@{name}", f"the teacher reranking the top {depth} of the {whose}", runs)
