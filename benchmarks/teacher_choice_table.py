"""What `benchmarks.teacher_choice` has measured, as tables; whatever is learned comes from other collections.

Legend: Q queries, M mixtures.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.estimates_prediction import RIDGE
from sdretrieval.evaluation.prediction import MATTERS
from sdretrieval.evaluation.significance import ALPHA

Array = np.ndarray[Any, Any]
Mixture = tuple[float, ...]
SEED, DRAWS, DEV, LEVEL = 13, 30, (30, 100), 0.05
CANDIDATES: dict[str, tuple[int, ...]] = {
    "BM25": (0, 1), "BM25, tokens": (0, 1, 2), "BM25, other": (0, 1, 3), "BM25, tokens, other": (0, 1, 2, 3),
}  # fmt: skip
"""Members that a mixture may hold; the first is the student."""
SHOWN = ((0.5, 0.5, 0, 0), (0.25, 0.75, 0, 0), (0.1, 0.9, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0.25, 0.5, 0.25, 0),
         (1 / 3, 1 / 3, 1 / 3, 0), (0, 0, 0, 1), (0.25, 0.5, 0, 0.25), (1 / 3, 1 / 3, 0, 1 / 3))  # fmt: skip


class Case(NamedTuple):
    """A collection and a model: gains over the student (M, Q) by scale, and what is seen without judgements (Q, 3)."""

    collection: str
    model: str
    gains: dict[str, Array]
    signals_Q3: Array
    unrelated: float

    @property
    def seen(self) -> Array:
        """Closeness, agreement with BM25 and with the other bi-encoder, over all queries."""
        best, *agreement = self.signals_Q3.mean(0)
        return np.asarray([(best - self.unrelated) / (1 - self.unrelated), *agreement])


class Outcome(NamedTuple):
    """Of a choice: what it gains in truth, what the best mixture of its candidates does, and of all."""

    case: Case
    gain: float
    best: float
    best_of_all: float


def tables(folder: Path, mixtures: Sequence[Mixture]) -> str:
    """All of them in Markdown."""
    records = [json.loads(file.read_text()) for file in sorted(folder.glob("*.json"))]
    if not records:
        return "no case is measured yet"
    alone = mixtures.index((1.0, 0.0, 0.0, 0.0))
    cases = []
    for one in records:
        values = {scale: np.asarray(found, dtype=float) for scale, found in one["values"].items()}
        gains = {scale: found - found[alone] for scale, found in values.items()}
        cases.append(Case(one["collection"], one["model"], gains, np.asarray(one["signals"]), one["unrelated"]))
    return "\n".join([*choices(cases, mixtures), "", *scales(cases, mixtures), "", *by_case(cases, mixtures)])


def choices(cases: Sequence[Case], mixtures: Sequence[Mixture]) -> Iterator[str]:
    """What each way of choosing gains and costs."""
    yield "| known | candidates | rule | cases | gain | cost | of all | chosen gains | losses | least mean |"
    yield "|---" * 10 + "|"
    for name, members in CANDIDATES.items():
        inside = [m for m, one in enumerate(mixtures) if not any(w for n, w in enumerate(one) if n not in members)]
        quarters = [m for m in inside if max(mixtures[m]) != 0.9]
        known_cases = [case for case in cases if np.isfinite(truth(case)[inside]).all()]
        for dev in DEV:
            for rule, some, choose in (
                ("best", inside, best), ("best, without 0.9 of BM25", quarters, best),
                ("even, unless p < 0.05", quarters, careful(mixtures)),
            ):  # fmt: skip
                yield line(f"{dev} judged", name, rule, list(judged(known_cases, dev, some, choose)))
        for known, signals in (
            ("examples", [0, 1]),
            ("examples, agreement with the other too", [0, 1, 2]),
            ("nothing", []),
        ):
            yield line(known, name, "highest, no low end below -0.02", list(predicted(known_cases, quarters, signals)))


def line(known: str, name: str, rule: str, found: Sequence[Outcome]) -> str:
    """A row of the table."""
    if not found:
        return f"| {known} | {name} | {rule} | 0 |" + " |" * 6
    names = {(one.case.collection, one.case.model): [] for one in found}
    for one in found:
        names[one.case.collection, one.case.model].append(one.gain)
    means = {name: float(np.mean(gains)) for name, gains in names.items()}
    least = min(means, key=means.__getitem__)
    gain, cost, of_all = (float(np.mean(some)) for some in zip(
        *((one.gain, one.best - one.gain, one.best_of_all - one.gain) for one in found), strict=True))  # fmt: skip
    right = np.mean([one.gain > 0 for one in found])
    lost = np.mean([one.gain < -MATTERS for one in found])
    cells = f"{gain:+.3f} | {cost:.3f} | {of_all:.3f} | {right:.0%} | {lost:.0%}"
    return f"| {known} | {name} | {rule} | {len(names)} | {cells} | {means[least]:+.3f} ({', '.join(least)}) |"


def judged(
    cases: Sequence[Case], dev: int, inside: Sequence[int], choose: Callable[[Array, Sequence[int]], int]
) -> Iterator[Outcome]:
    """So many queries choose, the others are the truth; cases with twice as many."""
    rng = np.random.default_rng(SEED)
    for case in cases:
        gains_MQ = case.gains["absolute"]
        if gains_MQ.shape[1] < 2 * dev:
            continue
        for _ in range(DRAWS):
            order = rng.permutation(gains_MQ.shape[1])
            chosen = choose(gains_MQ[:, order[:dev]], inside)
            true_M = gains_MQ[:, order[dev:]].mean(1)
            gain = float(true_M[chosen]) if gains_MQ[chosen, order[:dev]].mean() > 0 else 0.0
            yield Outcome(case, gain, max(0.0, true_M[list(inside)].max()), max(0.0, np.nanmax(true_M)))


def best(dev_MQ: Array, inside: Sequence[int]) -> int:
    """The mixture with the highest mean."""
    return max(inside, key=lambda m: dev_MQ[m].mean())


def careful(mixtures: Sequence[Mixture]) -> Callable[[Array, Sequence[int]], int]:
    """The even mixture of all candidates, unless the best one is significantly better (t-test)."""
    from scipy.stats import ttest_1samp

    def choose(dev_MQ: Array, inside: Sequence[int]) -> int:
        most = max(sum(w > 0 for w in mixtures[m]) for m in inside)
        usual = min(inside, key=lambda m: (sum(w > 0 for w in mixtures[m]) != most, max(mixtures[m])))
        other = best(dev_MQ, inside)
        more_Q = dev_MQ[other] - dev_MQ[usual]
        return other if more_Q.std() > 0 and more_Q.mean() > 0 and ttest_1samp(more_Q, 0).pvalue < ALPHA else usual

    return choose


def predicted(cases: Sequence[Case], inside: Sequence[int], signals: Sequence[int]) -> Iterator[Outcome]:
    """The mixture with the highest prediction, of those whose low end is no loss that matters; predictions and their
    errors are learned on other collections."""
    for case in cases:
        rest = [one for one in cases if one.collection != case.collection]
        if len({one.collection for one in rest}) < 2:
            continue
        errors = [
            truth(one) - fit([two for two in rest if two.collection != one.collection], signals)(one) for one in rest
        ]
        said_M = fit(rest, signals)(case)
        low_M = said_M + np.quantile(np.stack(errors), LEVEL, axis=0)
        chosen = max((m for m in inside if low_M[m] >= -MATTERS), key=lambda m: said_M[m])
        true_M = truth(case)
        yield Outcome(case, float(true_M[chosen]), max(0.0, true_M[list(inside)].max()), max(0.0, np.nanmax(true_M)))


def truth(case: Case) -> Array:
    """Gains of all mixtures (M,)."""
    return np.asarray(case.gains["absolute"].mean(1))


def fit(rest: Sequence[Case], signals: Sequence[int]) -> Callable[[Case], Array]:
    """A ridge regression of every mixture's gain on the signals; each collection weighs the same."""
    names = [one.collection for one in rest]
    weights = np.asarray([1 / names.count(name) for name in names])
    weights /= weights.sum()
    gains, given = np.stack([truth(one) for one in rest]), np.stack([one.seen[list(signals)] for one in rest])
    usual_M, typical = weights @ gains, weights @ given
    spread = np.sqrt(weights @ (given - typical) ** 2).clip(1e-9)
    scaled = (given - typical) / spread
    inverse = np.linalg.inv((scaled * weights[:, None]).T @ scaled + RIDGE * np.eye(len(signals)))
    slopes = inverse @ ((scaled * weights[:, None]).T @ (gains - usual_M))
    ends = given.min(0), given.max(0)
    return lambda case: usual_M + (case.seen[list(signals)].clip(*ends) - typical) / spread @ slopes


