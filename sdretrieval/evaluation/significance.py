"""Is a difference real? Paired randomisation tests, bootstrap intervals, Holm's correction, and what could be seen.

Legend: Q queries, B samples of one chunk.

Papers: paired randomisation for retrieval, Smucker et al. 2007; bootstrap, Efron 1979, Hesterberg 2015; Holm 1979.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import NumericError, RequestError

SAMPLES = 10_000
"""Random samples of a test or an interval: p is then known to about 0.002 at p = 0.05."""
ALPHA = 0.05
"""A difference with p below this is called a gain or a loss."""
GAIN, LOSS, NOISE = "gain", "loss", "no gain within noise"
_CHUNK_ENTRIES = 1 << 20
Values = NDArray[np.float64]


@dataclass(frozen=True)
class PairedTest:
    """Comparison of a with b over the same queries; `difference` is mean(a) - mean(b)."""

    difference: float
    interval95: tuple[float, float]
    p: float
    n: int


class SeedAverage(NamedTuple):
    """A measure averaged over seeds by query, and how far the seeds' own averages are apart (standard deviation)."""

    per_query: dict[str, float]
    spread: float


def paired_test(a: Mapping[str, float], b: Mapping[str, float], seed: int = 0, samples: int = SAMPLES) -> PairedTest:
    """Two-sided paired randomisation test of a against b, with a bootstrap 95 % interval of the difference.

    Each sample flips the sign of every query's difference at random; p = (as large or larger + 1) / (samples + 1).
    Not `scipy.stats.permutation_test`: its two-sided p is twice the smaller tail, so that it is at least 2 / (samples +
    1), it differed by up to 0.012 on real runs, and it took 12 times as long.
    Raises RequestError if the two do not hold the same queries, NumericError if a value is not finite.
    """
    differences_Q = paired_differences(a, b)
    return PairedTest(
        difference=float(differences_Q.mean()),
        interval95=interval(differences_Q, 0.95, seed, samples),
        p=_randomisation_p(differences_Q, seed, samples),
        n=len(differences_Q),
    )


def paired_differences(a: Mapping[str, float], b: Mapping[str, float]) -> Values:
    """a - b by query, in the order of the query ids, so that the order of the mappings changes nothing."""
    if a.keys() != b.keys():
        only_a, only_b = sorted(a.keys() - b.keys()), sorted(b.keys() - a.keys())
        raise RequestError(
            f"two systems measured on different queries cannot be compared: {_some(only_a)} only in the first, "
            f"{_some(only_b)} only in the second; evaluate both on the same split"
        )
    return _numbers({query: a[query] for query in sorted(a)}) - _numbers({query: b[query] for query in sorted(a)})


