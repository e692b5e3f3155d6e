"""`sdretrieval.evaluation.prediction` learned on some collections and tried on the others; the numbers of its table.

For each system a ridge regression of its true difference to dense search on closeness and agreement. Every collection
weighs the same, however many models were measured on it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

Case = Mapping[str, Any]
Found = list[tuple[Case, dict[str, float]]]
Array = np.ndarray[Any, Any]

RIDGE, DRAWS, SEED = 0.3, 10, 13
"""The penalty, as a multiple of a signal's variance; samples of queries if fewer than all are known."""


class Fit(NamedTuple):
    """By system the gain of a typical collection and what a unit of each signal adds; typical signals, their ends."""

    lines: dict[str, tuple[float, float, float]]
    typical: Array
    seen: Array

    def __call__(self, signals: Array) -> dict[str, float]:
        """The predicted differences; a signal outside what was seen counts as the nearest end."""
        moved = signals.clip(*self.seen) - self.typical
        return {name: gain + float(moved @ slopes) for name, (gain, *slopes) in self.lines.items()}


def signals(case: Case, rows: Sequence[int] | None = None) -> Array:
    """Closeness and agreement, over some of the queries or all."""
    best, agreement = np.asarray(case["signals"])[slice(None) if rows is None else list(rows)].mean(0)
    return np.asarray([(best - case["unrelated"]) / (1 - case["unrelated"]), agreement])


def fit(cases: Sequence[Case]) -> Fit:
    """Learn from these."""
    names = [case["collection"] for case in cases]
    weights = np.asarray([1 / names.count(name) for name in names])
    weights /= weights.sum()
    given = np.stack([signals(case) for case in cases])
    typical = weights @ given
    spread = np.sqrt(weights @ (given - typical) ** 2).clip(1e-9)
    scaled = (given - typical) / spread
    inverse = np.linalg.inv((scaled * weights[:, None]).T @ scaled + RIDGE * np.eye(2))
    lines = {}
    for name in cases[0]["truth"]:
        true = np.asarray([case["truth"][name] for case in cases])
        gain = float(weights @ true)
        slopes = inverse @ ((scaled * weights[:, None]).T @ (true - gain)) / spread
        lines[name] = (gain, float(slopes[0]), float(slopes[1]))
    return Fit(lines, typical, np.stack([given.min(0), given.max(0)]))


def others(cases: Sequence[Case], case: Case) -> list[Case]:
    """The cases of other collections."""
    return [one for one in cases if one["collection"] != case["collection"]]


def predictions(cases: Sequence[Case], queries: int | None = None, other_models: bool = False) -> Found:
    """Each case as the other collections predict it, from all of its queries or from samples of so many.

    `other_models`: learned from other models alone, too.
    """
    rng, found = np.random.default_rng(SEED), []
    for case in cases:
        rest = [one for one in others(cases, case) if not other_models or one["model"] != case["model"]]
        if not rest:
            continue
        learned = fit(rest)
        for _ in range(DRAWS if queries else 1):
            rows = rng.permutation(len(case["signals"]))[:queries] if queries else None
            found.append((case, learned(signals(case, rows))))
    return found


def averages(cases: Sequence[Case]) -> Found:
    """What the systems gain on the other collections, whatever the queries."""
    return [(case, {name: line[0] for name, line in fit(others(cases, case)).lines.items()}) for case in cases]


def by_sample(cases: Sequence[Case], queries: int, judged: bool) -> Found:
    """What so many queries say, by their judgements or without, beside the truth of the remaining ones; cases with
    twice as many."""
    rng, found = np.random.default_rng(SEED), []
    for case in cases:
        if case["queries"] < 2 * queries:
            continue
        learned = None if judged else fit(others(cases, case))
        values = {name: np.asarray(case["by_query"][name]) for name in case["truth"]}
        for _ in range(DRAWS):
            order = rng.permutation(case["queries"])
            known, rest = order[:queries], order[queries:]
            said = learned(signals(case, known)) if learned else {n: float(v[known].mean()) for n, v in values.items()}
            found.append(({**case, "truth": {name: float(one[rest].mean()) for name, one in values.items()}}, said))
    return found


def numbers(cases: Sequence[Case], weights: Mapping[str, float], level: float) -> Iterator[str]:
    """The constants of `sdretrieval.evaluation.prediction`, learned from all cases; errors are those held out."""
    learned, held_out, average = fit(cases), predictions(cases), averages(cases)
    yield f"TYPICAL = {tuple(learned.typical.round(3).tolist())}"
    yield f"SEEN = {tuple(tuple(ends) for ends in learned.seen.T.round(2).tolist())}"
    for name, weight in weights.items():
        low, high, _ = coverage(held_out, name, level)
        row = (round(learned.lines[name][0], 3), *(round(slope, 2) for slope in learned.lines[name][1:]))
        yield f"BY_WEIGHT[{weight:g}] = {(*row, round(low, 2), round(high, 2))}"
        low, high, held = coverage(average, name, level)
        yield f"AVERAGE_ERROR[{weight:g}] = {(round(low, 2), round(high, 2))}; held out it holds {held:.0%}"


def cautious(cases: Sequence[Case], names: Sequence[str], most_lost: float) -> Iterator[tuple[float, float]]:
    """By case what the system gains that is chosen, and the best of them: the highest prediction, of those whose low
    end is no loss above `most_lost`; nothing if none gains. Predictions and errors come from other collections."""
    for case in cases:
        rest = others(cases, case)
        held_out, said = predictions(rest), fit(rest)(signals(case))
        low = {name: coverage(held_out, name, 0.9)[0] for name in names}
        allowed = [name for name in names if said[name] > 0 and said[name] + low[name] >= -most_lost]
        best = max(allowed, key=said.__getitem__, default=None)
        yield case["truth"][best] if best else 0.0, max(0.0, *(case["truth"][name] for name in names))


def coverage(found: Found, name: str, level: float) -> tuple[float, float, float]:
    """Quantiles of truth less prediction of a system, and how often the other collections' quantiles hold the truth."""
    ends = ((1 - level) / 2, (1 + level) / 2)
    errors = [(case["collection"], case["truth"][name] - est[name]) for case, est in found]
    held = []
    for collection, error in errors:
        low, high = np.quantile([one for other, one in errors if other != collection], ends)
        held.append(low <= error <= high)
    low, high = np.quantile([error for _, error in errors], ends)
    return float(low), float(high), float(np.mean(held))
