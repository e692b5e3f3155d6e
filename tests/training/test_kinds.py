"""Losses beside the divergence: the student learns what the teacher says, and a killed run ends the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sdretrieval.encode.encoder import encode_sequences
from sdretrieval.ragged import Array
from sdretrieval.training.losses import margin_mse
from sdretrieval.training.trainer import last_complete_checkpoint, read_metrics
from tests.training.inputs import SETTINGS, TrainingInputs, assert_close, interrupted, teach, weights

NewInputs = Callable[[], TrainingInputs]
KINDS = ["margin_mse", "embedding"]


def cosines(inputs: TrainingInputs) -> tuple[Array, Array]:
    """The student's vectors of documents and of queries."""
    shown = [inputs.documents.sequence(row) for row in range(len(inputs.documents.tokens))]
    asked = [inputs.queries.sequence(row) for row in range(len(inputs.queries.tokens))]
    model = inputs.student.model
    return (
        encode_sequences(model, shown, inputs.documents.specials),
        encode_sequences(model, asked, inputs.queries.specials),
    )


@pytest.mark.parametrize("whole_batch", [True, False])
def test_margins_teach_the_student_to_find_more(inputs: TrainingInputs, tmp_path: Path, whole_batch: bool) -> None:
    rank = inputs.reciprocal_rank()
    batches = inputs.batches(whole_batch)
    teach(inputs, replace(SETTINGS, epochs=6), tmp_path, batches=batches, hard_label_weight=0.0, kind="margin_mse")
    losses = [record["margin_mse"] for record in read_metrics(tmp_path / "metrics.jsonl")]
    assert sum(losses[-5:]) < 0.75 * sum(losses[:5])
    assert inputs.reciprocal_rank() > rank + 0.03


def test_vectors_are_followed_on_both_sides(inputs: TrainingInputs, tmp_path: Path) -> None:
    def distances() -> tuple[float, float]:
        documents, queries = cosines(inputs)
        rows, asked = np.arange(len(documents)), inputs.candidates.query_rows_Q
        shown = 2 - 2 * (documents * inputs.words.document_vectors(rows)).sum(axis=1)
        return float(shown.mean()), float(
            (2 - 2 * (queries[asked] * inputs.words.query_vectors(asked)).sum(axis=1)).mean()
        )

    before = distances()
    teach(inputs, replace(SETTINGS, epochs=12), tmp_path, hard_label_weight=0.0, kind="embedding")
    after = distances()
    assert after[0] < 0.8 * before[0] and after[1] < 0.8 * before[1], (before, after)


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_training_is_continued_to_the_same_weights(new_inputs: NewInputs, tmp_path: Path, kind: str) -> None:
    settings = replace(SETTINGS, save_every=2)
    first = new_inputs()
    with pytest.raises(KeyboardInterrupt):
        teach(first, settings, tmp_path / "killed", batches=interrupted(first.batches()), kind=kind)
    assert last_complete_checkpoint(tmp_path / "killed" / "trainer") is not None
    for name in ("killed", "whole"):
        teach(new_inputs(), settings, tmp_path / name, kind=kind)
    for which in ("student", "average"):
        one, other = weights(tmp_path / "killed", which), weights(tmp_path / "whole", which)
        assert all(torch.equal(one[name], other[name]) for name in one)
    found = [read_metrics(tmp_path / name / "metrics.jsonl") for name in ("killed", "whole")]
    assert found[0] == found[1]
    assert {"step", "loss", kind, "hard"} <= set(found[0][0])


def test_accumulated_batches_of_weighted_queries_make_the_update_of_one_large_batch(
    new_inputs: NewInputs, tmp_path: Path
) -> None:
    small = replace(SETTINGS, queries_per_batch=4, gradient_accumulation=2)
    for name, settings in (("large", SETTINGS), ("small", small)):
        inputs = new_inputs()
        uneven = np.linspace(0, 2, len(inputs.targets), dtype=np.float32)
        inputs.targets = replace(inputs.targets, weight_Q=uneven)
        batches = inputs.batches(whole_batch=False)
        teach(inputs, settings, tmp_path / name, batches=batches, hard_label_weight=0.0, kind="margin_mse")
    start = new_inputs().student.model[0].auto_model.state_dict()
    assert_close(weights(tmp_path / "large"), weights(tmp_path / "small"), start)


def test_margins_follow_a_live_teacher_too(new_inputs: NewInputs, tmp_path: Path) -> None:
    for name, live in (("live", True), ("frozen", False)):
        teach(new_inputs(), SETTINGS, tmp_path / name, live=live, kind="margin_mse")
    assert any(
        not torch.equal(tensor, weights(tmp_path / "frozen")[name])
        for name, tensor in weights(tmp_path / "live").items()
    )


def test_a_batch_brings_the_teachers_vectors_in_its_own_order(inputs: TrainingInputs) -> None:
    visits = [{"position": position, "visit": 0} for position in (4, 0, 31)]
    labels = inputs.batches(wanted=99, vectors=inputs.words)(visits)["label"]
    rows = np.unique(np.concatenate([inputs.candidates.rows[visit["position"]] for visit in visits]))
    np.testing.assert_array_equal(labels["teacher_documents_MD"].numpy(), inputs.words.document_vectors(rows))
    np.testing.assert_array_equal(
        labels["teacher_queries_BD"].numpy(), inputs.words.query_vectors(inputs.candidates.query_rows_Q[[4, 0, 31]])
    )
    assert "teacher_queries_BD" not in inputs.batches()(visits)["label"]


def test_a_query_that_weighs_nothing_teaches_nothing() -> None:
    student = torch.randn(2, 4, requires_grad=True)
    anchor, excluded = torch.tensor([[True, False, False, False]] * 2), torch.zeros(2, 4, dtype=torch.bool)
    (margin_mse(student, torch.randn(2, 4), anchor, excluded, 0.1, 0.05) * torch.tensor([0.0, 1.0])).sum().backward()
    assert student.grad is not None and student.grad[0].abs().sum() == 0 < student.grad[1].abs().sum()
