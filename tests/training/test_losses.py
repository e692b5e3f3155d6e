"""Losses: what they measure, what they leave out, and that nothing empty turns into a gradient that is no number."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.errors import NumericError
from sdretrieval.training.distillation import EmbeddingDistillation, ListwiseDistillation, MarginDistillation
from sdretrieval.training.losses import anchors, embedding_distance, info_nce, listwise_kl, margin_mse, with_labels

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
    assert float(found) == pytest.approx((3 * first + second) / 2, rel=1e-5)


def test_a_query_whose_documents_are_all_left_out_counts_nothing() -> None:
    student = torch.tensor([[0.3, 0.1], [0.2, 0.9]], requires_grad=True)
    targets = torch.tensor([[-torch.inf, -torch.inf], [-0.1, -2.3522]])
    weight = torch.tensor([0.0, 1.0])
    loss = listwise_kl(student, targets, TEMPERATURE, weight)
    alone = listwise_kl(student[1:], targets[1:], TEMPERATURE, weight[1:])
    torch.testing.assert_close(2 * loss, alone)
    _backward_without_nan(loss)
    assert student.grad is not None and student.grad[0].tolist() == [0.0, 0.0]
    assert float(listwise_kl(student[:1], targets[:1], TEMPERATURE, weight[:1]).detach()) == 0.0


def test_info_nce_equals_the_ratio_by_hand() -> None:
    student = torch.tensor([[0.10, 0.05, 0.00, 0.90], [0.20, 0.00, 0.10, 0.00]])
    positive = torch.tensor([[True, False, False, False], [True, False, True, False]])
    negative = torch.tensor([[False, True, True, False], [False, True, False, True]])
    first = -np.log(np.exp(2) / (np.exp(2) + np.exp(1) + np.exp(0)))  # the fourth document is neither: left out
    second = -np.log((np.exp(4) + np.exp(2)) / (np.exp(4) + np.exp(2) + 2 * np.exp(0)))
    assert info_nce(student, positive, negative, TEMPERATURE).tolist() == pytest.approx([first, second], rel=1e-5)


def test_a_query_without_positives_does_not_count_in_info_nce() -> None:
    student = torch.tensor([[0.1, 0.2, 0.3], [0.4, 0.2, 0.0]], requires_grad=True)
    positive = torch.tensor([[True, False, False], [False, False, False]])
    negative = torch.tensor([[False, True, True], [False, False, False]])
    loss = info_nce(student, positive, negative, TEMPERATURE)
    torch.testing.assert_close(loss[:1], info_nce(student[:1], positive[:1], negative[:1], TEMPERATURE))
    _backward_without_nan(loss.sum())
    assert student.grad is not None and student.grad[1].tolist() == [0.0, 0.0, 0.0]
    assert float(loss[1].detach()) == 0.0


@given(batches())
def test_a_query_counts_the_same_whichever_queries_share_its_batch(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> None:
    student, targets, weight = batch
    alone = [
        listwise_kl(student[b : b + 1], targets[b : b + 1], TEMPERATURE, weight[b : b + 1]) for b in range(len(weight))
    ]
    torch.testing.assert_close(listwise_kl(student, targets, TEMPERATURE, weight), torch.stack(alone).mean())


def test_with_a_one_hot_teacher_kl_and_info_nce_have_the_same_gradient() -> None:
    """So no squared temperature is wanted: both terms are divided by the student's temperature, once."""
    gradients = []
    for hard in (False, True):
        student = torch.tensor([[0.3, 0.1, 0.2], [0.0, 0.4, 0.1]], requires_grad=True)
        positive = torch.tensor([[True, False, False], [False, False, True]])
        one_hot = torch.where(positive, 0.0, -60.0)
        loss = (
            info_nce(student, positive, ~positive, TEMPERATURE).mean()
            if hard
            else listwise_kl(student, one_hot, TEMPERATURE, torch.ones(2))
        )
        loss.backward()
        gradients.append(student.grad)
    torch.testing.assert_close(*gradients)


