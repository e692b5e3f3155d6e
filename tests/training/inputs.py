"""Small but whole training inputs: the tiny collection, BM25 and a full-context average as teachers, targets, batches.

`python -m tests.training.inputs CORPUS STUDENT FOLDER '{"save_every": 2}'` trains in a process of its own, slowly, so
that it can be killed in between.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sdretrieval.encode.encoder import Embeddings, encode_sequences
from sdretrieval.encode.student import Student, load_student
from sdretrieval.encode.tokens import tokenize
from sdretrieval.encode.views import View
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Array, Ragged
from sdretrieval.targets.build import Targets, build_targets
from sdretrieval.teachers.dense import AlignedVectors, DenseTeacher, alignment, unit
from sdretrieval.teachers.ema import LiveEma, decay_of
from sdretrieval.teachers.ensemble import BatchTeacher, TeacherScores, score_candidates
from sdretrieval.teachers.lexical import LexicalTeacher
from sdretrieval.teachers.protocols import HasVectors
from sdretrieval.training.batches import Collator, Side
from sdretrieval.training.distillation import (
    Distillation,
    EmbeddingDistillation,
    ListwiseDistillation,
    LiveTargets,
    MarginDistillation,
)
from sdretrieval.training.train import Trained, TrainSettings, train, updates_of

Weights = dict[str, Any]
SETTINGS = TrainSettings(queries_per_batch=8, epochs=2, learning_rate=2e-3)


class SlowBatchMaker(Collator):
    """Takes its time, so that a test can kill the training between two updates."""

    def __call__(self, visits: Sequence[dict[str, int]]) -> dict[str, Any]:
        time.sleep(0.4)
        return super().__call__(visits)


def interrupted(batches: Collator) -> Collator:
    """The same, until somebody presses Ctrl-C at the sixth batch."""
    judge, seen = batches.score_batch, []
    assert judge is not None

    def until_the_sixth(positions: Array, rows: Array) -> Array:
        seen.append(positions)
        if len(seen) > 5:
            raise KeyboardInterrupt
        return judge(positions, rows)

    return replace(batches, score_batch=until_the_sixth)


@dataclass
class TrainingInputs:
    """What the teachers said of the train queries' candidates, for one student."""

    student: Student
    queries: Side
    documents: Side
    candidates: Candidates
    scores: TeacherScores
    targets: Targets
    judge: BatchTeacher
    positives: dict[int, set[int]]
    words: HasVectors
    """A teacher with vectors of other dimensions, in the student's: words and their rarity."""

    def batches(
        self,
        whole_batch: bool = True,
        kind: type[Collator] = Collator,
        wanted: int = 6,
        vectors: HasVectors | None = None,
    ) -> Collator:
        """The collator; lists of `wanted` candidates."""
        judge = self.judge.matrix if whole_batch else None
        return kind(
            self.student.model, self.queries, self.documents, self.candidates, self.targets, wanted, 13, judge,
            vectors=vectors,
        )  # fmt: skip

    def live(self, settings: TrainSettings, weight: float = 0.5) -> tuple[LiveEma, LiveTargets]:
        """A live average that starts as the student."""
        ema = LiveEma(self.student.model, decay_of(0.25, updates_of(len(self.candidates), settings)))
        return ema, LiveTargets(ema, weight, self.scores.members[0].statistics, self.targets.temperature)

    def reciprocal_rank(self) -> float:
        """Mean reciprocal rank of the train queries' own documents among all documents."""
        shown = [self.documents.sequence(row) for row in range(len(self.documents.tokens))]
        asked = [self.queries.sequence(int(row)) for row in self.candidates.query_rows_Q]
        documents = encode_sequences(self.student.model, shown, self.documents.specials)
        scores = encode_sequences(self.student.model, asked, self.queries.specials) @ documents.T
        own = [next(iter(self.positives[int(row)])) for row in self.candidates.query_rows_Q]
        return float(np.mean([1 / (1 + int((line > line[row]).sum())) for line, row in zip(scores, own, strict=True)]))