def interval(
    values: Mapping[str, float] | Sequence[float] | Values,
    level: float = 0.95,
    seed: int = 0,
    samples: int = SAMPLES,
) -> tuple[float, float]:
    """Bootstrap percentile interval of the mean over queries, at `level` (0.95 = 2.5th to 97.5th percentile)."""
    from scipy.stats import bootstrap

    values_Q = _numbers(values)
    if len(values_Q) == 1:  # which scipy refuses
        return float(values_Q[0]), float(values_Q[0])
    low, high = bootstrap(
        (values_Q,), np.mean, n_resamples=samples, confidence_level=level, method="percentile", vectorized=True,
        batch=max(1, _CHUNK_ENTRIES // len(values_Q)), rng=np.random.default_rng([seed, 1]),
    ).confidence_interval  # fmt: skip
    return float(low), float(high)


def expanded_level(level: float, count: int) -> float:
    """The level at which a bootstrap percentile interval of a mean over `count` queries covers what it promises at
    `level`: that of Student's t interval. Unchanged, it is too narrow for few queries (Hesterberg 2015)."""
    if count < 2:
        return level
    from scipy.stats import norm, t

    reach = math.sqrt(count / (count - 1)) * t.isf((1 - level) / 2, count - 1)
    return float(1 - 2 * norm.sf(reach))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction over the rows of one table: adjusted p-values, in the order given."""
    impossible = [p for p in p_values if not 0 <= p <= 1]
    if impossible:
        raise RequestError(f"a p-value is in 0..1, found {impossible[0]}")
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, position in enumerate(sorted(range(len(p_values)), key=lambda position: p_values[position])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[position]))
        adjusted[position] = highest
    return adjusted


def family(tests: Mapping[tuple[str, str], PairedTest], measure: str) -> list[dict[str, Any]]:
    """Rows for a report, one a test of (a, b) by `measure`, with Holm's correction over all of them and a verdict."""
    adjusted = holm([test.p for test in tests.values()])
    return [
        {
            "a": a,
            "b": b,
            "measure": measure,
            "difference": test.difference,
            "interval95": list(test.interval95),
            "p": test.p,
            "p_holm": p_holm,
            "verdict": verdict(test, p_holm),
        }
        for ((a, b), test), p_holm in zip(tests.items(), adjusted, strict=True)
    ]


def over_seeds(seeds: Sequence[Mapping[str, float]]) -> SeedAverage:
    """Average each query's measure over the seeds, to be tested over queries; with the spread of the seeds' means.

    Raises RequestError if there is no seed, or the seeds hold different queries.
    """
    if not seeds:
        raise RequestError("no seeds to average: give at least one seed's values by query")
    offsets_SQ = [paired_differences(values, dict.fromkeys(seeds[0], 0.0)) for values in seeds]
    per_query = np.mean(offsets_SQ, axis=0).tolist()
    means = [values_Q.mean() for values_Q in offsets_SQ]
    spread = float(np.std(means, ddof=1)) if len(means) > 1 else 0.0
    return SeedAverage(dict(zip(sorted(seeds[0]), per_query, strict=True)), spread)


def detectable_gain(
    values: Mapping[str, float] | Sequence[float] | Values, power: float = 0.8, alpha: float = ALPHA
) -> float:
    """The smallest true gain that a test over this many queries would probably (with `power`) find at `alpha`.

    `values` are differences by query, or one system's values if there is no second yet (then an upper estimate):
    (z(1 - alpha/2) + z(power)) standard errors. Infinite for a single query, which tells nothing about noise.
    """
    values_Q = _numbers(values)
    if len(values_Q) < 2:
        return math.inf
    normal = NormalDist()
    standard_error = float(values_Q.std(ddof=1)) / math.sqrt(len(values_Q))
    return (normal.inv_cdf(1 - alpha / 2) + normal.inv_cdf(power)) * standard_error


def verdict(test: PairedTest, p_adjusted: float | None = None) -> str:
    """ "gain", "loss" or "no gain within noise"; `p_adjusted` (Holm's) takes the place of the test's own p."""
    p = test.p if p_adjusted is None else p_adjusted
    if p >= ALPHA or test.difference == 0:
        return NOISE
    return GAIN if test.difference > 0 else LOSS


def _randomisation_p(differences_Q: Values, seed: int, samples: int) -> float:
    moved_Q = differences_Q[differences_Q != 0]  # the sign of a zero changes nothing
    if not len(moved_Q):
        return 1.0
    random = np.random.default_rng([seed, 2])
    total = moved_Q.sum()
    # Sums that are equal on paper differ in the last digits: they count as equal.
    as_large = abs(total) - 1e-9 * np.abs(moved_Q).sum()
    count, at_once = 0, max(1, _CHUNK_ENTRIES // len(moved_Q))
    for start in range(0, samples, at_once):
        flipped_BQ = random.integers(0, 2, (min(at_once, samples - start), len(moved_Q)), dtype=np.int8)
        count += int((np.abs(total - 2 * (flipped_BQ @ moved_Q)) >= as_large).sum())
    return (count + 1) / (samples + 1)


def _numbers(values: Any) -> Values:
    numbers_Q = np.asarray(list(values.values()) if isinstance(values, Mapping) else values, dtype=np.float64)
    if not len(numbers_Q):
        raise RequestError("no queries to compare: the measure holds no value; check the split's qrels")
    if not np.isfinite(numbers_Q).all():
        raise NumericError(f"query number {int(np.argmin(np.isfinite(numbers_Q))) + 1} has a value that is not finite")
    return numbers_Q


def _some(queries: Sequence[str]) -> str:
    return f"{len(queries)} ({', '.join(map(repr, queries[:3]))})" if queries else "0"
