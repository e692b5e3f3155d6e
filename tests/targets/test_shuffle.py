"""The shuffled teacher keeps the scores and loses the knowledge, the same way each time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from score_strategies import gaussian, score_lists

from sdretrieval.errors import WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.shuffle import shuffled_columns, shuffled_within_lists


@given(score_lists(min_lists=0), st.integers(0, 99))
def test_each_list_keeps_its_scores(values: Ragged, seed: int) -> None:
    shuffled = shuffled_within_lists(values, seed, np.arange(len(values)))
    for before, after in zip(values, shuffled, strict=True):
        assert sorted(before.tolist()) == sorted(after.tolist())


@given(st.integers(0, 99), st.permutations(range(5)))
def test_a_list_is_shuffled_the_same_beside_any_others(seed: int, order: list[int]) -> None:
    values, keys = gaussian(5, 7), np.array([10, 20, 30, 40, 50])
    whole = shuffled_within_lists(values, seed, keys)
    moved = shuffled_within_lists(Ragged.of([values[q] for q in order], np.float32), seed, keys[order])
    for position, q in enumerate(order):
        np.testing.assert_array_equal(moved[position], whole[q])


def test_the_order_is_lost_and_depends_on_seed_and_query() -> None:
    values = Ragged.of([np.arange(16)] * 200, np.float32)
    shuffled = shuffled_within_lists(values, 3, np.arange(200)).values_T.reshape(200, 16)
    correlation = np.corrcoef(values.values_T, shuffled.ravel())[0, 1]
    assert abs(correlation) < 0.06
    assert len({tuple(row) for row in shuffled}) == 200
    assert not np.array_equal(shuffled.ravel(), shuffled_within_lists(values, 4, np.arange(200)).values_T)


@given(st.integers(1, 6), st.integers(1, 12), st.integers(0, 2**31))
def test_columns_keep_each_rows_scores_and_no_document_its_own(queries: int, documents: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    scores_BN = rng.permutation(queries * documents).reshape(queries, documents).astype(np.float32)
    rows_N = rng.choice(10_000, documents, replace=False)
    shuffled = shuffled_columns(scores_BN, seed, rng.integers(0, 10_000, queries), rows_N)
    np.testing.assert_array_equal(np.sort(shuffled, axis=1), np.sort(scores_BN, axis=1))
    assert documents == 1 or not np.any(shuffled == scores_BN)


@given(st.permutations(range(4)), st.permutations(range(9)))
def test_columns_do_not_depend_on_the_order_of_queries_or_documents(queries: list[int], documents: list[int]) -> None:
    scores_BN = gaussian(4, 9).values_T.reshape(4, 9)
    query_rows, document_rows = np.array([3, 1, 4, 15]), np.arange(100, 109)
    expected = shuffled_columns(scores_BN, 13, query_rows, document_rows)[np.ix_(queries, documents)]
    moved = scores_BN[np.ix_(queries, documents)]
    np.testing.assert_array_equal(shuffled_columns(moved, 13, query_rows[queries], document_rows[documents]), expected)


def test_columns_lose_the_order() -> None:
    scores_BN = np.tile(np.arange(40.0), (100, 1))
    shuffled = shuffled_columns(scores_BN, 0, np.arange(100), np.arange(40))
    assert abs(np.corrcoef(scores_BN.ravel(), shuffled.ravel())[0, 1]) < 0.06
    assert len({tuple(row) for row in shuffled}) == 100


def test_misuse_is_named() -> None:
    with pytest.raises(WorkError, match="2 keys for 3 lists"):
        shuffled_within_lists(gaussian(3, 2), 0, np.arange(2))
    with pytest.raises(WorkError, match="is in the batch twice"):
        shuffled_columns(np.zeros((1, 2)), 0, np.arange(1), np.array([5, 5]))
    with pytest.raises(WorkError, match=r"scores of shape \(1, 2\) for 1 queries and 3 documents"):
        shuffled_columns(np.zeros((1, 2)), 0, np.arange(1), np.arange(3))
