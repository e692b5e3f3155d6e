"""Brute force: it must equal the definition, whatever the blocks, also where scores tie."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.errors import NumericError, RequestError
from sdretrieval.indexes import exact
from sdretrieval.indexes.exact import exact_search, recall


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 60), k=st.integers(1, 70), block=st.integers(1, 20))
def test_equals_the_definition_for_any_block_size(seed: int, count: int, k: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    # Small integers: inner products are exact in float32 and tie often.
    vectors = rng.integers(-2, 3, (count, 4)).astype(np.float32)
    queries = rng.integers(-2, 3, (5, 4)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exact, "BLOCK_BYTES", block * 16)
        hits = exact_search(vectors, queries, k)
    for query, rows, scores in zip(queries, hits.rows_Qk, hits.scores_Qk, strict=True):
        products = vectors @ query
        expected = sorted(range(count), key=lambda row: (-products[row], row))[:k]
        assert rows[: len(expected)].tolist() == expected
        assert scores[: len(expected)].tolist() == [products[row] for row in expected]
        assert (rows[len(expected) :] == -1).all() and (scores[len(expected) :] == -np.inf).all()


def test_recall_counts_true_rows_and_ignores_padding() -> None:
    found = np.array([[1, 2, -1], [4, 5, 6]])
    true = np.array([[2, 3, -1], [6, 5, 4]])
    assert recall(found, true) == pytest.approx((0.5 + 1) / 2)


def test_recall_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="none of 2 queries has a true row"):
        recall(np.zeros((2, 1), np.int64), np.full((2, 1), -1))


def test_nan_names_rows_of_the_whole_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "BLOCK_BYTES", 4 * 4 * 10)
    vectors = np.ones((25, 4), np.float32)
    vectors[13, 2] = np.nan
    vectors[17, 0] = np.inf
    with pytest.raises(NumericError, match="2 of rows 10 to 19: rows 13, 17;"):
        exact_search(vectors, np.ones((1, 4), np.float32), 3)


def test_wrong_dims_say_both_numbers() -> None:
    with pytest.raises(RequestError, match="query vectors have 3 dims but the index holds 4"):
        exact_search(np.ones((2, 4), np.float32), np.ones((1, 3), np.float32), 1)
