"""Losses: what they measure, what they leave out, and that nothing empty turns into a gradient that is no number."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.errors import NumericError
from sdretrieval.training.distillation import ListwiseDistillation
from sdretrieval.training.losses import info_nce, listwise_kl

TEMPERATURE = 0.05


@st.composite
def batches(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Student scores, target log-probabilities with documents left out (maybe a whole row), weights."""
    queries, documents = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    student = torch.tensor(generator.uniform(-1, 1, (queries, documents)), dtype=torch.float32)
    scores = torch.tensor(generator.normal(0, 3, (queries, documents)), dtype=torch.float32)
    scores[torch.tensor(generator.random((queries, documents)) < draw(st.sampled_from([0.0, 0.4, 0.9])))] = -torch.inf
    targets = torch.nan_to_num(torch.log_softmax(scores, dim=-1), nan=-torch.inf, neginf=-torch.inf)
    return student, targets, torch.tensor(generator.uniform(0, 2, queries), dtype=torch.float32)


@given(batches())
def test_kl_is_never_negative_and_its_gradient_always_a_number(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    student, targets, weight = batch
    student.requires_grad_(True)
    loss = listwise_kl(student, targets, TEMPERATURE, weight)
    loss.backward()
    assert float(loss.detach()) >= -1e-5
    assert student.grad is not None and bool(torch.isfinite(student.grad).all())
    assert bool((student.grad[torch.isneginf(targets)] == 0).all())


@given(batches())
def test_kl_is_zero_where_the_student_says_what_the_target_says(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    _, targets, weight = batch
    same = torch.where(torch.isneginf(targets), 5.0, targets * TEMPERATURE)
    assert float(listwise_kl(same, targets, TEMPERATURE, weight)) == pytest.approx(0.0, abs=1e-4)


@given(batches(), st.floats(-1, 1))
def test_a_constant_added_to_a_querys_scores_changes_nothing(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], constant: float
) -> None:
    student, targets, weight = batch
    before = float(listwise_kl(student, targets, TEMPERATURE, weight))
    assert float(listwise_kl(student + constant, targets, TEMPERATURE, weight)) == pytest.approx(before, abs=1e-3)


def _backward_without_nan(loss: torch.Tensor) -> None:
    """Anomaly detection finds a NaN on the way, also one that a mask would hide again."""
    with pytest.warns(UserWarning, match="Anomaly Detection"), torch.autograd.detect_anomaly(check_nan=True):
        loss.backward()


def test_kl_equals_the_sum_by_hand() -> None:
    student = torch.tensor([[0.1, 0.0, 0.9], [0.2, 0.2, 0.0]])
    targets = torch.log(torch.tensor([[0.7, 0.3, 0.0], [0.5, 0.25, 0.25]]))
    first = np.exp([2.0, 0.0])
    first = 0.7 * np.log(0.7 / (first[0] / first.sum())) + 0.3 * np.log(0.3 / (first[1] / first.sum()))
    second = np.exp([4.0, 4.0, 0.0])
    second = float(np.sum([p * np.log(p / q) for p, q in zip([0.5, 0.25, 0.25], second / second.sum(), strict=True)]))
    found = listwise_kl(student, targets, TEMPERATURE, torch.tensor([3.0, 1.0]))
    assert float(found) == pytest.approx((3 * first + second) / 4, rel=1e-5)


def test_a_query_whose_documents_are_all_left_out_counts_nothing() -> None:
    student = torch.tensor([[0.3, 0.1], [0.2, 0.9]], requires_grad=True)
    targets = torch.tensor([[-torch.inf, -torch.inf], [-0.1, -2.3522]])
    weight = torch.tensor([0.0, 1.0])
    loss = listwise_kl(student, targets, TEMPERATURE, weight)
    alone = listwise_kl(student[1:], targets[1:], TEMPERATURE, weight[1:])
    torch.testing.assert_close(loss, alone)
    _backward_without_nan(loss)
    assert student.grad is not None and student.grad[0].tolist() == [0.0, 0.0]
    assert float(listwise_kl(student[:1], targets[:1], TEMPERATURE, weight[:1]).detach()) == 0.0


def test_info_nce_equals_the_ratio_by_hand() -> None:
    student = torch.tensor([[0.10, 0.05, 0.00, 0.90], [0.20, 0.00, 0.10, 0.00]])
    positive = torch.tensor([[True, False, False, False], [True, False, True, False]])
    negative = torch.tensor([[False, True, True, False], [False, True, False, True]])
    first = -np.log(np.exp(2) / (np.exp(2) + np.exp(1) + np.exp(0)))  # the fourth document is neither: left out
    second = -np.log((np.exp(4) + np.exp(2)) / (np.exp(4) + np.exp(2) + 2 * np.exp(0)))
    assert float(info_nce(student, positive, negative, TEMPERATURE)) == pytest.approx((first + second) / 2, rel=1e-5)


def test_a_query_without_positives_does_not_count_in_info_nce() -> None:
    student = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.2, 0.0]], requires_grad=True)
    positive = torch.tensor([[True, False, False], [False, False, False]])
    negative = torch.tensor([[False, True, True], [False, False, False]])
    loss = info_nce(student, positive, negative, TEMPERATURE)
    torch.testing.assert_close(loss, info_nce(student[:1], positive[:1], negative[:1], TEMPERATURE))
    _backward_without_nan(loss)
    assert student.grad is not None and student.grad[1].tolist() == [0.0, 0.0, 0.0]
    assert float(info_nce(student, torch.zeros_like(positive), negative, TEMPERATURE).detach()) == 0.0


