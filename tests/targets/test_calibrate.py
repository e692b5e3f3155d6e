"""Calibration makes scales comparable, and names the score that it cannot use."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_strategies import gaussian, score_lists

from sdretrieval.errors import NumericError, RequestError, WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.calibrate import (
    EVIDENCE,
    LEAST_SPREAD,
    apply,
    calibrate,
    corpus_statistics,
    list_statistics,
    log_odds_statistics,
    logistic_statistics,
    mean_spread,
    mix_matrices,
    statistics_for,
    top_statistics,
    unit_statistics,
)


@given(score_lists())
def test_z_scores_have_mean_0_and_deviation_1_or_are_all_0(raw: Ragged) -> None:
    for before, after in zip(raw, calibrate(raw, list_statistics(raw)), strict=True):
        if len(before) == 0:
            continue
        assert abs(after.mean()) < 1e-3
        if before.std(dtype=np.float64) > 1e-5 * np.abs(before).max():
            assert after.std() == pytest.approx(1.0, abs=1e-3)


@given(score_lists(-5, 5, min_size=1), st.integers(-50, 50), st.integers(1, 8))
def test_neither_a_constant_nor_a_factor_changes_z_scores(raw: Ragged, constant: int, factor: int) -> None:
    coarse = raw.with_values(np.round(raw.values_T * 64) / 64)  # exact in float32 after the shift
    moved = coarse.with_values((coarse.values_T * factor + constant).astype(np.float32))
    expected = calibrate(coarse, list_statistics(coarse)).values_T
    np.testing.assert_allclose(calibrate(moved, list_statistics(moved)).values_T, expected, atol=1e-5)


def test_equal_scores_become_0_and_do_not_divide_by_0() -> None:
    raw = Ragged.of([[0.1] * 7, [3.0], [], [-2.5, -2.5]], np.float32)
    statistics = list_statistics(raw)
    assert statistics.scale_Q.tolist() == [1.0, 1.0, 1.0, 1.0]
    np.testing.assert_allclose(calibrate(raw, statistics).values_T, 0.0, atol=1e-7)


def test_float32_rounding_is_not_made_a_preference() -> None:
    one = np.float32(0.8)
    raw = Ragged.of([[one, one, np.nextafter(one, np.float32(1))]], np.float32)
    assert np.abs(calibrate(raw, list_statistics(raw)).values_T).max() < 1e-6


def test_minmax_clips_at_percentiles_of_the_whole_corpus() -> None:
    scores = np.arange(1001, dtype=np.float32)
    scores[-1] = 1e6  # one absurd score must not set the scale
    raw = Ragged.of([scores[:500], scores[500:]], np.float32)
    after = calibrate(raw, corpus_statistics(raw)).values_T
    assert (after.min(), after.max(), after[-1]) == (0.0, 1.0, 1.0)
    assert after[500] == pytest.approx(0.5, abs=1e-3)
    assert after[:10].max() == 0.0


@given(score_lists())
def test_minmax_keeps_order_across_queries(raw: Ragged) -> None:
    after = calibrate(raw, corpus_statistics(raw)).values_T
    assert np.all((after >= 0) & (after <= 1))
    assert np.all(np.diff(after[np.argsort(raw.values_T, kind="stable")]) >= 0)


@given(score_lists())
def test_none_changes_nothing(raw: Ragged) -> None:
    np.testing.assert_array_equal(calibrate(raw, statistics_for("none", raw)).values_T, raw.values_T)


def test_top_statistics_leave_padding_out() -> None:
    scores_Qk = np.array([[3.0, 1.0, -np.inf, np.nan], [2.0, 2.0, 2.0, 2.0], [-np.inf] * 4], dtype=np.float32)
    statistics = top_statistics(scores_Qk)
    assert statistics.centre_Q.tolist() == [2.0, 2.0, 0.0]
    assert statistics.scale_Q.tolist() == [1.0, LEAST_SPREAD, LEAST_SPREAD]
    assert top_statistics(scores_Qk[1:]).scale_Q.tolist() == [1.0, 1.0], "no query's scores differ"
    full = gaussian(3, 9)
    top, lists = top_statistics(full.values_T.reshape(3, 9)), list_statistics(full)
    np.testing.assert_allclose(top.centre_Q, lists.centre_Q)
    np.testing.assert_allclose(top.scale_Q, lists.scale_Q)


@given(gap=st.floats(0, 1e-2), found=st.integers(1, 3))
def test_few_nearly_equal_documents_do_not_let_a_small_member_decide(gap: float, found: int) -> None:
    """BM25 finds one to three documents for a query, and a hundred for the others; it has a weight of 0.1."""
    bm25_Qk = np.random.default_rng(0).normal(10, 2, (30, 100))
    bm25_Qk[7] = -np.inf
    bm25_Qk[7, :found] = 10 + gap * np.arange(found)
    own = np.array([[0.0, *bm25_Qk[7, :found]]])  # of the document that the other member finds best, and of these
    z_BN = apply(own, top_statistics(bm25_Qk), np.array([7]))
    assert z_BN.min() > -25
    other_BN = np.array([[3.0, *[-1.0] * found]])
    assert mix_matrices([other_BN, z_BN], [0.9, 0.1]).argmax() == 0


@settings(deadline=None)  # scipy's optimiser is imported
@given(score_lists())
def test_evidence_is_bounded_and_keeps_order_across_queries(raw: Ragged) -> None:
    after = calibrate(raw, logistic_statistics(raw)).values_T
    assert np.all((after >= 0) & (after <= EVIDENCE))
    assert np.all(np.diff(after[np.argsort(raw.values_T, kind="stable")]) >= 0)


def test_the_best_of_a_list_of_low_scores_is_little_evidence() -> None:
    """A cross-encoder finds nothing for every second query: a z-score would call its best as good as any other."""
    generator = np.random.default_rng(3)
    lists = [np.append(generator.normal(-8, 2, 15), [generator.normal(6, 1)] * (q % 2)) for q in range(60)]
    after = calibrate(Ragged.of(lists, np.float32), logistic_statistics(Ragged.of(lists, np.float32)))
    found, nothing = [after[q].max() for q in range(1, 60, 2)], [after[q].max() for q in range(0, 60, 2)]
    assert min(found) > 0.9 * EVIDENCE
    assert np.median(nothing) < 0.5 * EVIDENCE


def test_lists_that_say_nothing_are_no_preference() -> None:
    for raw in (Ragged.of([[2.0, 2.0], [2.0]], np.float32), Ragged.of([[1.0], [5.0]], np.float32)):
        after = calibrate(raw, logistic_statistics(raw))
        assert np.isfinite(after.values_T).all()
        assert after[0].min() == after[0].max()
    assert len(calibrate(Ragged.of([], np.float32), logistic_statistics(Ragged.of([], np.float32)))) == 0


def test_the_units_of_the_absolute_scale() -> None:
    assert mean_spread([np.array([1.0, 3.0]), np.array([0.0, 0.0, 6.0, 6.0]), np.array([])]) == 2.0
    assert mean_spread([np.array([1.0, 1.0])]) == mean_spread([]) == 1.0
    unit = unit_statistics(np.array([8.0, 0.0], dtype=np.float32))
    halves = calibrate(Ragged.of([[4.0, 0.0], [0.0]], np.float32), unit)
    assert halves.values_T.tolist() == [EVIDENCE / 2, 0.0, 0.0]


def test_log_odds_have_one_scale_for_all_queries() -> None:
    scores = np.array([[3.0, 1.0], [8.0, np.nan]])
    statistics = log_odds_statistics(scores, 2)
    assert statistics.centre_Q.tolist() == [3.0, 3.0]
    assert statistics.scale_Q.tolist() == [pytest.approx(np.std([3.0, 1.0, 8.0]))] * 2


@pytest.mark.parametrize("kind", ["absolute", "zscore", "minmax", "log_odds", "none"])
def test_a_matrix_is_calibrated_as_the_lists_are(kind: str) -> None:
    raw = gaussian(5, 6)
    statistics = statistics_for(kind, raw)  # type: ignore[arg-type]
    positions = np.array([4, 1, 1])
    expected = calibrate(raw, statistics).values_T.reshape(5, 6)[positions]
    np.testing.assert_array_equal(apply(raw.values_T.reshape(5, 6)[positions], statistics, positions), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_bad_score_is_named(bad: float) -> None:
    raw = Ragged.of([[1.0, 2.0], [], [0.0, 1.0, bad]], np.float32)
    for work in (list_statistics, corpus_statistics, lambda r, m: statistics_for("none", r, m)):
        with pytest.raises(NumericError, match=r"bm25: score of query position 2, candidate position 2 is -?(nan|inf)"):
            work(raw, "bm25")
    good = gaussian(3, 2)
    with pytest.raises(NumericError, match="ema: score of query position 2, document column 1 is"):
        apply(np.array([[0.0, 0.0], [1.0, bad]]), list_statistics(good), np.array([0, 2]), "ema")


def test_other_misuse_is_named() -> None:
    with pytest.raises(
        RequestError, match="calibrate is 'sigmoid', expected one of absolute, zscore, minmax, log_odds, none"
    ):
        statistics_for("sigmoid", gaussian(1, 2))  # type: ignore[arg-type]
    with pytest.raises(WorkError, match="cross_encoder: 2 lists, but statistics of 3 queries"):
        calibrate(gaussian(2, 2), list_statistics(gaussian(3, 2)), "cross_encoder")
