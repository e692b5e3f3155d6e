"""What `benchmarks.estimates` has measured, as a table and a plot; every number is learned held out by collection.

Predictions: see `benchmarks.estimates_prediction`. For synthetic queries, the natural overlap of a collection is fitted
on the others (by what BM25 finds for its queries, or their median), and so is each kind's multiple of it, from
`MULTIPLES`, by the mean absolute error of the estimates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.estimates_prediction import averages, by_sample, cautious, coverage, numbers, others, predictions
from sdretrieval.synthetic_queries.overlap import LEAST, MOST

Case = Mapping[str, Any]
Array = np.ndarray[Any, Any]

MULTIPLES = (0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.4)
MATTERS = 0.02
"""A true difference above this must have the right sign."""
ESTIMATED = ("title", "keywords")
"""Kinds that the default takes together, evenly."""
WEIGHT_OF = {"abs 0.25": 0.25, "abs 0.5": 0.5, "abs 0.75": 0.75, "bm25": 1.0}
"""BM25's weight in the product's mixtures."""
LEVEL = 0.9
ABSOLUTE = tuple(WEIGHT_OF)


def write(out: Path) -> str:
    """`estimates.md` and `estimates.svg` in `out`; returns the table."""
    cases = [json.loads(file.read_text()) for file in sorted(out.glob("*.json"))]
    if not cases:
        return "no case is measured yet"
    text = "\n".join(lines(cases))
    (out / "estimates.md").write_text(text + "\n")
    pairs = [pair for case, est in predictions(cases) for pair in both(case, est)]
    (out / "estimates.svg").write_text(plot(pairs))
    return text


def lines(cases: Sequence[Case]) -> Iterator[str]:
    """The tables, row by row."""
    columns = "cases | right sign of (differences) | losses seen | gains called losses | Spearman | mean error"
    yield f"| rule | {columns} | cost of the choice, mixtures (largest) | of all systems |"
    yield "|---" * 9 + "|"
    for name, found in rules(cases):
        if found:
            yield f"| {name} | {len({(c['collection'], c['model']) for c, _ in found})} | {summary(found)} |"
    yield ""
    yield from numbers(cases, WEIGHT_OF, LEVEL)
    found = predictions(cases)
    held = (f"{name} {coverage(found, name, LEVEL)[2]:.0%}" for name in WEIGHT_OF)
    yield f"Intervals held out hold the truth: {', '.join(held)}"
    yield ""
    yield from by_system(found)
    chosen = list(cautious(cases, ABSOLUTE, MATTERS))
    cost, least = np.mean([best - gained for gained, best in chosen]), min(gained for gained, _ in chosen)
    yield f"Chosen with care (no low end below {-MATTERS:g}): costs {cost:.4f}, gains at least {least:+.3f}"
    for name in ("abs 0.5", "abs 0.75"):
        gains = [case["truth"][name] for case in cases]
        cost = np.mean([best - gained for gained, (_, best) in zip(gains, chosen, strict=True)])
        yield f"{name} everywhere: costs {cost:.4f}, gains at least {min(gains):+.3f}"
    synthetic = list(estimates(cases, matched, ESTIMATED))
    low, high, covered = interval(synthetic)
    yield ""
    ends = f"{100 * LEVEL:g} % between {low:+.3f} and {high:+.3f}; held out {covered:.0%}"
    yield f"Synthetic queries, truth less estimate: {ends}."
    yield ""
    yield "| collection, model | predicted / true: " + " | ".join(cases[0]["truth"]) + " |"
    yield "|---|" + "---|" * len(cases[0]["truth"])
    for case, est in found:
        cells = " | ".join(f"{est[name]:+.3f} / {true:+.3f}" for name, true in case["truth"].items())
        yield f"| {case['collection']}, {case['model']} | {cells} |"
    for kind in ESTIMATED:
        yield ""
        yield f"{kind}: {multiple(kind, cases, matched):g} times the natural overlap, over all collections"
    intercept, slope = line(cases)
    yield f"overlap = {intercept:+.2f} {slope:+.2f} x top share; median {prior(cases[0], cases):.2f}"


def by_system(found: Sequence[tuple[Case, Mapping[str, float]]]) -> Iterator[str]:
    """Right signs of some systems, and what is gained by the mixture that is chosen."""
    for start in ("bm25", "z", "abs"):
        pairs = [(est[n], true) for case, est in found for n, true in case["truth"].items() if n.startswith(start)]
        large = [pair for pair in pairs if abs(pair[1]) > MATTERS]
        lost = [est for est, true in large if true < 0]
        right = np.mean([est * true > 0 for est, true in large] or [0.0])
        yield f"{start}: right signs {right:.0%} of {len(large)}, losses seen {sum(e < 0 for e in lost)} of {len(lost)}"
    gains = [case["truth"][max(ABSOLUTE, key=est.__getitem__)] for case, est in found]
    yield f"The mixture that is chosen gains {np.mean(gains):+.3f} on average, at least {min(gains):+.3f}"


def rules(cases: Sequence[Case]) -> Iterator[tuple[str, list[tuple[Case, dict[str, float]]]]]:
    """What is compared: each rule's name, and what it says of each case."""
    yield "predicted, all example queries", predictions(cases)
    for count in (100, 20, 5):
        yield f"predicted, {count} example queries", predictions(cases, count)
    yield "predicted, learned on other models alone", predictions(cases, other_models=True)
    yield "the mean of the other collections", averages(cases)
    for count in (10, 30):
        yield f"predicted, {count} example queries; truth by others", by_sample(cases, count, judged=False)
        yield f"{count} judged queries; truth by others", by_sample(cases, count, judged=True)
    for name, overlap in (("example queries", matched), ("no query", prior), ("overlap known", known)):
        for kinds in (("title",), ("keywords",), ("sentence",), ESTIMATED):
            yield f"synthetic {' + '.join(kinds)}, {name}", list(estimates(cases, overlap, kinds))


