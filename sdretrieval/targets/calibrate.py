"""Make the raw scores of different teachers comparable, and mix them into the ensemble's.

Every calibration is x -> (x - centre) / scale with numbers per query; minmax clips the result to 0..1, and a
cross-encoder's on the absolute scale passes through a logistic function:

* `absolute`  evidence in a unit that does not depend on how a query's documents score: a bi-encoder's in standard
  deviations of its own best (`mean_spread`), BM25's over the norm of the query's idf, and others' as the probability of
  being a list's best, both times `EVIDENCE`. How sure a member is of a query survives;
* `zscore`    centre and scale = mean and standard deviation of the query's own list (or of a member's own top 100);
* `minmax`    centre and scale = 1st percentile and distance to the 99th over *all* scores of the member (CADET);
* `log_odds`  centre and scale = median and standard deviation over all of a member's best scores of all queries: the
  log-odds of "Bayesian BM25" (Jeong 2026) with one sigmoid a member, as Lucene estimates it;
* `none`      the scores as they are.

Legend: M members, Q queries (one list each), T candidates in all lists, k best scores of a member, B queries and N
documents of a batch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import NumericError, RequestError, WorkError
from sdretrieval.ragged import Ragged

Floats = NDArray[np.float64]
Calibration = Literal["absolute", "zscore", "minmax", "log_odds", "none"]
Form = Literal["affine", "clipped", "logistic"]
"""What becomes of z = (x - centre) / scale: z itself, z cut to 0..1, or 1 / (1 + exp(-z))."""

PERCENTILES = (1.0, 99.0)
"""CADET clips there: one absurd score must not set the scale of a corpus."""

FLOAT32_NOISE = 1e-7
"""A spread below this share of the values is rounding, not preference: dividing by it would make noise the target."""

EVIDENCE = 2.0
"""What a unit of evidence is worth on the absolute scale, in standard deviations of a bi-encoder's own best scores: a
BM25 score as large as the norm of the query's idf moves a document so far. docs/ablations/mixing.md says how it was
chosen."""

MOST_ODDS = 500.0
"""exp of more overflows."""

LEAST_SPREAD = 0.25
"""Of a member's own top documents, as a share of its median over queries. If BM25 finds two documents that are nearly
equal, their spread says nothing, and dividing by it would put every other document a thousand units below them."""


@dataclass(frozen=True)
class Statistics:
    """Per query the numbers of x -> height * form((x - centre) / scale), float64 (Q,)."""

    centre_Q: Floats
    scale_Q: Floats
    form: Form = "affine"
    height: float = 1.0

    def __len__(self) -> int:
        return len(self.centre_Q)


def check_finite(raw: Ragged, member: str = "teacher") -> None:
    """Raise NumericError naming `member`, query position and candidate position of the first NaN or infinity."""
    bad_T = ~np.isfinite(raw.values_T)
    if bad_T.any():
        entry = int(np.argmax(bad_T))
        query = int(raw.list_of_entry[entry])
        raise NumericError(
            f"{member}: score of query position {query}, candidate position {entry - int(raw.offsets[query])} is "
            f"{raw.values_T[entry]} ({int(bad_T.sum())} such scores in all), expected finite numbers; score again in "
            "float32 and look at that pair's text"
        )


def list_statistics(raw: Ragged, member: str = "teacher") -> Statistics:
    """z-score statistics of each list: mean and population standard deviation (1 if all scores are equal).

    Raises NumericError as `check_finite` does.
    """
    check_finite(raw, member)
    values_T = raw.values_T.astype(np.float64)
    count_Q = np.maximum(raw.lengths, 1)
    centre_Q = reduced(np.add, values_T, raw, 0.0) / count_Q
    square_T = (values_T - per_entry(centre_Q, raw)) ** 2
    return Statistics(centre_Q, _safe_scale(np.sqrt(reduced(np.add, square_T, raw, 0.0) / count_Q), centre_Q))


def top_statistics(scores_Qk: NDArray[np.floating]) -> Statistics:
    """z-score statistics of a member's own best k scores a query; NaN and infinities are padding and left out.

    These calibrate a *free* teacher over all documents of a batch: random documents of a batch are far below the
    candidates, so statistics of the batch itself would depend on which documents happen to be in it.
    A scale is at least `LEAST_SPREAD` of the median over the queries whose scores differ; 1 if no query's do. A query
    without any finite score has centre 0.
    """
    valid_Qk = np.isfinite(scores_Qk)
    values_Qk = np.where(valid_Qk, scores_Qk, 0.0).astype(np.float64)
    count_Q = np.maximum(valid_Qk.sum(axis=1), 1)
    centre_Q = values_Qk.sum(axis=1) / count_Q
    square_Qk = np.where(valid_Qk, values_Qk - centre_Q[:, None], 0.0) ** 2
    spread_Q = np.sqrt(square_Qk.sum(axis=1) / count_Q)
    differ_Q = spread_Q > FLOAT32_NOISE * np.abs(centre_Q)
    if not differ_Q.any():
        return Statistics(centre_Q, np.ones_like(centre_Q))
    return Statistics(centre_Q, np.maximum(spread_Q, LEAST_SPREAD * float(np.median(spread_Q[differ_Q]))))


def mean_spread(tops: Iterable[NDArray[np.floating]]) -> float:
    """The unit of the absolute scale: the mean over queries of the standard deviation (population) of a bi-encoder's
    own best scores, one array a query; 1 if no query's scores differ.

    One number a model, not one a query: where a model is sure of a query, and its scores lie far apart, it stays sure.
    """
    spreads = [top.std(dtype=np.float64) for top in tops if len(top)]
    mean = float(np.mean(spreads)) if spreads else 0.0
    return mean if mean > FLOAT32_NOISE else 1.0


def corpus_statistics(raw: Ragged, member: str = "teacher") -> Statistics:
    """Min-max over the corpus (CADET): 1st percentile of all scores -> 0, 99th -> 1, clipped; the same for each query.

    Raises NumericError as `check_finite` does.
    """
    check_finite(raw, member)
    low, high = np.percentile(raw.values_T.astype(np.float64), PERCENTILES) if len(raw.values_T) else (0.0, 1.0)
    scale_Q = _safe_scale(np.full(len(raw), high - low), np.full(len(raw), low))
    return Statistics(np.full(len(raw), low, dtype=np.float64), scale_Q, "clipped")


def log_odds_statistics(scores: NDArray[np.floating], queries: int) -> Statistics:
    """Median and standard deviation over all finite `scores` (any shape), the same for each of `queries`."""
    finite = scores[np.isfinite(scores)].astype(np.float64)
    centre, spread = (float(np.median(finite)), float(finite.std())) if len(finite) else (0.0, 0.0)
    centre_Q = np.full(queries, centre)
    return Statistics(centre_Q, _safe_scale(np.full(queries, spread), centre_Q))


def spread_statistics(scores_Qk: NDArray[np.floating]) -> Statistics:
    """The absolute scale of a bi-encoder: its scores over `mean_spread` of its own best (padding is not finite)."""
    unit = mean_spread(top[np.isfinite(top)] for top in scores_Qk)
    return Statistics(np.zeros(len(scores_Qk)), np.full(len(scores_Qk), unit))


def unit_statistics(unit_Q: NDArray[np.floating]) -> Statistics:
    """The absolute scale of a member that knows the unit of its scores of each query: `EVIDENCE` times score / unit."""
    scale_Q = np.where(unit_Q > 0, unit_Q.astype(np.float64), EVIDENCE) / EVIDENCE
    return Statistics(np.zeros(len(unit_Q)), scale_Q)


def logistic_statistics(raw: Ragged, member: str = "teacher") -> Statistics:
    """The absolute scale of a member without a bound: `EVIDENCE` times the probability that a candidate with this score
    is its list's best by the member's own order, as a logistic regression over all lists says.

    It needs no label. The best of a list whose scores are all low has a low probability, since such scores are seldom a
    list's best. The labels are smoothed as Platt (1999) does, so that the slope stays finite.
    Raises NumericError as `check_finite` does.
    """
    from scipy.optimize import minimize

    check_finite(raw, member)
    values_T, best_Q = raw.values_T.astype(np.float64), reduced(np.maximum, raw.values_T, raw, 0.0)
    spread, centre = (float(values_T.std()), float(values_T.mean())) if len(values_T) else (0.0, 0.0)
    best_T = (values_T == per_entry(best_Q, raw)) & (per_entry(raw.lengths.astype(np.float64), raw) > 1)
    if not spread > FLOAT32_NOISE * abs(centre) or not best_T.any() or best_T.all():
        return Statistics(np.full(len(raw), centre), np.ones(len(raw)), "logistic", EVIDENCE)
    z_T, ones, others = (values_T - centre) / spread, int(best_T.sum()), int((~best_T).sum())
    label_T = np.where(best_T, (ones + 1) / (ones + 2), 1 / (others + 2))

    def loss(line: Floats) -> tuple[float, Floats]:
        logit_T = line[0] * z_T + line[1]
        error_T = 1 / (1 + np.exp(-logit_T)) - label_T
        return float(np.mean(np.logaddexp(0.0, logit_T) - label_T * logit_T)), np.array(
            [np.mean(error_T * z_T), np.mean(error_T)]
        )

    slope, offset = map(float, minimize(loss, np.array([1.0, 0.0]), jac=True, method="L-BFGS-B").x)
    scale = spread / max(slope, 1e-3)
    return Statistics(np.full(len(raw), centre - offset * scale), np.full(len(raw), scale), "logistic", EVIDENCE)


def statistics_for(kind: Calibration, raw: Ragged, member: str = "teacher") -> Statistics:
    """The statistics that `kind` asks for, of a member that is known by its scores of the lists alone.

    Raises RequestError for an unknown kind, NumericError as `check_finite` does.
    """
    if kind == "zscore":
        return list_statistics(raw, member)
    if kind == "minmax":
        return corpus_statistics(raw, member)
    if kind == "absolute":
        return logistic_statistics(raw, member)
    if kind in ("none", "log_odds"):
        check_finite(raw, member)
        same = Statistics(np.zeros(len(raw)), np.ones(len(raw)))
        return same if kind == "none" else log_odds_statistics(raw.values_T, len(raw))
    raise RequestError(f"calibrate is {kind!r}, expected one of {', '.join(get_args(Calibration))}")


def calibrate(raw: Ragged, statistics: Statistics, member: str = "teacher") -> Ragged:
    """`statistics` applied to each list, float32, computed in float64. Raises NumericError as `check_finite` does."""
    check_finite(raw, member)
    if len(raw) != len(statistics):
        raise WorkError(f"{member}: {len(raw)} lists, but statistics of {len(statistics)} queries")
    centre_T, scale_T = per_entry(statistics.centre_Q, raw), per_entry(statistics.scale_Q, raw)
    return raw.with_values(_scaled(raw.values_T, centre_T, scale_T, statistics))


def apply(
    scores_BN: NDArray[np.floating],
    statistics: Statistics,
    query_positions: NDArray[np.int64],
    member: str = "teacher",
) -> NDArray[np.float32]:
    """`calibrate` for a batch's matrix, float32 (B, N); `query_positions` (B,) says whose statistics each row takes.

    Raises NumericError naming `member`, query position and column of a score that is not finite.
    """
    bad = np.argwhere(~np.isfinite(scores_BN))
    if len(bad):
        row, column = (int(number) for number in bad[0])
        raise NumericError(
            f"{member}: score of query position {int(query_positions[row])}, document column {column} is "
            f"{scores_BN[row, column]}, expected finite numbers"
        )
    centre_B1, scale_B1 = statistics.centre_Q[query_positions, None], statistics.scale_Q[query_positions, None]
    return _scaled(scores_BN, centre_B1, scale_B1, statistics)


def _scaled(values: NDArray[np.floating], centre: Floats, scale: Floats, statistics: Statistics) -> NDArray[np.float32]:
    z = (values.astype(np.float64) - centre) / scale
    if statistics.form == "clipped":
        z = np.clip(z, 0.0, 1.0)
    elif statistics.form == "logistic":
        z = 1 / (1 + np.exp(-np.clip(z, -MOST_ODDS, MOST_ODDS)))
    return np.asarray(statistics.height * z, dtype=np.float32)


def _safe_scale(scale_Q: Floats, centre_Q: Floats) -> Floats:
    return np.where(scale_Q > FLOAT32_NOISE * np.abs(centre_Q), scale_Q, 1.0)


def reduced(ufunc: np.ufunc, values_T: NDArray[Any], lists: Ragged, empty: float) -> Floats:
    """`ufunc` over each list of `values_T`, cut as `lists` is, float64 (Q,); `empty` for a list without entries, which
    `ufunc.reduceat` alone gets wrong."""
    out_Q = np.full(len(lists), empty, dtype=np.float64)
    filled_Q = lists.lengths > 0
    if filled_Q.any():
        out_Q[filled_Q] = ufunc.reduceat(np.asarray(values_T, dtype=np.float64), lists.offsets[:-1][filled_Q])
    return out_Q


def per_entry(values_Q: Floats, lists: Ragged) -> Floats:
    """Each list's number repeated for its entries, shape (T,)."""
    return np.repeat(values_Q, lists.lengths)


