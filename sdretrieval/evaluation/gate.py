"""The gate: is the candidate student better than the base on dev, and how sure can one be?

A pure function over per-query dev values. A gate that turns a real gain away errs as much as one that lets a loss
through: so acceptance asks for a gain whose interval excludes a loss that matters, and proof is stated apart from it.

The more often we look at dev, the sooner we see a gain by chance: each look pays for all (Bonferroni), everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sdretrieval.evaluation.significance import (
    ALPHA,
    SAMPLES,
    detectable_gain,
    expanded_level,
    interval,
    paired_differences,
    paired_test,
)
from sdretrieval.formatting import quantity

ENOUGH = 20
"""With fewer dev queries nothing is decided: one lucky query is 5 % of the mean."""
LEVEL = 0.90
"""Of the interval if dev is asked once: its lower end is above the truth in 5 of 100 cases."""
FOLLOWS = 0.25
"""Of the way to its teacher, on queries that training did not see: with less, what was learned does not carry over."""
HARMLESS = 0.02
"""A loss on synthetic dev queries that must be excluded if queries that people asked speak for the candidate."""
MERGE_SHARES = (0.5, 0.25, 0.75)
"""Shares of the candidate's weights that are tried, in this order, if the candidate is refused."""


def looks_of(generations: int, *, mixture: bool = False) -> int:
    """The share of a run's risk that one look at dev may take, as one of so many equal looks.

    Each generation has the same share of it: half for the trained student, the other half for its mixtures together.
    """
    return 2 * generations * (len(MERGE_SHARES) if mixture else 1)


@dataclass(frozen=True)
class Following:
    """What queries that people asked say of a candidate without any judgement, kept out of training.

    `share`: how far it came to its teacher (1: all the way, 0: not at all), on so many `queries`; `gain`: what the
    teacher is predicted to be ahead of the base student, of one without lexical half if the student has one
    (`beside_half`).
    """

    share: float
    queries: int
    gain: float
    beside_half: bool = False

    @property
    def enough(self) -> bool:
        """Whether what was learned carries over to queries that training did not see."""
        return self.share >= FOLLOWS


@dataclass(frozen=True)
class GateDecision:
    """What the gate decided, with the numbers it decided by.

    `decided` is False if dev is too small to tell. `interval` is that of the difference at `level`. `proven` says that
    the gain is also significant (p < 0.05, corrected for the looks at dev), on judged queries; `detectable` is the gain
    that dev could probably show in one look. `by_kind`: the difference, its p and n by kind of synthetic query.
    """

    decided: bool
    accepted: bool
    proven: bool
    difference: float
    interval: tuple[float, float]
    level: float
    p: float
    n: int
    detectable: float
    reason: str
    by_kind: dict[str, dict[str, float]] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """As a JSON object."""
        finite = self.detectable if math.isfinite(self.detectable) else None  # JSON knows no infinity
        return asdict(self) | {"interval": list(self.interval), "detectable": finite}


