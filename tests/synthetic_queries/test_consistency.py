"""Queries that do not find their own document are dropped, and counted."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.synthetic_queries import QueryTally, SyntheticQuery, keep_consistent, plain
from sdretrieval.synthetic_queries.consistency import fused_rows

TEXTS = ["the query stands here", "nothing", "the query stands here again", "other"]


def kept(
    rows: list[int], within: int | None, kind: str = "sentence", count: int = 9
) -> tuple[tuple[str, ...], dict[tuple[str, str], int]]:
    query = SyntheticQuery("query stands", rows[0], kind, "")  # type: ignore[arg-type]
    dense, lexical = np.asarray([rows[1:3]]), np.asarray([rows[3:5]])
    found = keep_consistent(
        {"g": query}, dense, lexical, TEXTS.__getitem__, count=count, within=within, tally=QueryTally()
    )
    return found.ids, dict(found.tally.dropped)


def test_the_source_must_be_among_the_best() -> None:
    assert kept([1, 1, 3, 3, 1], within=1) == (("g",), {})
    assert kept([1, 3, 0, 3, 0], within=2) == ((), {("sentence", "its document is not among the best 2"): 1})


def test_without_a_limit_only_what_stands_elsewhere_is_dropped() -> None:
    assert kept([1, 3, 3, 3, 3], within=None) == (("g",), {})
    assert kept([0, 0, 2, 2, 0], within=None) == ((), {("sentence", "is in another document too"): 1})


def test_words_that_a_model_wrote_may_stand_anywhere() -> None:
    assert kept([0, 0, 2, 2, 0], within=5, kind="written")[0] == ("g",)


def test_no_more_than_asked() -> None:
    assert kept([0, 0, 1, 1, 0], within=5, count=0) == ((), {})


@given(st.lists(st.integers(-1, 9), max_size=8), st.lists(st.integers(-1, 9), max_size=8))
def test_fused_rows_are_those_of_both_best_first(first: list[int], second: list[int]) -> None:
    first, second = list(dict.fromkeys(first)), list(dict.fromkeys(second))
    fused = fused_rows(first, second)
    assert sorted(fused) == sorted({row for row in (*first, *second) if row >= 0})
    if first and first == second and first[0] >= 0:
        assert fused[0] == first[0]


def test_ranks_are_counted_from_one() -> None:
    """1 / 61 alone is less than 2 / 121; counted from 0, 1 / 60 would be 2 / 120."""
    fused = fused_rows([0, *range(100, 159), 1], [200, *range(300, 359), 1])
    assert fused[0] == 1


def test_headings_above_a_passage_are_words_of_its_text() -> None:
    assert plain("Manual > Install  the Tool") == "manual install the tool"
