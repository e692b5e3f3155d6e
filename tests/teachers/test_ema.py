"""The moving average: decay as a share of the training, and a copy that is never the student itself."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.encode.batches import features_of
from sdretrieval.teachers.ema import LiveEma, WeightAverage, decay_of
from tests.teachers.collection import Collection


@given(st.floats(0.01, 4.0), st.integers(1, 100_000))
def test_after_half_life_times_updates_half_of_the_old_average_is_left(half_life: float, updates: int) -> None:
    assert decay_of(half_life, updates) ** (half_life * updates) == pytest.approx(0.5, rel=1e-6)


@pytest.mark.parametrize(("half_life", "updates"), [(0.0, 10), (-1.0, 10), (0.25, 0)])
def test_a_decay_of_nothing_is_refused(half_life: float, updates: int) -> None:
    with pytest.raises(ValueError, match=f"half_life {half_life} and updates {updates} must be above 0"):
        decay_of(half_life, updates)


def numbered(value: float, dtype: Any = None) -> Any:
    import torch

    module = torch.nn.BatchNorm1d(3).to(dtype or torch.float32)
    with torch.no_grad():
        module.weight.fill_(value)
        module.num_batches_tracked.fill_(int(value))
    return module


def test_the_average_moves_by_its_decay_and_copies_counters() -> None:
    average = WeightAverage(numbered(0.0), decay=0.75)
    for _ in range(2):
        average.update(numbered(16.0))
    assert average.state["weight"].tolist() == [7.0, 7.0, 7.0]  # 16 x (1 - 0.75 ** 2)
    assert int(average.state["num_batches_tracked"]) == 16


def test_the_average_of_a_bfloat16_model_is_kept_in_float32() -> None:
    import torch

    average = WeightAverage(numbered(256.0, torch.bfloat16), decay=0.99)
    average.update(numbered(257.0, torch.bfloat16))  # bfloat16 has no number between 256 and 258
    average.update(numbered(258.0, torch.bfloat16))
    assert average.state["weight"].dtype == torch.float32
    assert 256.0 < float(average.state["weight"][0]) < 256.1


def test_the_averaged_module_is_a_frozen_copy() -> None:
    module = numbered(1.0)
    averaged = WeightAverage(module, decay=0.5).module(module)
    assert averaged is not module and not averaged.training and module.training
    assert not any(parameter.requires_grad for parameter in averaged.parameters())
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_a_live_teacher_moves_towards_the_student_and_is_restored(tiny_student: Path) -> None:
    import torch

    from sdretrieval.encode.student import load_student

    student = load_student(str(tiny_student), max_tokens=32, device="cpu").model
    live = LiveEma(student, decay=0.9)
    name = next(key for key in live.average.state if key.endswith("layer.0.output.dense.weight"))
    start = live.network.state_dict()[name].clone()
    moved = copy.deepcopy(student)
    with torch.no_grad():
        for parameter in moved.parameters():
            parameter.add_(1.0)
    live.update(moved, step=1)
    torch.testing.assert_close(live.network.state_dict()[name], start + 0.1)
    torch.testing.assert_close(student.state_dict()[name], start)
    again = LiveEma(student, decay=0.9)
    again.restore({key: tensor.clone() for key, tensor in live.average.state.items()})
    torch.testing.assert_close(again.network.state_dict()[name], start + 0.1)


def test_live_scores_are_inner_products_without_gradient(collection: Collection) -> None:
    import numpy as np

    from sdretrieval.encode.tokens import tokenize

    student = collection.student
    tokens = tokenize(collection.documents[:5], student.model.tokenizer)
    pieces = [student.view.cut(ids, student.document_specials)[0] for ids in tokens]
    queries = features_of(student.model, pieces[:2], student.document_specials)
    parts = [
        features_of(student.model, pieces[2:4], student.document_specials),
        features_of(student.model, pieces[4:], student.document_specials),
    ]
    scores = LiveEma(student.model, decay=0.9).matrix([queries], parts)
    vectors = student.model.encode(collection.documents[:5])
    np.testing.assert_allclose(scores.numpy(), vectors[:2] @ vectors[2:].T, atol=1e-5)
    assert not scores.requires_grad