def decide(
    base: Mapping[str, float],
    candidate: Mapping[str, float],
    tolerance: float,
    seed: int,
    *,
    looks: int = 1,
    chosen_of: int = 1,
    kinds: Mapping[str, str] | None = None,
    following: Following | None = None,
    samples: int = SAMPLES,
) -> GateDecision:
    """Accept `candidate` if it gains on dev and its interval excludes a loss above `tolerance`.

    Both map dev query id -> value of the gate's measure. With k = `looks`, this look at the same queries is one of k:

    * a gain is a positive difference with k p < 1, so that without any gain at most half of all runs see one;
    * the interval's level is 1 - 0.1 / k, so that a run keeps a loss above `tolerance` in at most 5 of 100 cases;
    * it is proven if k `chosen_of` p < 0.05. `chosen_of`: from so many teachers' mixtures the same queries chose.

    `kinds`: by query what kind of synthetic query it is; None if dev is judged. Synthetic queries prove nothing, and a
    significant loss (p < 0.05) on any one of their kinds refuses: the gain on the others may be mere habit.

    `following`: if the training queries are ones that people asked, synthetic dev queries are of another kind, and only
    guard against harm: a candidate that follows its teacher (`FOLLOWS`) is accepted if the interval excludes a loss
    above `HARMLESS`; one that does not is refused.

    With fewer than `ENOUGH` queries nothing is accepted. `samples`: of the test and the interval. Raises RequestError
    if the two hold different queries.
    """
    differences_Q = paired_differences(candidate, base)
    test = paired_test(candidate, base, seed, samples)
    count = test.n
    level = 1 - (1 - LEVEL) / looks
    low, high = interval(differences_Q, expanded_level(level, count), seed, samples)
    decided = count >= ENOUGH
    gained = test.difference > 0 and (looks == 1 or looks * test.p < 1)
    by_kind = {kind: paired_test(*pair, seed, samples) for kind, pair in _by_kind(candidate, base, kinds or {})}
    losing = [kind for kind, one in by_kind.items() if one.difference < 0 and one.p < ALPHA]
    if following is None:
        accepted = decided and gained and low >= -tolerance and not losing
    else:
        accepted = decided and following.enough and low >= -max(tolerance, HARMLESS)
    proven = accepted and kinds is None and test.p * looks * chosen_of < ALPHA
    detectable = detectable_gain(differences_Q)
    if count < 2:
        power = "a single query cannot tell a gain from noise"
    elif detectable == 0:
        power = "no noise was seen, every query changed by the same amount"
    else:
        power = f"with this many queries a gain of about {detectable:.4f} or more would probably have been seen"
    paid = f", one of {looks} looks at dev" if looks > 1 else ""
    paid += f", its teacher chosen of {chosen_of}" if chosen_of > 1 else ""
    uncertainty = f"{100 * level:.4g}% interval {low:+.4f} to {high:+.4f}, p = {test.p:.3g}{paid}"
    numbers = f"{test.difference:+.4f} on {quantity(count, 'dev queries')} ({uncertainty})"
    if not decided:
        outcome = f"undecided: {count} dev queries are too few to tell a gain from luck, {ENOUGH} are needed"
    elif following is not None:
        outcome = _followed(following, accepted, low, max(tolerance, HARMLESS))
    else:
        outcome = _outcome(accepted, proven, gained, test.difference, low, tolerance)
        if accepted and kinds is not None:
            outcome = f"accepted, an estimated gain: a loss above the tolerance of {tolerance:g} is excluded"
        elif losing and gained:
            outcome = f"rejected: a significant loss on one kind of query ({', '.join(losing)})"
    if len(by_kind) > 1:
        parts = (f"{kind} {one.difference:+.4f} on {one.n} (p = {one.p:.3g})" for kind, one in by_kind.items())
        power = f"by kind: {', '.join(parts)}; {power}"
    reason = f"{outcome}: {numbers}; {power}."
    record = {kind: {"difference": one.difference, "p": one.p, "n": one.n} for kind, one in by_kind.items()}
    return GateDecision(
        decided, accepted, proven, test.difference, (low, high), level, test.p, count, detectable, reason, record
    )


def _by_kind(
    candidate: Mapping[str, float], base: Mapping[str, float], kinds: Mapping[str, str]
) -> Iterator[tuple[str, tuple[dict[str, float], dict[str, float]]]]:
    for kind in dict.fromkeys(kinds[query] for query in base if query in kinds):
        queries = [query for query in base if kinds.get(query) == kind]
        if len(queries) >= ENOUGH:
            yield kind, ({query: candidate[query] for query in queries}, {query: base[query] for query in queries})


def _followed(following: Following, accepted: bool, low: float, tolerance: float) -> str:
    way = (
        f"on {quantity(following.queries, 'queries')} that people asked, kept out of training, it came "
        f"{100 * following.share:.0f} % of the way to its teacher, which is predicted to be {following.gain:+.4f} ahead"
        f"{' of the base without the lexical half' if following.beside_half else ''}"
    )
    if accepted:
        return f"accepted, an estimated gain: {way}, and synthetic dev queries exclude a loss above {tolerance:g}"
    if not following.enough:
        return f"rejected: {way}; {100 * FOLLOWS:.0f} % are asked for"
    return f"rejected: {way}, but a loss of {-low:.4f} on synthetic dev queries, above {tolerance:g}, is not excluded"


def _outcome(accepted: bool, proven: bool, gained: bool, difference: float, low: float, tolerance: float) -> str:
    if proven:
        return "accepted, a proven gain"
    if accepted:
        return f"accepted, not proven: a gain, and a loss above the tolerance of {tolerance:g} is excluded"
    if difference == 0:
        return "rejected: no gain at all"
    if difference < 0:
        return "rejected: a loss"
    if not gained:
        return "rejected: a gain that so many looks at dev find by chance"
    return f"rejected: a gain, but a loss of {-low:.4f}, above the tolerance of {tolerance:g}, is not excluded"