class Fixed(torch.nn.Module):
    """Gives the vectors it is asked for."""

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"sentence_embedding": features["vectors"]}


def labels_of(targets: torch.Tensor, order: list[int]) -> dict[str, torch.Tensor]:
    """Labels of a batch of two queries, the first positive for each its first document."""
    positive = torch.zeros_like(targets, dtype=torch.bool)
    positive[:, 0] = True
    return {
        "order_M": torch.tensor(order),
        "target_log_probs_BM": targets,
        "positive_BM": positive,
        "negative_BM": ~positive,
        "weight_B": torch.ones(2),
        "queries_B": torch.tensor([17, 4]),
        "positions_B": torch.tensor([0, 1]),
    }


def test_parts_of_the_documents_are_put_back_in_column_order() -> None:
    queries, documents = torch.randn(2, 5), torch.randn(4, 5)
    targets = torch.log_softmax(torch.randn(2, 4), dim=-1)
    loss = ListwiseDistillation(Fixed(), student_temperature=1.0, hard_label_weight=0.5)
    parts = [{"vectors": queries}, {"vectors": documents[[2, 0]]}, {"vectors": documents[[3, 1]]}]
    labels = labels_of(targets, order=[1, 3, 0, 2])
    terms = loss(parts, labels)
    scores = queries @ documents.T
    torch.testing.assert_close(terms["kl"], listwise_kl(scores, targets, 1.0, torch.ones(2)))
    hard = info_nce(scores, labels["positive_BM"], labels["negative_BM"], 1.0)
    torch.testing.assert_close(terms["hard"], 0.5 * hard)


@pytest.mark.parametrize(
    ("kl", "hard", "names"), [(1.0, 0.0, {"kl"}), (0.0, 1.0, {"hard"}), (2.0, 0.1, {"kl", "hard"})]
)
def test_a_term_of_weight_zero_is_not_computed(kl: float, hard: float, names: set[str]) -> None:
    loss = ListwiseDistillation(Fixed(), student_temperature=1.0, kl_weight=kl, hard_label_weight=hard)
    parts = [{"vectors": torch.randn(2, 5)}, {"vectors": torch.randn(3, 5)}]
    assert set(loss(parts, labels_of(torch.log_softmax(torch.randn(2, 3), dim=-1), [0, 1, 2]))) == names


def test_a_loss_that_is_no_number_names_step_and_batch() -> None:
    loss = ListwiseDistillation(Fixed(), student_temperature=1.0)
    loss.step = 41
    parts = [{"vectors": torch.full((2, 5), torch.nan)}, {"vectors": torch.randn(3, 5)}]
    expected = r"the term kl is not finite at step 42, in the batch of queries \[17, 4\]; lower train.learning_rate"
    with pytest.raises(NumericError, match=expected):
        loss(parts, labels_of(torch.log_softmax(torch.randn(2, 3), dim=-1), [0, 1, 2]))
