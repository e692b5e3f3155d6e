"""Ragged: what goes in as lists comes out as the same lists."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.ragged import Ragged, gathered

LISTS = st.lists(st.lists(st.integers(-1000, 1000), max_size=6), max_size=8)


@given(LISTS)
def test_lists_come_back(lists: list[list[int]]) -> None:
    ragged = Ragged.of(lists, np.int64)
    assert [entries.tolist() for entries in ragged] == lists
    assert len(ragged) == len(lists)
    assert ragged.lengths.tolist() == [len(entries) for entries in lists]
    assert ragged.list_of_entry.tolist() == [q for q, entries in enumerate(lists) for _ in entries]
    assert ragged.values_T.dtype == np.int64
    assert ragged.offsets.dtype == np.int64


@given(LISTS)
def test_with_values_keeps_the_cuts(lists: list[list[int]]) -> None:
    ragged = Ragged.of(lists, np.int64)
    doubled = ragged.with_values(ragged.values_T * 2)
    assert [entries.tolist() for entries in doubled] == [[2 * x for x in entries] for entries in lists]


@given(LISTS, st.integers(-1000, 1000))
def test_only_some_entries_keep_their_list(lists: list[list[int]], least: int) -> None:
    ragged = Ragged.of(lists, np.int64)
    kept = ragged.only(ragged.values_T >= least)
    assert [entries.tolist() for entries in kept] == [[x for x in entries if x >= least] for entries in lists]


def test_with_values_of_another_count_is_refused() -> None:
    with pytest.raises(ValueError, match="2 values for lists of 3 entries in all"):
        Ragged.of([[1, 2], [3]], np.int64).with_values(np.zeros(2))


def test_a_list_is_a_view() -> None:
    ragged = Ragged.of([[1.0, 2.0], [], [3.0]], np.float32)
    ragged[2][0] = 7.0
    assert ragged.values_T.tolist() == [1.0, 2.0, 7.0]
    assert ragged[1].tolist() == []


def test_no_lists_at_all() -> None:
    ragged = Ragged.of([], np.float32)
    assert (len(ragged), len(ragged.values_T), ragged.offsets.tolist()) == (0, 0, [0])


@given(LISTS, LISTS, st.randoms(use_true_random=False))
def test_lists_are_gathered_from_several_sources(
    first: list[list[int]], second: list[list[int]], chance: random.Random
) -> None:
    sources = [first, second]
    taken = [(n, row) for n, lists in enumerate(sources) for row in range(len(lists))]
    taken = chance.sample(taken, chance.randint(0, len(taken)))
    parts = []
    for n, lists in enumerate(sources):
        rows = [place for place, (source, _) in enumerate(taken) if source == n]
        theirs = [taken[place][1] for place in rows]
        parts.append((np.array(rows, dtype=np.int64), Ragged.of(lists, np.int32), np.array(theirs, dtype=np.int64)))
    found = gathered(len(taken), parts, np.int32)
    assert [entries.tolist() for entries in found] == [sources[source][row] for source, row in taken]
    assert found.values_T.dtype == np.int32
