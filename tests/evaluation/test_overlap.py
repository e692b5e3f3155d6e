"""Queries whose answer training has shown stand apart from the others."""

from __future__ import annotations

import pytest

from sdretrieval.evaluation import by_seen, queries_with_seen_positives

TRAIN = {"t1": {"a": 1, "b": 0}, "t2": {"c": 2}}


def test_only_positives_on_both_sides_count() -> None:
    qrels = {"q1": {"a": 1}, "q2": {"b": 1}, "q3": {"c": 0, "d": 1}, "q4": {"d": 1, "c": 1}, "q5": {}}
    assert queries_with_seen_positives(qrels, TRAIN) == {"q1", "q4"}
    assert queries_with_seen_positives(qrels, {}) == frozenset()


def test_a_student_that_only_remembers_gains_nothing_on_unseen_positives() -> None:
    queries = [f"q{n}" for n in range(100)]
    seen = frozenset(queries[:60])
    base = dict.fromkeys(queries, 0.5)
    remembers = {query: 0.9 if query in seen else 0.4 for query in queries}
    learns = dict.fromkeys(queries, 0.6)
    found = by_seen({"student_0": base, "hard_labels": remembers, "final": learns}, seen, seed=13)
    assert found is not None
    assert (found.n_seen, found.n_unseen) == (60, 40)
    assert found.means["hard_labels"] == pytest.approx((0.9, 0.4))
    assert found.unseen_tests["hard_labels"].difference == pytest.approx(0.2)
    assert found.unseen_tests["hard_labels"].p < 0.001
    assert found.unseen_tests["student_0"].difference == pytest.approx(0.1)


@pytest.mark.parametrize("n_seen", [0, 19, 81, 100])
def test_too_few_queries_on_a_side_are_no_comparison(n_seen: int) -> None:
    values = {f"q{n}": 0.5 for n in range(100)}
    assert by_seen({"student_0": values, "final": values}, frozenset(list(values)[:n_seen]), seed=13) is None
