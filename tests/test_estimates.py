"""The study of estimates: a collection's choices come from the others; costs and intervals are what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import estimates_prediction as prediction
from benchmarks import estimates_table as table
from benchmarks.estimates import Lists, ndcg, ndcg_of_own, signals_of, systems
from sdretrieval.targets.calibrate import EVIDENCE


def case(name: str, share: float) -> dict[str, Any]:
    """A collection whose systems gain what titles say at 1.2 times its overlap, and the more, the less its best
    documents are like the query."""

    def gains(at: float) -> dict[str, float]:
        return {"bm25": at - 0.5, **{f"abs {w:g}": w * at / 5 for w in (0.25, 0.5, 0.75)}}

    held, truth = [0.0, 0.5, 1.0], gains(min(1.2 * share, 1.0))
    return {
        "collection": name, "model": "m", "overlap": share, "top_share": share + 0.2, "queries": 8,
        "truth": truth, "by_query": {one: [value] * 8 for one, value in truth.items()},
        "unrelated": 0.2, "signals": [[1 - 0.8 * share + odd, 0.3] for odd in (0.05, -0.05) * 4],
        "kinds": {"title": {"held": held, "differences": [gains(h) for h in held]}},
    }  # fmt: skip


CASES = [case(f"c{n}", 0.3 + 0.08 * n) for n in range(6)]


def test_estimates_that_follow_the_rule_are_exact() -> None:
    for one, est in table.estimates(CASES, table.matched, ("title",)):
        assert est == pytest.approx(one["truth"])
        assert table.cost(one["truth"], est, table.ABSOLUTE) == 0
    assert table.multiple("title", CASES, table.matched) == 1.2
    assert table.line(CASES) == pytest.approx((-0.2, 1.0))


def test_nothing_of_a_collection_decides_its_own_estimate() -> None:
    odd = {**case("c0", 0.3), "overlap": 0.9, "truth": dict.fromkeys(CASES[0]["truth"], 9.0)}
    both = [[c, *CASES[1:]] for c in (CASES[0], odd)]
    first, second = (dict(next(iter(table.estimates(cases, table.matched, ("title",))))[1]) for cases in both)
    assert first == pytest.approx(second)
    for found in (prediction.predictions, prediction.averages):
        assert found(both[0])[0][1] == pytest.approx(found(both[1])[0][1])


def test_predictions_follow_closeness_but_keep_to_what_was_seen() -> None:
    learned = prediction.fit(CASES)
    low, high = learned.seen[:, 0]
    near, far, farther = (learned(np.asarray([closeness, 0.3]))["bm25"] for closeness in (high, low, low - 1))
    assert near < far == farther
    typical = learned(learned.typical)
    assert typical == pytest.approx({n: np.mean([c["truth"][n] for c in CASES]) for n in typical})
    for (one, est), (_, mean) in zip(prediction.predictions(CASES), prediction.averages(CASES), strict=True):
        assert abs(est["bm25"] - one["truth"]["bm25"]) <= abs(mean["bm25"] - one["truth"]["bm25"]) + 1e-9


def test_few_judged_queries_are_compared_with_the_others() -> None:
    found = prediction.by_sample(CASES, 4, judged=True)
    assert len(found) == 10 * len(CASES) and all(est == pytest.approx(one["truth"]) for one, est in found)
    predicted = prediction.by_sample(CASES, 4, judged=False)
    assert [one["truth"] for one, _ in predicted] == [one["truth"] for one, _ in found]
    assert not prediction.by_sample(CASES, 5, judged=True), "too few are left"


def test_a_wrong_choice_costs_what_the_best_has_more() -> None:
    both = ("bm25", "z 0.5")
    assert table.cost({"bm25": 0.1, "z 0.5": 0.04}, {"bm25": -0.1, "z 0.5": 0.02}, both) == pytest.approx(0.06)
    assert table.cost({"bm25": 0.1, "z 0.5": 0.04}, {"bm25": -0.1, "z 0.5": 0.02}, both[1:]) == 0
    assert table.cost({"bm25": -0.1, "z 0.5": -0.02}, {"bm25": -0.1, "z 0.5": -0.02}, both) == 0
    assert table.cost({"bm25": -0.1, "z 0.5": -0.02}, {"bm25": 0.1, "z 0.5": 0.02}, both) == pytest.approx(0.1)


def test_table_and_plot_are_written(tmp_path: Path) -> None:
    assert table.write(tmp_path) == "no case is measured yet"
    for one in CASES:
        (tmp_path / f"{one['collection']}.m.json").write_text(json.dumps(one))
    text = table.write(tmp_path)
    assert (
        "| synthetic title, example queries | 6 | 100% (" in text
        and "BY_WEIGHT[0.5] = (" in text
        and "title: 1.2 times the natural overlap" in text
    )
    dots = ElementTree.fromstring((tmp_path / "estimates.svg").read_text()).findall("{*}circle")
    assert len(dots) == 24 and (tmp_path / "estimates.md").read_text() == text + "\n"


def test_a_document_without_a_shared_word_is_mixed_at_the_lowest_z() -> None:
    lists = Lists(
        np.asarray([[0, 1, 2]]), np.asarray([[0.9, 0.5, 0.1]]), np.asarray([[0.0, 2.0, 4.0]]),
        np.asarray([[True, True, True]]), np.asarray([[False, True, True]]),
    )  # fmt: skip
    scores = systems(lists, np.asarray([8.0]), sigma=0.1)
    assert np.argmax(scores["dense"]) == 0 and np.argmax(scores["bm25"]) == 2
    assert scores["z 0.5"][0, 0] == pytest.approx((np.sqrt(1.5) - 1) / 2)
    assert scores["abs 0.5"][0, 2] == pytest.approx(0.5 * 0.1 / 0.1 + 0.5 * EVIDENCE * 4 / 8)
    assert ndcg(scores["dense"], lists.rows, [{1: 1}])[0] == pytest.approx(1 / np.log2(3))
    assert ndcg_of_own(scores["dense"])[0] == pytest.approx(1 / 2)


def test_signals_of_a_query_are_its_best_cosine_and_what_both_searches_find() -> None:
    lists = Lists(
        np.asarray([[0, 1, 2, -1]]), np.asarray([[0.9, 0.5, 0.1, -np.inf]]), np.asarray([[0.0, 2.0, 4.0, 0.0]]),
        np.asarray([[True, True, False, False]]), np.asarray([[False, True, True, False]]),
    )  # fmt: skip
    assert signals_of(lists, 0) == [0.9, 0.1]