def test_the_gradient_of_kl_is_the_difference_of_probabilities_over_the_temperature() -> None:
    student = torch.tensor([[0.3, 0.1, 0.2]], requires_grad=True)
    targets = torch.log(torch.tensor([[0.2, 0.5, 0.3]]))
    listwise_kl(student, targets, TEMPERATURE, torch.tensor([1.5])).backward()
    expected = 1.5 * (torch.softmax(student.detach() / TEMPERATURE, dim=-1) - targets.exp()) / TEMPERATURE
    torch.testing.assert_close(student.grad, expected)


@given(batches(), st.floats(0, 12), st.integers(0, 1000))
def test_a_label_multiplies_its_documents_odds_against_the_others_and_nothing_else(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], evidence: float, seed: int
) -> None:
    _, targets, _ = batch
    positive = torch.tensor(np.random.default_rng(seed).random(targets.shape) < 0.4)
    found = with_labels(targets, positive, evidence)
    assert torch.equal(torch.isneginf(found), torch.isneginf(targets)), "what is excluded stays so, labelled or not"
    for b in range(len(targets)):
        known = ~torch.isneginf(targets[b])
        if known.any():
            torch.testing.assert_close(found[b].exp().sum(), torch.tensor(1.0))
            gained = (found[b] - targets[b])[known] - evidence * positive[b][known]
            torch.testing.assert_close(gained, gained[:1].expand_as(gained), rtol=1e-4, atol=1e-4)


def plain_margins(
    student: torch.Tensor, teacher: torch.Tensor, anchor: torch.Tensor, excluded: torch.Tensor, scale: float
) -> list[float]:
    """MarginMSE pair by pair, query by query."""
    found = []
    for s, t, a, out in zip(student.tolist(), teacher.tolist(), anchor.tolist(), excluded.tolist(), strict=True):
        pairs = [
            (((s[i] - s[j]) - scale * (t[i] - t[j])) / TEMPERATURE) ** 2 / 4
            for i, j in product(range(len(s)), repeat=2)
            if i != j and a[i] and not out[i] and not out[j]
        ]
        found.append(sum(pairs) / len(pairs) if pairs else 0.0)
    return found


@given(batches(), st.floats(0.01, 2), st.integers(0, 1000))
def test_margin_mse_is_its_definition_pair_by_pair(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], scale: float, seed: int
) -> None:
    student, targets, _ = batch
    anchor = torch.tensor(np.random.default_rng(seed).random(student.shape) < 0.4)
    excluded = torch.isneginf(targets)
    student.requires_grad_(True)
    found = margin_mse(student, targets, anchor, excluded, scale, TEMPERATURE)
    expected = plain_margins(student, targets, anchor, excluded, scale)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=2e-3, atol=1e-2)
    found.sum().backward()
    assert student.grad is not None and bool(torch.isfinite(student.grad).all())
    assert bool((student.grad[excluded] == 0).all())


def test_the_gradient_of_margin_mse_is_that_of_its_pairs() -> None:
    generator = torch.Generator().manual_seed(3)
    student = torch.randn(2, 5, generator=generator, dtype=torch.float64).float().requires_grad_(True)
    teacher, excluded = torch.randn(2, 5, generator=generator), torch.zeros(2, 5, dtype=torch.bool)
    anchor = torch.tensor([[True, False, True, False, False], [False, False, False, False, True]])
    margin_mse(student, teacher, anchor, excluded, 0.3, 0.5).sum().backward()
    again = student.detach().clone().requires_grad_(True)
    total = torch.zeros(())
    for b in range(2):
        pairs = [(i, j) for i in range(5) for j in range(5) if anchor[b, i] and i != j]
        for i, j in pairs:
            error = (again[b, i] - again[b, j]) - 0.3 * (teacher[b, i] - teacher[b, j])
            total = total + (error / 0.5) ** 2 / 4 / len(pairs)
    total.backward()
    torch.testing.assert_close(student.grad, again.grad, rtol=1e-4, atol=1e-5)


