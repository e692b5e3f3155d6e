"""The schedule: fair, deterministic, and known before the first step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.training.batches import count_updates, sampled_entries, visiting_order


@given(st.integers(1, 50), st.integers(1, 300), st.integers(0, 5))
def test_every_query_is_visited_equally_often(queries: int, visits: int, seed: int) -> None:
    positions, numbers = visiting_order(queries, visits, seed)
    counts = np.bincount(positions, minlength=queries)
    assert len(positions) == len(numbers) == visits
    assert counts.max() - counts.min() <= 1
    assert len(set(zip(positions.tolist(), numbers.tolist(), strict=True))) == visits


@given(st.integers(1, 50), st.integers(1, 100), st.integers(1, 100))
def test_a_longer_training_begins_like_a_shorter_one(queries: int, visits: int, more: int) -> None:
    short, long = visiting_order(queries, visits, 13), visiting_order(queries, visits + more, 13)
    for first, second in zip(short, long, strict=True):
        np.testing.assert_array_equal(first, second[:visits])


def test_another_seed_is_another_order() -> None:
    assert visiting_order(50, 50, 1)[0].tolist() != visiting_order(50, 50, 2)[0].tolist()


@pytest.mark.parametrize(
    ("queries", "epochs", "per_update", "updates"),
    [(100, 1.0, 16, 7), (96, 1.0, 16, 6), (96, 0.5, 16, 3), (3, 0.1, 16, 1)],
)
def test_updates_cover_the_epochs(queries: int, epochs: float, per_update: int, updates: int) -> None:
    assert count_updates(queries, epochs, per_update) == updates


@st.composite
def lists(draw: st.DrawFn) -> tuple[int, int, list[int], tuple[int, int, int]]:
    """Length, wanted entries, entries to keep (never more than wanted), key."""
    length, wanted = draw(st.integers(0, 60)), draw(st.integers(1, 30))
    keep = draw(st.sets(st.integers(0, length - 1))) if length else set()
    return length, wanted, sorted(keep), (draw(st.integers(0, 9)), draw(st.integers(0, 9)), draw(st.integers(0, 9)))


@given(lists())
def test_sampled_entries_are_as_many_as_wanted_keep_the_positives_and_stay_in_order(
    asked: tuple[int, int, list[int], tuple[int, int, int]],
) -> None:
    length, wanted, keep, key = asked
    found = sampled_entries(length, wanted, np.asarray(keep, dtype=np.int64), key)
    assert len(found) == min(length, wanted)
    assert found.tolist() == sorted(set(found.tolist())) and set(found.tolist()) <= set(range(length))
    most = wanted if len(keep) == length else max(wanted - 1, 1)
    assert len(set(keep) & set(found.tolist())) == (len(keep) if length <= wanted else min(len(keep), most))
    assert found.tolist() == sampled_entries(length, wanted, np.asarray(keep, dtype=np.int64), key).tolist()


def test_half_of_the_rest_is_the_front_and_each_visit_samples_anew() -> None:
    visits = [sampled_entries(100, 9, np.asarray([50]), (13, 7, visit)).tolist() for visit in range(5)]
    assert all(visit[:4] == [0, 1, 2, 3] and 50 in visit for visit in visits)
    assert len({tuple(visit) for visit in visits}) == 5


def test_a_query_with_many_positives_brings_others_each_time_and_always_a_negative() -> None:
    positives = np.arange(40)
    visits = [set(sampled_entries(60, 10, positives, (13, 7, visit)).tolist()) for visit in range(20)]
    assert all(len(visit & set(range(40))) == 9 for visit in visits)
    assert set().union(*visits) >= set(range(40))