def matched(case: Case, rest: Sequence[Case]) -> float:
    """The natural overlap by the share of a query's words that BM25's best document holds."""
    intercept, slope = line(rest)
    return float(np.clip(intercept + slope * case["top_share"], LEAST, MOST))


def line(cases: Sequence[Case]) -> tuple[float, float]:
    """Intercept and slope of the overlap by the top share, by least squares over collections."""
    points = np.asarray(list({one["collection"]: (one["top_share"], one["overlap"]) for one in cases}.values()))
    if len(points) < 2:
        return float(points[0, 1]), 0.0
    slope, intercept = np.polyfit(points[:, 0], points[:, 1], 1)
    return float(intercept), float(slope)


def prior(case: Case, rest: Sequence[Case]) -> float:
    """The others' median."""
    return float(np.median(list({one["collection"]: one["overlap"] for one in rest}.values())))


def known(case: Case, rest: Sequence[Case]) -> float:
    """The true one, which a user does not have."""
    return float(case["overlap"])


Overlap = Callable[[Case, Sequence[Case]], float]


def estimates(cases: Sequence[Case], overlap: Overlap, kinds: Sequence[str]) -> Iterator[tuple[Case, dict[str, float]]]:
    """Each case that has any of the kinds, and the estimate by them, made from what the other collections teach."""
    for case in cases:
        rest = others(cases, case)
        have = [kind for kind in kinds if case["kinds"].get(kind)]
        if have and rest:
            share = overlap(case, rest)
            curves = [curve(case, kind, share * multiple(kind, rest, overlap)) for kind in have]
            yield case, {name: float(np.mean([one[name] for one in curves])) for name in case["truth"]}


def multiple(kind: str, cases: Sequence[Case], overlap: Overlap) -> float:
    """The multiple of the natural overlap with the smallest mean absolute error."""
    have = [case for case in cases if case["kinds"].get(kind)]

    shares = [overlap(case, others(cases, case) or cases) for case in have]

    def error(times: float) -> float:
        return float(
            np.mean(
                [
                    abs(value - case["truth"][name])
                    for case, share in zip(have, shares, strict=True)
                    for name, value in curve(case, kind, times * share).items()
                ]
            )
        )

    return min(MULTIPLES, key=error) if have else 1.0


