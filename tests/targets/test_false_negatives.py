"""Which candidates may not serve as hard negatives."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from score_strategies import score_lists

from sdretrieval.errors import RequestError, WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.false_negatives import FalseNegativeReport, false_negative_report, hard_mask

RULES = ["none", "margin", "percent_of_positive"]
SCORES = Ragged.of([[0.9, 0.87, 0.5, 0.95], [0.3, 0.9], []], np.float32)
POSITIVE = Ragged.of([[True, False, False, False], [False, False], []], np.bool_)


def flags(scores: Ragged, data: st.DataObject) -> Ragged:
    drawn = data.draw(st.lists(st.booleans(), min_size=len(scores.values_T), max_size=len(scores.values_T)))
    return scores.with_values(np.array(drawn, dtype=np.bool_))


@given(score_lists(), st.sampled_from(RULES), st.floats(0, 5), st.floats(1, 100), st.data())
def test_promises_of_every_rule(scores: Ragged, rule: str, margin: float, percent: float, data: st.DataObject) -> None:
    positive = flags(scores, data)
    mask = hard_mask(rule, scores, positive, margin, percent)  # type: ignore[arg-type]
    report = false_negative_report(rule, scores, positive, margin, percent)  # type: ignore[arg-type]
    assert not (mask.values_T & positive.values_T).any(), "a positive as a negative"
    for values, known, allowed in zip(scores, positive, mask, strict=True):
        if rule == "none" or not known.any():
            assert np.array_equal(allowed, ~known), "nothing to judge by, something removed"
        else:
            assert not allowed[values > values[known].max()].any(), "above the positive, yet a negative"
    assert report.negatives - report.removed == mask.values_T.sum()


def test_margin_removes_what_comes_close() -> None:
    mask = hard_mask("margin", SCORES, POSITIVE, margin=0.05)
    assert [entries.tolist() for entries in mask] == [[False, False, True, False], [True, True], []]


def test_percent_of_positive() -> None:
    assert hard_mask("percent_of_positive", SCORES, POSITIVE, percent=95)[0].tolist() == [False, False, True, False]
    assert hard_mask("percent_of_positive", SCORES, POSITIVE, percent=99)[0].tolist() == [False, True, True, False]
    assert hard_mask("percent_of_positive", SCORES, POSITIVE, percent=50)[0].tolist() == [False, False, False, False]


def test_percent_of_a_negative_positive_lies_below_it() -> None:
    scores = Ragged.of([[-10.0, -10.4, -11.0]], np.float32)
    positive = Ragged.of([[True, False, False]], np.bool_)
    assert hard_mask("percent_of_positive", scores, positive, percent=95)[0].tolist() == [False, False, True]


def test_the_best_of_several_positives_decides() -> None:
    positive = Ragged.of([[True, False, True, False], [False, False], []], np.bool_)
    assert hard_mask("margin", SCORES, positive, margin=0.0)[0].tolist() == [False, True, False, False]


def test_the_report_counts_and_shows_the_worst_first() -> None:
    report = false_negative_report("margin", SCORES, POSITIVE, margin=0.05)
    assert (report.negatives, report.removed, report.lists_touched, report.lists_emptied) == (5, 2, 1, 0)
    assert report.lists_without_positive == 2
    assert [(e.query_position, e.candidate_position) for e in report.examples] == [(0, 3), (0, 1)]
    assert report.examples[0].threshold == pytest.approx(0.85)
    assert FalseNegativeReport.from_json(json.loads(json.dumps(report.to_json()))) == report
    assert false_negative_report("margin", SCORES, POSITIVE, margin=0.5).lists_emptied == 1


def test_misuse_is_named() -> None:
    with pytest.raises(RequestError, match="rule is 'margins', expected one of none, margin, percent_of_positive"):
        hard_mask("margins", SCORES, POSITIVE)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match=r"margin is -0\.1, expected a number of 0 or more"):
        hard_mask("margin", SCORES, POSITIVE, margin=-0.1)
    with pytest.raises(RequestError, match="percent is 0, expected above 0 and at most 100"):
        hard_mask("percent_of_positive", SCORES, POSITIVE, percent=0)
    with pytest.raises(WorkError, match="positive holds 1 lists"):
        hard_mask("margin", SCORES, Ragged.of([[True]], np.bool_))