def scales(cases: Sequence[Case], mixtures: Sequence[Mixture]) -> Iterator[str]:
    """The even mixture, and what 100 judged queries choose, by the scale on which members are mixed."""
    yield "| members | scale | even: mean gain | least | best of all queries: mean | best of 100 judged |"
    yield "|---" * 6 + "|"
    for name, members in CANDIDATES.items():
        inside = [m for m, one in enumerate(mixtures) if not any(w for n, w in enumerate(one) if n not in members)]
        alike = tuple(1 / len(members) if n in members else 0.0 for n in range(4))
        known = [case for case in cases if np.isfinite(truth(case)[inside]).all()]
        for scale in known[0].gains if known else ():
            means = [case.gains[scale].mean(1) for case in known]
            fixed = [float(one[mixtures.index(alike)]) for one in means]
            on_scale = [case._replace(gains={"absolute": case.gains[scale]}) for case in known]
            found = [one.gain for one in judged(on_scale, 100, inside, best)]
            highest = np.mean([one[inside].max() for one in means])
            chosen = f"{np.mean(found):+.3f}" if found else ""
            yield f"| {name} | {scale} | {np.mean(fixed):+.3f} | {min(fixed):+.3f} | {highest:+.3f} | {chosen} |"


def by_case(cases: Sequence[Case], mixtures: Sequence[Mixture]) -> Iterator[str]:
    """True gains of some mixtures."""

    def named(one: Mixture) -> str:
        parts = [(w, name) for w, name in zip(one, ("student", "BM25", "tokens", "other"), strict=True) if w]
        return parts[0][1] if len(parts) == 1 else " + ".join(f"{w:.2g} {name}" for w, name in parts)

    yield "| collection, model | " + " | ".join(map(named, SHOWN)) + " |"
    yield "|---" * (len(SHOWN) + 1) + "|"
    rows: Mapping[str, Array] = {f"{case.collection}, {case.model}": truth(case) for case in cases}
    for name, gains_M in {**rows, "mean": np.nanmean(list(rows.values()), axis=0)}.items():
        cells = (f"{value:+.3f}" if np.isfinite(value) else "" for value in gains_M[[*map(mixtures.index, SHOWN)]])
        yield f"| {name} | {' | '.join(cells)} |"
