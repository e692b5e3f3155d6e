"""The study of estimates: a collection's choices come from the others; costs and intervals are what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from benchmarks import estimates_table as table
from benchmarks.estimates import Lists, ndcg, ndcg_of_own, systems


def case(name: str, share: float, slope: float = 1.0) -> dict[str, Any]:
    """A collection whose hybrid search gains what titles say at 1.2 times its overlap."""
    held = [0.0, 0.5, 1.0]
    gains = [{"bm25": slope * (h - 0.5), "z 0.5": slope * h / 5} for h in held]
    at = min(1.2 * share, 1.0)
    return {
        "collection": name, "model": "m", "overlap": share, "top_share": share + 0.2,
        "truth": {"bm25": at - 0.5, "z 0.5": at / 5},
        "kinds": {"title": {"held": held, "differences": gains}},
    }  # fmt: skip


CASES = [case(f"c{n}", 0.3 + 0.08 * n) for n in range(6)]


def test_estimates_that_follow_the_rule_are_exact() -> None:
    for one, est in table.estimates(CASES, table.matched, ("title",)):
        assert est == pytest.approx(one["truth"])
        assert table.cost(one["truth"], est) == 0
    assert table.multiple("title", CASES, table.matched) == 1.2
    assert table.line(CASES) == pytest.approx((-0.2, 1.0))


def test_nothing_of_a_collection_decides_its_own_estimate() -> None:
    odd = {**case("c0", 0.3), "overlap": 0.9, "truth": {"bm25": -9.0, "z 0.5": 9.0}}
    first, second = (
        dict(next(iter(table.estimates([c, *CASES[1:]], table.matched, ("title",))))[1]) for c in (CASES[0], odd)
    )
    assert first == pytest.approx(second)


def test_a_wrong_choice_costs_what_the_best_has_more() -> None:
    assert table.cost({"bm25": 0.1, "z 0.5": 0.04}, {"bm25": -0.1, "z 0.5": 0.02}) == pytest.approx(0.06)
    assert table.cost({"bm25": -0.1, "z 0.5": -0.02}, {"bm25": -0.1, "z 0.5": -0.02}) == 0
    assert table.cost({"bm25": -0.1, "z 0.5": -0.02}, {"bm25": 0.1, "z 0.5": 0.02}) == pytest.approx(0.1)


def test_table_and_plot_are_written(tmp_path: Path) -> None:
    assert table.write(tmp_path) == "no case is measured yet"
    for one in CASES:
        (tmp_path / f"{one['collection']}.m.json").write_text(json.dumps(one))
    text = table.write(tmp_path)
    assert "| title, example queries | 6 | 100% (" in text and "title: 1.2 times the natural overlap" in text
    dots = ElementTree.fromstring((tmp_path / "estimates.svg").read_text()).findall("{*}circle")
    assert len(dots) == 12 and (tmp_path / "estimates.md").read_text() == text + "\n"


def test_a_document_without_a_shared_word_is_mixed_at_the_lowest_z() -> None:
    lists = Lists(
        np.asarray([[0, 1, 2]]), np.asarray([[0.9, 0.5, 0.1]]), np.asarray([[0.0, 2.0, 4.0]]),
        np.asarray([[True, True, True]]), np.asarray([[False, True, True]]),
    )  # fmt: skip
    scores = systems(lists, np.asarray([8.0]), sigma=0.1)
    assert np.argmax(scores["dense"]) == 0 and np.argmax(scores["bm25"]) == 2
    assert scores["z 0.5"][0, 0] == pytest.approx((np.sqrt(1.5) - 1) / 2)
    assert scores["abs 4"][0, 2] == pytest.approx(0.1 + 4 * 0.1 * 0.5)
    assert ndcg(scores["dense"], lists.rows, [{1: 1}])[0] == pytest.approx(1 / np.log2(3))
    assert ndcg_of_own(scores["dense"])[0] == pytest.approx(1 / 2)
