"""What `benchmarks.estimates` has measured, as a table and a plot; every free choice is made held out by collection.

The natural overlap of a collection is fitted on the others (by what BM25 finds for its queries, or their median), and
so is each kind's multiple of it, from `MULTIPLES`, by the mean absolute error of the estimates.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.synthetic_queries.overlap import LEAST, MOST

Case = Mapping[str, Any]
Array = np.ndarray[Any, Any]

MULTIPLES = (0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 1.0, 1.2, 1.4)
MATTERS = 0.02
"""A true difference above this must have the right sign."""
ESTIMATED = ("title", "keywords")
"""Kinds that the default takes together, evenly."""
FIRST = ("title", "sentence", "keywords")
"""Of these kinds, the first that a collection has."""
LEVEL = 0.9


def write(out: Path) -> str:
    """`estimates.md` and `estimates.svg` in `out`; returns the table."""
    cases = [json.loads(file.read_text()) for file in sorted(out.glob("*.json"))]
    if not cases:
        return "no case is measured yet"
    text = "\n".join(lines(cases))
    (out / "estimates.md").write_text(text + "\n")
    pairs = [pair for case, est in estimates(cases, matched, ESTIMATED) for pair in both(case, est)]
    (out / "estimates.svg").write_text(plot(pairs))
    return text


def lines(cases: Sequence[Case]) -> Iterator[str]:
    """The table, row by row."""
    head = "| rule | cases | right sign of (differences) | Spearman | mean error | cost of the choice | largest cost |"
    yield from (head, "|---|---|---|---|---|---|---|")
    for name, overlap in (("example queries", matched), ("no query", prior), ("overlap known", known)):
        for kinds in (("title",), ("keywords",), ("question",), ("sentence",), ESTIMATED, ("title", "sentence"), FIRST):
            found = list(estimates(cases, overlap, kinds))
            if found:
                yield f"| {' + '.join(kinds)}, {name} | {len(found)} | {summary(found)} |"
    found = list(estimates(cases, matched, ESTIMATED))
    low, high, covered = interval(found)
    yield ""
    yield f"Truth less estimate: {100 * LEVEL:g} % between {low:+.3f} and {high:+.3f}; held out {covered:.0%}."
    yield ""
    yield "| collection, model | overlap, estimated | estimated / true: " + " | ".join(cases[0]["truth"]) + " |"
    yield "|---|---|" + "---|" * len(cases[0]["truth"])
    for case, est in found:
        cells = " | ".join(f"{est[name]:+.3f} / {true:+.3f}" for name, true in case["truth"].items())
        shares = f"{case['overlap']:.2f}, {matched(case, others(cases, case)):.2f}"
        yield f"| {case['collection']}, {case['model']} | {shares} | {cells} |"
    for kind in ESTIMATED:
        chosen = multiple(kind, cases, matched)
        yield ""
        yield f"{kind}: {chosen:g} times the natural overlap, over all collections"
    intercept, slope = line(cases)
    yield f"overlap = {intercept:+.2f} {slope:+.2f} x top share; median {prior(cases[0], cases):.2f}"


def others(cases: Sequence[Case], case: Case) -> list[Case]:
    """The cases of other collections."""
    return [one for one in cases if one["collection"] != case["collection"]]


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
        if kinds == FIRST:
            have = have[:1]
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
    large = np.abs(true) > MATTERS
    right = float((np.sign(est[large]) == np.sign(true[large])).mean()) if large.any() else float("nan")
    costs = [cost(case["truth"], one) for case, one in found]
    return (
        f"{right:.0%} ({int(large.sum())}) | {spearmanr(est, true).statistic:.2f} | {np.abs(est - true).mean():.3f} | "
        f"{np.mean(costs):.3f} | {max(costs):.3f}"
    )


def cost(true: Mapping[str, float], est: Mapping[str, float]) -> float:
    """What the system chosen by the estimate (dense alone if none gains) lacks to the best in hindsight."""
    chosen = max(est, key=lambda name: est[name])
    return max(0.0, *true.values()) - (true[chosen] if est[chosen] > 0 else 0.0)


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
    """Estimated (right) against true (up) differences as SVG."""
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
        f'<text x="{half}" y="{size - 6}" text-anchor="middle" {style}>estimated difference in nDCG@10 '
        f"(edge: {most:.2f})</text>"
        f'<text x="14" y="{half}" transform="rotate(-90 14 {half})" text-anchor="middle" {style}>true difference</text>'
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size} {size}" width="{size}" height="{size}">'
        f'<rect width="100%" height="100%" fill="#fff"/>{grid}{dots}{words}</svg>\n'
    )