def prepare(corpus: Path, student_folder: Path, device: str = "cpu") -> TrainingInputs:
    """Read, encode, score, build targets: the same in every process."""
    student = load_student(str(student_folder), max_tokens=48, device=device)
    texts, queries, positives = _read(corpus)
    asked = Side(tokenize(queries, student.model.tokenizer), student.query_view, student.query_specials)
    shown = Side(tokenize(texts, student.model.tokenizer), student.view, student.document_specials)
    teachers = [
        DenseTeacher("ema", _embed(student, asked).vectors_WD, _embed(student, shown, View(48, "all"))),
        LexicalTeacher(LexicalIndex.build(texts), queries),
    ]
    candidates = _candidates(teachers[1], positives)
    scores = score_candidates(teachers, candidates.query_rows_Q, candidates.rows, "zscore")
    targets, _ = build_targets(scores.mixed([0.3, 0.7]), candidates.positive, target_perplexity=2.5)
    judge = BatchTeacher(teachers, scores, [0.3, 0.7], candidates.query_rows_Q)
    ours = [_embed(student, side).vectors_WD for side in (shown, asked)]
    words = _words(texts, queries, np.concatenate(ours))
    return TrainingInputs(student, asked, shown, candidates, scores, targets, judge, positives, words)


def _words(texts: list[str], queries: list[str], ours: Array) -> HasVectors:
    """Words in 96 random directions, rare ones longer, turned towards `ours`: documents, then queries."""
    held = [set(text.lower().replace("?", " ").replace(".", " ").split()) for text in [*texts, *queries]]
    count = Counter(word for words in held for word in words)
    generator = np.random.default_rng(11)
    direction = {word: generator.normal(size=96) / times for word, times in sorted(count.items())}
    vectors = unit(np.stack([np.sum([direction[word] for word in sorted(words)], axis=0) for words in held]))
    documents = Embeddings(vectors[: len(texts)], np.arange(len(texts) + 1))
    map_ED, kept = alignment(vectors, unit(ours))
    return AlignedVectors(DenseTeacher("words", vectors[len(texts) :], documents), map_ED, kept)


def _read(corpus: Path) -> tuple[list[str], list[str], dict[int, set[int]]]:
    documents = [json.loads(line) for line in (corpus / "corpus.jsonl").read_text().splitlines()]
    queries = [json.loads(line) for line in (corpus / "queries.jsonl").read_text().splitlines()]
    rows = {record["_id"]: row for table in (documents, queries) for row, record in enumerate(table)}
    positives: dict[int, set[int]] = {}
    for line in (corpus / "qrels" / "train.tsv").read_text().splitlines()[1:]:
        query, document, _ = line.split("\t")
        positives.setdefault(rows[query], set()).add(rows[document])
    texts = [f"{record['title']} {record['text']}" for record in documents]
    return texts, [record["text"] for record in queries], positives


def _embed(student: Student, side: Side, view: View | None = None) -> Embeddings:
    pieces = [(view or side.view).cut(ids, side.specials) for ids in side.tokens]
    windows = np.concatenate([[0], np.cumsum([len(own) for own in pieces])])
    vectors = encode_sequences(student.model, [piece for own in pieces for piece in own], side.specials)
    return Embeddings(vectors, windows)


def _candidates(lexical: LexicalTeacher, positives: dict[int, set[int]]) -> Candidates:
    query_rows = np.asarray(sorted(positives), dtype=np.int64)
    generator = np.random.default_rng(5)
    lists: list[Array] = []
    for row, found in zip(query_rows, lexical.top(query_rows, 8).rows_Qk, strict=True):
        others = generator.permutation(120)[:6]
        lists.append(np.asarray([*dict.fromkeys([*found[found >= 0], *positives[int(row)], *others])][:12]))
    rows = Ragged.of(lists, np.int64)
    truth = [np.isin(found, list(positives[int(row)])) for row, found in zip(query_rows, rows, strict=True)]
    return Candidates(
        query_rows,
        rows,
        scores=rows.with_values(np.zeros(len(rows.values_T), dtype=np.float32)),
        positive=Ragged.of(truth, np.bool_),
        dense_rank=rows.with_values(np.full(len(rows.values_T), -1, dtype=np.int32)),
    )