def check_same_lists(name: str, lists: Ragged, expected_name: str, expected: Ragged) -> None:
    """Raise WorkError unless both are cut into the same lists."""
    if len(lists.values_T) != len(expected.values_T) or not np.array_equal(lists.offsets, expected.offsets):
        raise WorkError(
            f"{name} holds {len(lists)} lists of {len(lists.values_T)} entries, {expected_name} {len(expected)} of "
            f"{len(expected.values_T)}, or they are cut at other places; both must come from the same candidates"
        )


def normalised(weights: Sequence[float]) -> Floats:
    """Weights scaled to sum to 1, float64 (M,). Raises RequestError for negative, infinite or all-zero weights."""
    weights_M = np.asarray(weights, dtype=np.float64)
    if not len(weights_M) or not np.isfinite(weights_M).all() or (weights_M < 0).any() or weights_M.sum() <= 0:
        raise RequestError(f"teacher weights are {list(weights)}, expected numbers of 0 or more with one above 0")
    return np.asarray(weights_M / weights_M.sum())


def mix(members: Sequence[Ragged], weights: Sequence[float]) -> Ragged:
    """Sum over members of weight x calibrated score, weights normalised to sum 1; float32, computed in float64.

    Raises RequestError for bad weights, WorkError if the members are not cut into the same lists.
    """
    weights_M = _paired(len(members), weights)
    for number, member in enumerate(members[1:], start=1):
        check_same_lists(f"teacher member {number}", member, "member 0", members[0])
    total_T = sum(w * m.values_T.astype(np.float64) for w, m in zip(weights_M, members, strict=True))
    return members[0].with_values(np.asarray(total_T).astype(np.float32))


def mix_matrices(members: Sequence[NDArray[np.floating]], weights: Sequence[float]) -> NDArray[np.float32]:
    """`mix` for calibrated matrices of one batch, float32 (B, N)."""
    weights_M = _paired(len(members), weights)
    shapes = {member.shape for member in members}
    if len(shapes) > 1:
        raise WorkError(f"teacher members score matrices of shapes {sorted(shapes)}, expected one shape")
    total_BN = sum(w * m.astype(np.float64) for w, m in zip(weights_M, members, strict=True))
    return np.asarray(total_BN).astype(np.float32)


def _paired(members: int, weights: Sequence[float]) -> Floats:
    if members != len(weights):
        raise WorkError(f"{members} teacher members, but {len(weights)} weights")
    return normalised(weights)
