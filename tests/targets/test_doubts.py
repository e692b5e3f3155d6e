"""Which labels and which first documents of the student are doubted, and in what order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from score_strategies import score_lists

from sdretrieval.ragged import Ragged
from sdretrieval.targets.doubts import Doubt, disagreements, doubtful_labels, label_shares
from sdretrieval.targets.temperature import log_softmax
from sdretrieval.training.losses import with_labels

SCORES = Ragged.of([[0.2, 0.9, 0.5], [0.1, 0.2], [3.0, -np.inf, 1.0], []], np.float64)
LABELS = Ragged.of([[True, False, False], [True, False], [False, True, False], []], np.bool_)


def flags(scores: Ragged, data: st.DataObject) -> Ragged:
    drawn = data.draw(st.lists(st.booleans(), min_size=len(scores.values_T), max_size=len(scores.values_T)))
    return scores.with_values(np.array(drawn, dtype=np.bool_))


def test_labels_are_doubted_by_how_far_the_teacher_finds_them_behind() -> None:
    found = doubtful_labels(SCORES, LABELS)
    assert [one[:3] for one in found] == [(0, 0, 1), (1, 0, 1)], "what the teacher did not score is not doubted"
    np.testing.assert_allclose([one.gap for one in found], [0.7, 0.1])


@given(score_lists(), st.data())
def test_promises_of_doubts(scores: Ragged, data: st.DataObject) -> None:
    positive = flags(scores, data)
    student = scores.with_values(np.random.default_rng(3).permutation(scores.values_T))
    doubted, differing = doubtful_labels(scores, positive), disagreements(scores, student, positive)
    for found in (doubted, differing):
        assert [one.gap for one in found] == sorted((one.gap for one in found), reverse=True)
        for one in found:
            own, known = scores[one.query_position], positive[one.query_position]
            assert one.gap > 0 and not known[one.rival]
            assert own[one.rival] == own[~known].max()
    assert all(positive[one.query_position][one.doubted] for one in doubted)
    assert len({one.query_position for one in differing}) == len(differing)
    for one in differing:
        theirs = student[one.query_position]
        assert not positive[one.query_position].any() and theirs[one.doubted] == theirs.max()


@given(score_lists(), st.floats(0, 12), st.data())
def test_the_share_that_labels_keep_is_that_of_the_target(scores: Ragged, evidence: float, data: st.DataObject) -> None:
    positive = flags(scores, data)
    log_probs = log_softmax(scores, 1.0)
    for own, known, share in zip(log_probs, positive, label_shares(log_probs, positive, evidence), strict=True):
        if not known.any():
            assert np.isnan(share)
            continue
        row = torch.as_tensor(np.array(own))[None]
        target = with_labels(row, torch.as_tensor(np.array(known))[None], evidence).exp()[0].numpy()
        assert share == pytest.approx(target[known].sum(), abs=1e-6)


def test_student_and_teacher_differ_only_where_nothing_is_labelled() -> None:
    student = Ragged.of([[0.9, 0.1, 0.2], [0.9, 0.1], [0.1, 0.9, 0.5], []], np.float64)
    nothing = LABELS.with_values(np.zeros(8, dtype=np.bool_)[: len(LABELS.values_T)])
    assert [one[:3] for one in disagreements(SCORES, student, nothing)] == [(2, 2, 0), (0, 0, 1), (1, 0, 1)], (
        "a document that the teacher did not score is nobody's first"
    )
    assert disagreements(SCORES, student, LABELS) == []
    assert disagreements(SCORES, SCORES, nothing) == []
    assert isinstance(disagreements(SCORES, student, nothing)[0], Doubt)
