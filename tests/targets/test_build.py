"""Targets from scores: the parts together, and on disk."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from score_strategies import gaussian, score_lists

from sdretrieval.errors import DamagedArtifact, RequestError, WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.build import Targets, build_targets
from sdretrieval.targets.calibrate import calibrate, list_statistics
from sdretrieval.targets.temperature import perplexity


def first_positive(lists: Ragged) -> Ragged:
    flags = np.zeros(len(lists.values_T), dtype=np.bool_)
    flags[lists.offsets[:-1][lists.lengths > 0]] = True
    return lists.with_values(flags)


@given(score_lists(), st.floats(0.5, 10), st.data())
@settings(deadline=None)
def test_lists_sum_to_1_and_excluded_ones_are_out_of_everything(
    mixed: Ragged, temperature: float, data: st.DataObject
) -> None:
    size = len(mixed.values_T)
    out = mixed.with_values(np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), dtype=np.bool_))
    targets, report = build_targets(mixed, first_positive(mixed), temperature=temperature, excluded=out)
    for log_probs, gone, negative, weight in zip(
        targets.log_probs, out, targets.hard_negative, targets.weight_Q, strict=True
    ):
        assert np.array_equal(np.isneginf(log_probs), gone)
        assert not negative[gone].any()
        assert weight == float(len(log_probs) > gone.sum())
        if weight:
            assert np.logaddexp.reduce(log_probs.astype(np.float64)) == pytest.approx(0.0, abs=1e-5)
    assert report.removed == 0
    assert sum(targets.entropy_histogram.counts) == len(mixed)


def test_auto_fits_the_median_perplexity() -> None:
    raw = gaussian(50, 16)
    mixed = calibrate(raw, list_statistics(raw))
    targets, _ = build_targets(mixed, first_positive(mixed), temperature="auto", target_perplexity=3.0)
    assert np.median(perplexity(targets.log_probs)) == pytest.approx(3.0, rel=1e-3)
    fixed, _ = build_targets(mixed, first_positive(mixed), temperature=targets.temperature)
    np.testing.assert_array_equal(fixed.log_probs.values_T, targets.log_probs.values_T)


def test_false_negatives_leave_the_hard_term_but_not_the_soft_list() -> None:
    mixed = Ragged.of([[1.0, 2.0, -1.0]], np.float32)
    targets, report = build_targets(mixed, first_positive(mixed), temperature=1.0, rule="margin")
    assert targets.hard_negative[0].tolist() == [False, False, True]
    assert targets.log_probs[0].argmax() == 1
    assert report.removed == 1


def test_rules_judge_on_the_corpus_scale_where_it_is_given() -> None:
    raw = Ragged.of([[10.0, 9.0, 0.0], [4.0, 3.8, 0.0]], np.float32)
    mixed = calibrate(raw, list_statistics(raw))
    # A tenth of the range apart in list 0, a fiftieth in list 1: the margin 0.05 must tell them apart.
    targets, report = build_targets(mixed, first_positive(raw), temperature=1.0, rule="margin", teacher_raw=raw)
    assert [entries.tolist() for entries in targets.hard_negative] == [[False, True, True], [False, False, True]]
    assert report.examples[0].score == pytest.approx(0.38, abs=0.01)


def test_what_fills_a_gap_does_not_decide_what_is_usual() -> None:
    """The margin is a share of the range of known scores: a stand-in far below would make it wide."""
    raw = Ragged.of([[1.0, 0.9, -50.0]], np.float32)
    excluded = Ragged.of([[False, False, True]], np.bool_)
    known = Ragged.of([[1.0, 0.9]], np.float32)
    asked: dict[str, Any] = {"temperature": 1.0, "rule": "margin"}
    filled, _ = build_targets(raw, first_positive(raw), teacher_raw=raw, excluded=excluded, **asked)
    without, _ = build_targets(known, first_positive(known), teacher_raw=known, **asked)
    assert filled.hard_negative[0].tolist() == [*without.hard_negative[0].tolist(), False] == [False, True, False]


def test_what_a_person_found_not_relevant_is_a_hard_negative_whatever_the_rule_says() -> None:
    mixed = Ragged.of([[1.0, 2.0, 3.0, -1.0]], np.float32)
    confirmed = Ragged.of([[False, False, True, False]], np.bool_)
    targets, report = build_targets(mixed, first_positive(mixed), temperature=1.0, rule="margin", confirmed=confirmed)
    assert targets.hard_negative[0].tolist() == [False, False, True, True]
    assert (report.removed, [example.candidate_position for example in report.examples]) == (1, [1])


def test_a_share_of_a_z_score_is_refused() -> None:
    with pytest.raises(RequestError, match="percent_of_positive needs scores on the corpus' scale"):
        build_targets(gaussian(2, 3), first_positive(gaussian(2, 3)), temperature=1.0, rule="percent_of_positive")


def test_lists_that_do_not_fit_are_named() -> None:
    with pytest.raises(WorkError, match="positive holds 3 lists of 6 entries, mixed 2 of 6"):
        build_targets(gaussian(2, 3), first_positive(gaussian(3, 2)), temperature=1.0)
    targets, _ = build_targets(gaussian(2, 3), first_positive(gaussian(2, 3)), temperature=1.0)
    with pytest.raises(WorkError, match="1 weights for 2 lists"):
        replace(targets, weight_Q=targets.weight_Q[:1])


def test_save_and_load_give_the_same(tmp_path: Path) -> None:
    mixed = Ragged.of([[1.0, 2.0, 0.5], [], [3.0]], np.float32)
    excluded = Ragged.of([[False, False, True], [], [False]], np.bool_)
    targets, _ = build_targets(
        mixed, first_positive(mixed), temperature=0.7, excluded=excluded, rule="margin", teacher_raw=mixed
    )
    targets.save(tmp_path / "targets")
    loaded = Targets.load(tmp_path / "targets")
    scores_BM, positions = np.linspace(0, 4, 12, dtype=np.float32).reshape(3, 4), np.array([2, 0, 1])
    suspects = targets.suspicion.of(positions, scores_BM)
    assert suspects.any() and not suspects.all()
    np.testing.assert_array_equal(loaded.suspicion.of(positions, scores_BM), suspects)
    for name in ("log_probs", "hard_negative"):
        before, after = getattr(targets, name), getattr(loaded, name)
        np.testing.assert_array_equal(after.values_T, before.values_T)
        np.testing.assert_array_equal(after.offsets, before.offsets)
        assert after.values_T.dtype == before.values_T.dtype
    assert loaded.weight_Q.tolist() == [1.0, 0.0, 1.0]
    assert (loaded.temperature, loaded.entropy_histogram) == (0.7, targets.entropy_histogram)


def test_a_card_that_disagrees_is_damage(tmp_path: Path) -> None:
    build_targets(gaussian(2, 3), first_positive(gaussian(2, 3)), temperature=1.0)[0].save(tmp_path)
    card = json.loads((tmp_path / "targets.json").read_text())
    (tmp_path / "targets.json").write_text(json.dumps({**card, "queries": 3}))
    with pytest.raises(DamagedArtifact, match=r"holds 2 queries and 6 candidates, targets\.json says 3 and 6"):
        Targets.load(tmp_path)