@given(batches(), st.floats(-5, 5), st.floats(-0.5, 0.5))
def test_margins_do_not_see_a_constant_of_either_side(
    batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor], of_teacher: float, of_student: float
) -> None:
    student, targets, _ = batch
    anchor, excluded = torch.ones_like(targets, dtype=torch.bool), torch.isneginf(targets)
    one = margin_mse(student, targets, anchor, excluded, 0.1, 1.0)
    other = margin_mse(student + of_student, targets + of_teacher, anchor, excluded, 0.1, 1.0)
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def test_near_the_target_margins_of_all_pairs_are_the_divergence() -> None:
    generator = torch.Generator().manual_seed(5)
    logits = 1e-2 * torch.randn(1, 2000, generator=generator)
    error = 1e-2 * torch.randn(1, 2000, generator=generator)
    targets = torch.log_softmax(logits, dim=-1)
    student = (logits + error) * TEMPERATURE
    everyone, nobody = torch.ones(1, 2000, dtype=torch.bool), torch.zeros(1, 2000, dtype=torch.bool)
    margins = margin_mse(student, targets, everyone, nobody, TEMPERATURE, TEMPERATURE)
    kl = listwise_kl(student, targets, TEMPERATURE, torch.ones(1))
    assert float(margins) == pytest.approx(float(kl), rel=0.05)


def test_anchors_are_the_known_positives_else_the_teachers_best() -> None:
    targets = torch.tensor([[-3.0, -0.1, -2.0], [-3.0, -0.1, -2.0], [-3.0, -torch.inf, -0.1], [-torch.inf] * 3])
    positive = torch.tensor([[True, False, True], [False] * 3, [False, True, False], [True, False, False]])
    assert anchors(positive, targets).tolist() == [
        [True, False, True],
        [False, True, False],
        [False, False, True],  # its positive was left out by the teacher
        [False, False, False],
    ]


def test_embedding_distance_is_two_less_two_cosines() -> None:
    student, teacher = torch.tensor([[3.0, 0.0], [0.0, 2.0], [1.0, 1.0]]), torch.tensor([[1.0, 0.0]] * 3)
    torch.testing.assert_close(embedding_distance(student, teacher), torch.tensor([0.0, 2.0, 2 - 2 * 0.5**0.5]))


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
    loss = ListwiseDistillation(Fixed(), student_temperature=1.0, hard_label_weight=0.5, labelled_share=0.25)
    parts = [{"vectors": queries}, {"vectors": documents[[2, 0]]}, {"vectors": documents[[3, 1]]}]
    labels = labels_of(targets, order=[1, 3, 0, 2])
    terms = loss(parts, labels)
    scores = queries @ documents.T
    torch.testing.assert_close(terms["kl"], listwise_kl(scores, targets, 1.0, torch.ones(2)))
    hard = info_nce(scores, labels["positive_BM"], labels["negative_BM"], 1.0)
    torch.testing.assert_close(terms["hard"], 0.5 * hard.mean() / 0.25)


def test_labels_are_evidence_in_the_target_of_both_losses() -> None:
    queries, documents = torch.nn.functional.normalize(torch.randn(5, 4), dim=-1).split([2, 3])
    targets = torch.log_softmax(torch.randn(2, 3), dim=-1)
    labels, parts = labels_of(targets, order=[0, 1, 2]), [{"vectors": queries}, {"vectors": documents}]
    known = {**labels, "target_log_probs_BM": with_labels(targets, labels["positive_BM"], 4.0)}
    margins: dict[str, float] = {"target_temperature": 0.5, "scale": 0.1}
    for kind, others in ((ListwiseDistillation, {}), (MarginDistillation, margins)):
        found = kind(Fixed(), student_temperature=1.0, label_evidence=4.0, **others)(parts, labels)
        expected = kind(Fixed(), student_temperature=1.0, **others)(parts, known)
        torch.testing.assert_close(found, expected)
        assert set(found) == {kind.name}


