"""How far vectors moved and what lists lose by it: the maths, on vectors made up here."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from sdretrieval.encode.movement import (
    Carry,
    best_carry,
    cosines,
    missed_share,
    movement,
    sample_size,
    stratified_sample,
    top_overlap,
)

seeds = st.integers(0, 2**32 - 1)


def unit(seed: int, rows: int, dims: int = 8) -> NDArray[np.float32]:
    found = np.random.default_rng(seed).normal(size=(rows, dims))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@given(st.integers(1, 10**7))
def test_a_sample_is_small_beside_the_corpus(count: int) -> None:
    assert 1 <= sample_size(count) <= max(1, count // 5)
    assert sample_size(count) <= 1_000


@given(st.lists(st.integers(0, 5), min_size=1, max_size=80), st.integers(1, 40), seeds)
def test_every_cluster_is_sampled_by_its_share(clusters: list[int], size: int, seed: int) -> None:
    cluster_N = np.unique(clusters, return_inverse=True)[1].astype(np.int64)
    rows = stratified_sample(cluster_N, size, seed)
    assert (np.diff(rows) > 0).all(), "ascending, none twice"
    for cluster, members in enumerate(np.bincount(cluster_N)):
        drawn = (cluster_N[rows] == cluster).sum()
        assert drawn == min(members, max(2, round(size * members / len(cluster_N))))
    np.testing.assert_array_equal(rows, stratified_sample(cluster_N, size, seed))


@given(seeds)
def test_what_did_not_move_has_no_distance_no_change_of_scores_and_no_reach(seed: int) -> None:
    vectors, queries = unit(seed, 12), unit(seed + 1, 5)
    moved = movement(vectors, vectors.copy(), queries, np.arange(12) % 3, 4)
    assert moved.distance_S.max() == 0
    assert moved.sampled_C.tolist() == [4, 4, 4, 0]
    for found in (moved.distance_C, moved.shift_C, moved.spread_C, moved.allowance_C(2.0)):
        assert found.tolist() == [0, 0, 0, 0], "a cluster without a sample takes what all did"


def test_movement_is_told_cluster_by_cluster() -> None:
    old, queries = unit(1, 20), unit(2, 7)
    new = old.copy()
    new[10:] = unit(3, 10)
    moved = movement(old, new, queries, np.repeat([0, 1], 10), 2)
    assert moved.distance_C[0] == 0 < 0.3 < moved.distance_C[1]
    assert moved.spread_C[0] == 0 < moved.spread_C[1]
    change = (new[10:] - old[10:]) @ queries.T
    assert moved.shift_C[1] == pytest.approx(change.mean(), abs=1e-6)
    assert moved.allowance_C(1.0)[1] == pytest.approx(max(change.mean() + change.std(), 0), abs=1e-6)


def test_cosines_of_zeros() -> None:
    rows = np.asarray([[0, 0], [0, 0], [3, 0], [0, 2]], np.float32)
    other = np.asarray([[0, 0], [1, 0], [1, 0], [1, 0]], np.float32)
    assert cosines(rows, other).tolist() == [1, 0, 1, 0]


@given(seeds, st.integers(1, 12))
def test_overlap_is_one_of_equal_orders_and_a_share_otherwise(seed: int, k: int) -> None:
    scores = np.random.default_rng(seed).normal(size=(4, 9))
    assert top_overlap(scores, 3 * scores + 1, k) == 1
    other = np.random.default_rng(seed + 1).normal(size=(4, 9))
    assert top_overlap(scores, other, k) == top_overlap(other, scores, k)
    assert 0 <= top_overlap(scores, other, k) <= 1
    if k <= 4:
        assert top_overlap(scores, -scores, k) == 0


@given(seeds)
def test_entrants_are_counted_exactly_where_all_documents_are_sampled(seed: int) -> None:
    old, new, queries = unit(seed, 30), unit(seed + 1, 30), unit(seed + 2, 6)
    old_QN, new_QN = queries @ old.T, queries @ new.T
    last_Q = np.sort(old_QN, axis=1)[:, -5]
    expected = np.mean([((n >= t) & (o < t)).sum() for o, n, t in zip(old_QN, new_QN, last_Q, strict=True)]) / 5
    found = missed_share(old_QN, new_QN, last_Q, np.ones(30), 5)
    assert found == pytest.approx(min(expected, 1.0))
    assert missed_share(old_QN, old_QN, last_Q, np.ones(30), 5) == 0


def test_the_estimate_from_samples_is_right_on_average() -> None:
    old, queries = unit(1, 400, 16), unit(3, 20, 16)
    new = old + 0.15 * unit(2, 400, 16)
    old_QN, new_QN, last_Q = queries @ old.T, queries @ new.T, np.sort(queries @ old.T, axis=1)[:, -40]
    true = missed_share(old_QN, new_QN, last_Q, np.ones(400), 40)
    cluster_N = np.argmax(np.abs(old[:, :4]), axis=1)
    found = []
    for seed in range(200):
        rows = stratified_sample(cluster_N, 40, seed)
        weights = (np.bincount(cluster_N) / np.bincount(cluster_N[rows]))[cluster_N[rows]]
        found.append(missed_share(old_QN[:, rows], new_QN[:, rows], last_Q, weights, 40))
    assert 0.02 < true < 0.5
    assert np.mean(found) == pytest.approx(true, rel=0.05)


@given(seeds)
def test_a_way_that_all_documents_went_alike_is_found(seed: int) -> None:
    old, drift = unit(seed, 120), 0.3 * unit(seed + 1, 1)
    new = (old + drift) @ np.linalg.qr(np.eye(8) + 0.2 * unit(seed + 2, 8))[0].astype(np.float32)
    carry = best_carry(old[:60], new[:60], old[60:90], new[60:90])
    lengths = np.linalg.norm(new, axis=1)
    assert cosines(carry(old[90:]), new[90:]).min() > 0.99 > cosines(old[90:], new[90:]).min()
    np.testing.assert_allclose(np.linalg.norm(carry(old), axis=1), np.linalg.norm(old, axis=1), rtol=1e-5)
    assert lengths.std() > 0, "the length stays the old one's, whatever the new one's is"


@given(seeds, st.sampled_from([0.1, 10.0]))
def test_nothing_is_carried_anywhere_where_nothing_moved(seed: int, ridge: float) -> None:
    old = unit(seed, 20)
    np.testing.assert_allclose(Carry.fit(old, old, ridge)(old), old, atol=1e-6)
