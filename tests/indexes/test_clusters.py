"""Documents by likeness, and how near each comes to queries' lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.indexes import clusters
from sdretrieval.indexes.clusters import clusters_of, last_scores, nearness
from sdretrieval.indexes.exact import exact_search


def test_clouds_that_lie_apart_are_told_apart() -> None:
    generator = np.random.default_rng(3)
    clouds = np.repeat(np.eye(4, 8, dtype=np.float32), 50, axis=0)
    vectors = clouds + 0.05 * generator.normal(size=clouds.shape).astype(np.float32)
    found = clusters_of(vectors, 8, seed=5)
    for cloud in range(4):
        inside, outside = found[50 * cloud : 50 * cloud + 50], np.delete(found, np.s_[50 * cloud : 50 * cloud + 50])
        assert not set(inside) & set(outside)
    np.testing.assert_array_equal(found, clusters_of(vectors, 8, seed=5))


@given(st.integers(1, 40), st.integers(1, 12))
def test_no_cluster_is_empty(documents: int, count: int) -> None:
    vectors = np.random.default_rng(documents).normal(size=(documents, 4)).astype(np.float32)
    found = clusters_of(vectors, count, seed=1)
    assert found.shape == (documents,)
    assert sorted(set(found.tolist())) == list(range(found.max() + 1))
    assert found.max() < count


@pytest.mark.parametrize("at_once", [3, 1024])
def test_a_document_is_near_exactly_where_it_stands_in_a_list(monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(clusters, "QUERIES_AT_ONCE", at_once)
    generator = np.random.default_rng(7)
    vectors, queries = (generator.normal(size=(rows, 6)).astype(np.float32) for rows in (90, 8))
    last = last_scores(vectors, queries, 5)
    near = nearness(vectors, queries, last)
    listed = np.unique(exact_search(vectors, queries, 5).rows_Qk)
    assert np.flatnonzero(near >= -1e-5).tolist() == listed.tolist()
    np.testing.assert_allclose(near, (queries @ vectors.T - last[:, None]).max(axis=0), rtol=1e-5, atol=1e-5)


def test_a_list_is_no_longer_than_the_corpus() -> None:
    vectors = np.eye(3, dtype=np.float32)
    assert last_scores(vectors, np.ones((2, 3), np.float32), 10).tolist() == [1, 1]
