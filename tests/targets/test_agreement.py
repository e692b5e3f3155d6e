"""Agreement of an ensemble's members: on a list, and over all lists, without a label."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from score_strategies import gaussian, score_lists

from sdretrieval.errors import WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.confidence import agreement_weights, consensus_correlations, list_agreement, rank_correlations


@given(score_lists(), st.integers(0, 100), st.floats(0.05, 5), st.floats(0.05, 0.95))
def test_list_agreement_lies_between_0_and_1_and_needs_no_order_of_members(
    one: Ragged, seed: int, temperature: float, share: float
) -> None:
    other = one.with_values(np.random.default_rng(seed).normal(size=len(one.values_T)).astype(np.float32))
    found = list_agreement([one, other], [share, 1 - share], temperature)
    assert ((found >= 0) & (found <= 1)).all()
    np.testing.assert_allclose(found, list_agreement([other, one], [1 - share, share], temperature), atol=1e-6)
    np.testing.assert_allclose(list_agreement([one, one], [share, 1 - share], temperature), 1.0, atol=1e-6)


def test_list_agreement_equals_the_divergence_by_hand() -> None:
    p, q = np.array([0.7, 0.2, 0.1]), np.array([0.1, 0.2, 0.7])
    lists = [Ragged.of([np.log(one) * 0.5], np.float64) for one in (p, q)]
    mean = 0.25 * p + 0.75 * q
    divergence = 0.25 * (p * np.log(p / mean)).sum() + 0.75 * (q * np.log(q / mean)).sum()
    greatest = -(0.25 * np.log(0.25) + 0.75 * np.log(0.75))
    assert list_agreement(lists, [0.25, 0.75], 0.5)[0] == pytest.approx(1 - divergence / greatest, abs=1e-9)


def test_members_that_are_each_sure_of_another_document_do_not_agree_at_all() -> None:
    one, other = (
        Ragged.of([[500.0, 0.0], [500.0, 0.0]], np.float32),
        Ragged.of([[0.0, 500.0], [500.0, 0.0]], np.float32),
    )
    np.testing.assert_allclose(list_agreement([one, other], [1, 1], 0.5), [0.0, 1.0], atol=1e-9)


def test_a_member_of_weight_0_is_not_asked() -> None:
    one, other = gaussian(3, 5), gaussian(3, 5, seed=1)
    assert list_agreement([one, other], [1.0, 0.0], 1.0).tolist() == [1.0, 1.0, 1.0]


@given(score_lists())
@settings(deadline=None)
def test_rank_correlations_are_scipys(one: Ragged) -> None:
    other = one.with_values(np.random.default_rng(3).normal(size=len(one.values_T)))
    for found, a, b in zip(rank_correlations(one, other), one, other, strict=True):
        flat = len(a) < 2 or np.ptp(a) == 0
        assert found == pytest.approx(0.0 if flat else spearmanr(a, b).statistic, abs=1e-9)


def test_who_contradicts_the_others_gets_less_and_who_is_random_nothing_to_speak_of() -> None:
    truth = gaussian(200, 10).values_T.reshape(200, 10)
    noise = np.random.default_rng(5).normal(size=(4, 200, 10))
    members = [
        Ragged.of(list(rows), np.float32)
        for rows in (truth + 0.3 * noise[0], truth + 0.3 * noise[1], truth + 2.0 * noise[2], noise[3])
    ]
    found = consensus_correlations(members)
    weights = agreement_weights(found)
    assert weights.sum() == pytest.approx(1.0)
    assert min(weights[:2]) > weights[2] > weights[3]
    assert abs(found[3]) < 0.1


def test_two_members_vouch_for_each_other_alike() -> None:
    weights = agreement_weights(consensus_correlations([gaussian(20, 6), gaussian(20, 6)]))
    assert weights.tolist() == [0.5, 0.5]


def test_a_member_against_all_others_weighs_nothing() -> None:
    one = gaussian(30, 8)
    against = one.with_values(-one.values_T)
    assert agreement_weights(consensus_correlations([one, one, one, against]))[3] == 0.0
    with pytest.raises(WorkError, match=r"no member agrees with the others \(mean rank correlations -1.00, -1.00\)"):
        agreement_weights(consensus_correlations([one, against]))


def test_what_no_agreement_can_be_read_from_is_refused() -> None:
    with pytest.raises(WorkError, match="two members or more, found one"):
        consensus_correlations([gaussian(3, 4)])
    with pytest.raises(WorkError, match=r"lists of 3 candidates or more, found none; raise mine\.keep"):
        consensus_correlations([gaussian(3, 2), gaussian(3, 2)])
