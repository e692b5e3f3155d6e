"""How far a training has moved vectors, what that does to lists, and the part of the way that all documents went.

The queries of lists are the new student's, so a document's old vector is wrong by the whole way that its new one went,
also where all went alike: beside fresh documents, all of whose scores rose, it would rank too low. What is common can
be had without encoding: `Carry` is fitted on some documents' old and new vectors and takes the others along (as Yu et
al. 2020 take prototypes of classes along with a drifting network).

Legend: N documents, S sampled documents, Q queries, C clusters, D dims, k documents of a list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdretrieval.ragged import Array

LEAST, MOST, SHARE, LARGEST_SHARE = 256, 1_000, 0.05, 0.2
"""Documents of a sample: a twentieth of all, at least 256 and at most 1,000, and never more than a fifth of all."""


def sample_size(count: int) -> int:
    """How many of `count` documents are encoded to see how far they moved."""
    return max(1, min(max(int(count * SHARE), LEAST), MOST, int(count * LARGEST_SHARE)))


def stratified_sample(cluster_N: NDArray[np.int64], size: int, seed: int) -> NDArray[np.int64]:
    """About `size` rows, ascending: of each cluster its share, two at least (one where it holds no more)."""
    generator, rows = np.random.default_rng(seed), []
    for members in np.split(np.argsort(cluster_N, kind="stable"), np.cumsum(np.bincount(cluster_N))[:-1]):
        wanted = max(2, round(size * len(members) / len(cluster_N)))
        rows.append(generator.choice(members, min(wanted, len(members)), replace=False))
    return np.sort(np.concatenate(rows)).astype(np.int64)


@dataclass(frozen=True)
class Moved:
    """What a sample showed. Scores are inner products of the new student's queries with a document's vector.

    `sampled_C`: documents looked at. `distance_C`: mean of 1 - cosine between old and new vector, `distance_S` of each.
    `shift_C`, `spread_C`: mean and standard deviation, over documents and queries, of new score less old score. Old
    vectors may be carried ones.
    """

    sampled_C: NDArray[np.int64]
    distance_C: NDArray[np.float64]
    shift_C: NDArray[np.float64]
    spread_C: NDArray[np.float64]
    distance_S: NDArray[np.float64]

    def allowance_C(self, deviations: float) -> NDArray[np.float64]:
        """How far below a list's last score an old score may lie and the new one still be expected to reach it."""
        return np.maximum(self.shift_C + deviations * self.spread_C, 0.0)


def movement(old_SD: Array, new_SD: Array, queries_QD: Array, cluster_S: NDArray[np.int64], clusters: int) -> Moved:
    """Compare old and new vectors of sampled documents, cluster by cluster; one without a sampled document takes what
    all of them did."""
    distance_S = 1.0 - cosines(old_SD, new_SD)
    change_SQ = (np.asarray(new_SD, np.float64) - old_SD) @ np.asarray(queries_QD, np.float64).T
    parts = [np.flatnonzero(cluster_S == cluster) for cluster in range(clusters)]
    whole = np.arange(len(cluster_S))
    used = [part if len(part) else whole for part in parts]
    return Moved(
        np.asarray([len(part) for part in parts], dtype=np.int64),
        np.asarray([distance_S[part].mean() for part in used]),
        np.asarray([change_SQ[part].mean() for part in used]),
        np.asarray([change_SQ[part].std() for part in used]),
        distance_S,
    )


@dataclass(frozen=True)
class Carry:
    """x -> x + drift + (x - mean) map, brought to the length that x had."""

    mean_D: Array
    drift_D: Array
    map_DD: Array

    @staticmethod
    def fit(old_SD: Array, new_SD: Array, ridge: float) -> Carry:
        """The least squares map from old vectors to what was added to them, its entries held small by `ridge`."""
        mean_D, drift_D = old_SD.mean(axis=0), (new_SD - old_SD).mean(axis=0)
        centred_SD = (old_SD - mean_D).astype(np.float64)
        square_DD = centred_SD.T @ centred_SD + ridge * np.eye(old_SD.shape[1])
        return Carry(mean_D, drift_D, np.linalg.solve(square_DD, centred_SD.T @ (new_SD - old_SD - drift_D)))

    def __call__(self, old_XD: Array) -> Array:
        """Where documents probably are now, float32."""
        carried_XD = old_XD + self.drift_D + (old_XD - self.mean_D) @ self.map_DD
        lengths_X1, before_X1 = (np.linalg.norm(one, axis=1, keepdims=True) for one in (carried_XD, old_XD))
        return np.asarray(carried_XD * (before_X1 / np.where(lengths_X1 > 0, lengths_X1, 1.0)), dtype=np.float32)


RIDGES = (0.1, 0.3, 1.0, 3.0, 10.0)


def best_carry(old_SD: Array, new_SD: Array, old_JD: Array, new_JD: Array) -> Carry:
    """The map, fitted on some documents, that comes nearest to the new vectors of others (J)."""
    maps = [Carry.fit(old_SD, new_SD, ridge) for ridge in RIDGES]
    return min(maps, key=lambda one: float(((one(old_JD) - new_JD) ** 2).sum()))


def cosines(one_XD: Array, other_XD: Array) -> NDArray[np.float64]:
    """Row by row; 1 where both rows are zeros, 0 where one is."""
    first, second = np.asarray(one_XD, np.float64), np.asarray(other_XD, np.float64)
    lengths_X = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    dots_X = (first * second).sum(axis=1)
    same_X = (first == second).all(axis=1)  # exactly 1, whatever rounding says
    return np.where(same_X, 1.0, dots_X / np.where(lengths_X > 0, lengths_X, 1.0))


def top_overlap(old_scores_QS: Array, new_scores_QS: Array, k: int) -> float:
    """Mean share of the `k` best by new scores that are among the `k` best by old ones; equal scores by column."""
    k = min(k, old_scores_QS.shape[1])
    tops = [np.argsort(-scores, axis=1, kind="stable")[:, :k] for scores in (old_scores_QS, new_scores_QS)]
    return float(np.mean([np.isin(new, old).mean() for old, new in zip(*tops, strict=True)]))


def missed_share(
    old_scores_QS: Array, new_scores_QS: Array, last_Q: Array, weight_S: NDArray[np.float64], k: int
) -> float:
    """Estimated share of lists of `k` that is missing: documents whose old vector keeps them out, and whose new one
    would bring them in (`last_Q` is the score of each list's last document).

    Each sampled document stands for `weight_S` documents that keep their old vectors, itself included (Horvitz and
    Thompson 1952), so the estimate is unbiased as long as the sample is drawn before anything is known of it; it is
    coarse where few documents stand for many. Lists are not cut one by one, which would bias it.
    """
    enters_QS = (new_scores_QS >= last_Q[:, None]) & (old_scores_QS < last_Q[:, None])
    return min(float((enters_QS @ weight_S).mean()) / k, 1.0)