def teach(
    inputs: TrainingInputs,
    settings: TrainSettings,
    folder: Path,
    *,
    live: bool = False,
    batches: Collator | None = None,
    hard_label_weight: float = 0.1,
    kind: str = "kl",
    batch_tokens: int | None = None,
) -> Trained:
    """One training with these arguments; the student is `inputs.student`."""
    ema, targets = inputs.live(settings) if live else (None, None)
    loss = loss_of(
        inputs, kind, student_temperature=0.05, hard_label_weight=hard_label_weight, live=targets,
        batch_tokens=batch_tokens,
    )  # fmt: skip
    made = batches or inputs.batches()
    if kind == "embedding":
        made = replace(made, vectors=inputs.words)
    return train(inputs.student.model, made, loss, settings, folder, live=ema)


def loss_of(inputs: TrainingInputs, kind: str, **asked: Any) -> Distillation:
    """`kl`, `margin_mse` or `embedding`."""
    model = inputs.student.model
    if kind == "margin_mse":
        return MarginDistillation(model, target_temperature=inputs.targets.temperature, scale=0.1, **asked)
    return (EmbeddingDistillation if kind == "embedding" else ListwiseDistillation)(model, **asked)


def terms(loss: Distillation, batch: dict[str, Any]) -> dict[str, torch.Tensor]:
    """As the trainer calls it: features of queries, then of each part of the documents."""
    sides = dict.fromkeys(name.partition("_")[0] for name in batch if name != "label")
    features = [{n.partition("_")[2]: v for n, v in batch.items() if n.startswith(f"{side}_")} for side in sides]
    terms: dict[str, torch.Tensor] = loss(features, batch["label"])
    return terms


def gradients(inputs: TrainingInputs) -> dict[str, torch.Tensor]:
    """Of the student's parameters."""
    return {n: p.grad.clone() for n, p in inputs.student.model.named_parameters() if p.grad is not None}


def weights(folder: Path, which: str = "student") -> Weights:
    """Tensors of a trained `student` or its `average`."""
    from safetensors.torch import load_file

    return load_file(folder / which / "model.safetensors")


def assert_close(one: Weights, other: Weights, start: Weights) -> None:
    """Two trainings that differ in rounding alone: apart by less than a fiftieth of the way from the start.

    Without the keys' biases: a softmax does not see them, so their gradients are rounding and nothing else.
    """
    for name in (name for name in one if not name.endswith("key.bias")):
        moved = (one[name] - start[name]).norm()
        assert (one[name] - other[name]).norm() <= 0.02 * moved + 1e-6, name


def main(corpus: str, student: str, folder: str, options: str) -> None:
    """Train as `options` say; `live`, `whole_batch`, `hard`, `slow` and `kind` are not settings of the training.

    Several kinds (`kl,margin_mse`) train one after another, each in a folder of its name; `pieces` is `kl` in pieces.
    """
    asked = json.loads(options)
    kinds = asked.pop("kind", "kl").split(",")
    live, whole, slow, hard = (asked.pop(name, 0) for name in ("live", "whole_batch", "slow", "hard"))
    settings = TrainSettings(**{**vars(SETTINGS), **asked})
    for kind in kinds:
        inputs = prepare(Path(corpus), Path(student))
        batches = inputs.batches(bool(whole), SlowBatchMaker if slow else Collator)
        target = Path(folder) / kind if len(kinds) > 1 else Path(folder)
        loss, tokens = ("kl", 64) if kind == "pieces" else (kind, None)
        teach(
            inputs, settings, target, live=bool(live), batches=batches, hard_label_weight=hard, kind=loss,
            batch_tokens=tokens,
        )  # fmt: skip


if __name__ == "__main__":
    main(*sys.argv[1:])