def curve(case: Case, kind: str, held: float) -> dict[str, float]:
    """The differences if documents hold that share of the words: between the measured ones, or the nearest."""
    found = case["kinds"][kind]
    return {
        name: float(np.interp(held, found["held"], [one[name] for one in found["differences"]]))
        for name in case["truth"]
    }


def both(case: Case, est: Mapping[str, float]) -> list[tuple[float, float]]:
    """(estimated, true) of each system."""
    return [(est[name], true) for name, true in case["truth"].items()]


def summary(found: Sequence[tuple[Case, Mapping[str, float]]]) -> str:
    """Cells of the table."""
    from scipy.stats import spearmanr

    est, true = (np.asarray(side) for side in zip(*(pair for one in found for pair in both(*one)), strict=True))
    large, lost = np.abs(true) > MATTERS, true < -MATTERS
    right = float((np.sign(est[large]) == np.sign(true[large])).mean()) if large.any() else float("nan")
    costs = [cost(case["truth"], one, ABSOLUTE) for case, one in found]
    every = np.mean([cost(case["truth"], one, tuple(case["truth"])) for case, one in found])
    return (
        f"{right:.0%} ({int(large.sum())}) | {(est[lost] < 0).sum()} of {lost.sum()} | "
        f"{((est < 0) & (true > MATTERS)).sum()} | {spearmanr(est, true).statistic:.2f} | "
        f"{np.abs(est - true).mean():.3f} | {np.mean(costs):.3f} ({max(costs):.3f}) | {every:.3f}"
    )


def cost(true: Mapping[str, float], est: Mapping[str, float], names: Sequence[str]) -> float:
    """What the one of `names` that the estimate chooses (dense alone if none gains) lacks to the best in hindsight."""
    chosen = max(names, key=lambda name: est[name])
    return max(0.0, *(true[name] for name in names)) - (true[chosen] if est[chosen] > 0 else 0.0)


def interval(found: Sequence[tuple[Case, Mapping[str, float]]]) -> tuple[float, float, float]:
    """Quantiles of truth less estimate, and how often the others' quantiles hold a collection's truth."""
    errors: dict[str, list[float]] = {}
    for case, est in found:
        errors.setdefault(case["collection"], []).extend(true - one for one, true in both(case, est))
    ends = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    held = []
    for name, own in errors.items():
        rest = [error for other, some in errors.items() if other != name for error in some]
        if rest:
            low, high = np.quantile(rest, ends)
            held += [low <= error <= high for error in own]
    low, high = np.quantile([error for some in errors.values() for error in some], ends)
    return float(low), float(high), float(np.mean(held or [0.0]))


def plot(pairs: Sequence[tuple[float, float]], size: int = 420) -> str:
    """Predicted (right) against true (up) differences as SVG."""
    most = max(0.05, *(abs(value) for pair in pairs for value in pair)) * 1.05
    half, scale = size / 2, (size / 2 - 30) / most
    dots = "".join(
        f'<circle cx="{half + est * scale:.1f}" cy="{half - true * scale:.1f}" r="3" fill="#0a66c2" fill-opacity=".6"/>'
        for est, true in pairs
    )
    ends = (half - most * scale, half + most * scale)
    grid = (
        f'<path d="M{ends[0]} {half}H{ends[1]}M{half} {ends[0]}V{ends[1]}" stroke="#888"/>'
        f'<path d="M{ends[0]} {ends[1]}L{ends[1]} {ends[0]}" stroke="#888" stroke-dasharray="4"/>'
    )
    style = 'font-family="sans-serif" font-size="12" fill="#444"'
    words = (
        f'<text x="{half}" y="{size - 6}" text-anchor="middle" {style}>predicted difference in nDCG@10 '
        f"(edge: {most:.2f})</text>"
        f'<text x="14" y="{half}" transform="rotate(-90 14 {half})" text-anchor="middle" {style}>true difference</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" width="{size}" height="{size}">'
        f'<rect width="100%" height="100%" fill="#fff"/>{grid}{dots}{words}</svg>\n'
    )