def test_labelled_queries_count_the_same_however_an_update_is_cut_into_batches() -> None:
    """Three of four queries have a positive; the batches of an update hold two of them and one."""
    queries, documents = torch.randn(4, 5), torch.randn(3, 5)
    targets = torch.log_softmax(torch.randn(4, 3), dim=-1)
    loss = ListwiseDistillation(Fixed(), student_temperature=1.0, hard_label_weight=0.5, labelled_share=0.75)
    labels = labels_of(targets, [0, 1, 2]) | {"weight_B": torch.ones(4), "queries_B": torch.arange(4)}
    labels["positive_BM"][3] = False

    def hard(rows: slice) -> torch.Tensor:
        part = {name: value if name == "order_M" else value[rows] for name, value in labels.items()}
        return loss([{"vectors": queries[rows]}, {"vectors": documents}], part)["hard"]

    torch.testing.assert_close((hard(slice(0, 2)) + hard(slice(2, 4))) / 2, hard(slice(0, 4)))


def test_margins_are_those_of_the_scores_behind_the_log_probabilities() -> None:
    scores_BM = torch.tensor([[2.0, 0.0, -1.0], [0.5, 1.0, 3.0]])
    targets = torch.log_softmax(scores_BM / 0.7, dim=-1)
    queries, documents = torch.nn.functional.normalize(torch.randn(5, 4), dim=-1).split([2, 3])
    loss = MarginDistillation(Fixed(), target_temperature=0.7, scale=0.05, student_temperature=TEMPERATURE)
    labels = labels_of(targets, [0, 1, 2]) | {"weight_B": torch.tensor([0.5, 1.5])}
    found = loss([{"vectors": queries}, {"vectors": documents}], labels)
    anchor = labels["positive_BM"]
    each = plain_margins(queries @ documents.T, scores_BM, anchor, torch.zeros_like(anchor), 0.05)
    assert float(found["margin_mse"]) == pytest.approx((0.5 * each[0] + 1.5 * each[1]) / 2, rel=1e-3)


def test_the_embedding_term_is_the_queries_weighted_mean_and_the_documents_plain_one() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(10, 4), dim=-1)
    asked, shown, asked_wanted, shown_wanted = vectors.split([2, 3, 2, 3])
    labels = labels_of(torch.log_softmax(torch.randn(2, 3), dim=-1), [1, 2, 0]) | {
        "weight_B": torch.tensor([0.0, 2.0]),
        "teacher_queries_BD": asked_wanted,
        "teacher_documents_MD": shown_wanted,
    }
    loss = EmbeddingDistillation(Fixed(), student_temperature=1.0, hard_label_weight=0.3)
    found = loss([{"vectors": asked}, {"vectors": shown[[2, 0, 1]]}], labels)
    expected = (asked[1] - asked_wanted[1]).square().sum() + (shown - shown_wanted).square().sum(dim=-1).mean()
    torch.testing.assert_close(found["embedding"], expected)
    assert set(found) == {"embedding", "hard"}


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


class TwoSides(torch.nn.Module):
    """Gives back the vectors that it is shown."""

    def forward(self, features: dict[str, Any]) -> dict[str, Any]:
        return {"sentence_embedding": features["vectors"]}


def test_a_student_whose_half_says_what_the_teacher_adds_has_nothing_to_learn() -> None:
    generator = torch.Generator().manual_seed(3)
    queries, documents = (torch.randn(n, 4, generator=generator, requires_grad=True) for n in (3, 5))
    half_BM = torch.rand(3, 5, generator=generator)
    target_BM = torch.log_softmax((queries @ documents.T + half_BM).detach() / TEMPERATURE, dim=-1)
    labels = {"target_log_probs_BM": target_BM, "order_M": torch.arange(5), "weight_B": torch.ones(3)}
    labels["queries_B"] = torch.arange(3)
    model: Any = TwoSides()
    gradients = []
    for extra in ({"half_BM": half_BM}, {}):
        loss = ListwiseDistillation(model, student_temperature=TEMPERATURE)
        term = loss([{"vectors": queries}, {"vectors": documents}], {**labels, **extra})["kl"]
        gradients.append(float(torch.autograd.grad(term, queries)[0].abs().max()))
    assert gradients[0] < 1e-3 < gradients[1]
