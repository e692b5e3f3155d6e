"""The gate: is the candidate student better than the base on dev, and how sure can one be?

A pure function over per-query dev values. A gate that turns a real gain away errs as much as one that lets a loss
through: so acceptance asks for a gain whose interval excludes a loss that matters, and proof is stated apart from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sdretrieval.evaluation.significance import ALPHA, detectable_gain, interval, paired_differences, paired_test

MERGE_SHARES = (0.5, 0.25, 0.75)
"""Shares of the candidate's weights that are tried, in this order, if the candidate is refused."""


@dataclass(frozen=True)
class GateDecision:
    """What the gate decided, with the numbers it decided by.

    `proven` says that the gain is also significant (p < 0.05, corrected for how many were chosen among); `detectable`
    is the gain that dev could probably show.
    """

    accepted: bool
    proven: bool
    difference: float
    interval90: tuple[float, float]
    p: float
    n: int
    detectable: float
    reason: str


def decide(
    base: Mapping[str, float],
    candidate: Mapping[str, float],
    tolerance: float,
    seed: int,
    level: float = 0.90,
    *,
    of: int = 1,
) -> GateDecision:
    """Accept `candidate` if its dev gain is positive and the interval at `level` excludes a loss above `tolerance`.

    Both map dev query id -> value of the gate's measure. `of`: as many candidates were there to be chosen by the same
    queries, so that a proof asks for `of` times as small a p (Bonferroni). Raises RequestError where they hold
    different queries.
    """
    differences_Q = paired_differences(candidate, base)
    test = paired_test(candidate, base, seed)
    low, high = interval(differences_Q, level, seed)
    accepted = test.difference > 0 and low >= -tolerance
    proven = accepted and test.p * of < ALPHA
    detectable = detectable_gain(differences_Q)
    uncertainty = f"{level:.0%} interval {low:+.4f} to {high:+.4f}, p = {test.p:.3g}"
    numbers = f"{test.difference:+.4f} on {test.n} dev queries ({uncertainty}{f', chosen of {of}' if of > 1 else ''})"
    reason = (
        f"{_judgement(accepted, proven, test.difference, low, tolerance)}: {numbers}; {_power(test.n, detectable)}."
    )
    return GateDecision(accepted, proven, test.difference, (low, high), test.p, test.n, detectable, reason)


def _judgement(accepted: bool, proven: bool, difference: float, low: float, tolerance: float) -> str:
    if proven:
        return "accepted, a proven gain"
    if accepted:
        return f"accepted, not proven: a gain, and a loss above the tolerance of {tolerance:g} is excluded"
    if difference == 0:
        return "rejected: no gain at all"
    if difference < 0:
        return "rejected: a loss"
    return f"rejected: a gain, but a loss of {-low:.4f}, above the tolerance of {tolerance:g}, is not excluded"


def _power(n_queries: int, detectable: float) -> str:
    if n_queries < 2:
        return "a single query cannot tell a gain from noise"
    if detectable == 0:
        return "no noise was seen, every query changed by the same amount"
    return f"with this many queries a gain of about {detectable:.4f} or more would probably have been seen"
