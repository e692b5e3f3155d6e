"""The tables of `benchmarks.search_teachers`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from sdretrieval.evaluation import paired_test

Array = np.ndarray[Any, Any]
Key = tuple[str, float]
"""A second search (empty: none), and BM25's weight on the absolute scale."""
SEARCHED = (0.0, 0.5, 0.75, 0.9)
"""The weights that a second search is tried with."""
SHOWN = 0.75
"""The weight of the table by collection: the best for most."""
FAMILIES = ("vectors", "words", "graph", "variants", "centred")
PREDICTED = (
    "vectors, best 3, 0.5", "graph, 5 neighbours, 0.2", "graph, 5 neighbours by words, 0.2", "variants, all six",
    "centred, queries and documents",
)  # fmt: skip
SPLITS, RIDGE, SAMPLES, SEED = 50, 1.0, 2000, 13


class Case(NamedTuple):
    """A collection and a model: nDCG@10 by query of each system, and the signals."""

    collection: str
    model: str
    values: Mapping[Key, Array]
    signals: Mapping[str, float]

    def test(self, name: str, weight: float) -> tuple[float, float]:
        """Difference to the mixture of the same weight, and p."""
        ours, plain = ({str(q): float(value) for q, value in enumerate(self.values[one, weight])} for one in (name, ""))
        result = paired_test(ours, plain, SEED, samples=SAMPLES)
        return result.difference, result.p


def tables(found: Sequence[Mapping[str, Any]]) -> str:
    """All of them, in Markdown."""
    cases = [
        Case(one["collection"], one["model"],
             {(row["system"], row["weight"]): np.asarray(row["ndcg"]) for row in one["values"]}, one["signals"])
        for one in found
    ]  # fmt: skip
    lines: list[str] = []
    for model in dict.fromkeys(case.model for case in cases):
        own = [case for case in cases if case.model == model]
        for part in (by_weight(own), summary(own), by_collection(own), choices(own)):
            lines += [f"\n{model}\n", *part]
    return "\n".join([*lines, "", *predicted(cases), "", *predicted_weights(cases)])


def row(*cells: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def head(*cells: object) -> list[str]:
    """A table's first two lines."""
    return [row(*cells), "|---" * len(cells) + "|"]


def by_weight(cases: Sequence[Case]) -> Iterator[str]:
    """The mixtures themselves."""
    weights = [weight for name, weight in cases[0].values if not name]
    yield from head("nDCG@10", *(f"BM25 {weight:g}" for weight in weights))
    for case in cases:
        means = [case.values["", weight].mean() for weight in weights]
        yield row(case.collection, *(f"**{one:.3f}**" if one == max(means) else f"{one:.3f}" for one in means))


def summary(cases: Sequence[Case]) -> Iterator[str]:
    """Each second search less the mixture of the same weight: mean, worst, significant gains and losses."""
    yield from head("second search", *(f"BM25 {weight:g}" if weight else "dense alone" for weight in SEARCHED))
    for name in dict.fromkeys(name for name, _ in cases[0].values if name):
        cells = []
        for weight in SEARCHED:
            tests = [case.test(name, weight) for case in cases] if (name, weight) in cases[0].values else []
            gains, losses = (sum(sign * one > 0 and p < 0.05 for one, p in tests) for sign in (1, -1))
            differences = [one for one, _ in tests]
            cells.append(f"{np.mean(differences):+.3f} ({min(differences):+.3f}; {gains}, {losses})" if tests else "")
        yield row(name, *cells)


def by_collection(cases: Sequence[Case]) -> Iterator[str]:
    """The same at one weight, a collection a column; * marks p < 0.05."""
    yield from head(f"second search, BM25 {SHOWN:g}", *(case.collection for case in cases))
    for name in dict.fromkeys(name for name, weight in cases[0].values if name and weight == SHOWN):
        tests = [case.test(name, SHOWN) for case in cases]
        yield row(name, *(f"{one:+.3f}{'*' if p < 0.05 else ''}" for one, p in tests))


def choices(cases: Sequence[Case]) -> Iterator[str]:
    """What a family adds if half of the queries choose weight and second search, measured on the other half; mean over
    random halves. First what finer weights add to those in quarters."""
    yield from head("chosen by half of the queries", *(case.collection for case in cases), "mean")
    quarters = [key for key in cases[0].values if not key[0] and key[1] * 4 % 1 == 0]
    plain = [key for key in cases[0].values if not key[0]]
    for title, fewer, more in [
        ("weights 0.85 and 0.9 beside quarters", quarters, plain),
        *((name, plain, [*plain, *(key for key in cases[0].values if key[0].startswith(name))]) for name in FAMILIES),
        ("all of them", plain, list(cases[0].values)),
    ]:
        gains = [chosen(case, more) - chosen(case, fewer) for case in cases]
        yield row(title, *(f"{gain:+.3f}" for gain in gains), f"{np.mean(gains):+.3f}")


def chosen(case: Case, keys: Sequence[Key]) -> float:
    """nDCG@10 of what the other half of the queries chooses among `keys`."""
    values_SQ, draw, found = np.stack([case.values[key] for key in keys]), np.random.default_rng(SEED), []
    for _ in range(SPLITS):
        order = draw.permutation(values_SQ.shape[1])
        for some, others in ((order[::2], order[1::2]), (order[1::2], order[::2])):
            found.append(values_SQ[values_SQ[:, some].mean(1).argmax()][others].mean())
    return float(np.mean(found))


def predicted(cases: Sequence[Case]) -> Iterator[str]:
    """Whether signals tell the difference, by ridge regression, each collection predicted from the others."""
    names, seen_CF = list(cases[0].signals), standardised(cases)
    yield from head(
        "second search", "weight", "always", "where a gain is predicted", "where there is one",
        "correlation of prediction and truth", *(f"of {name}" for name in names),
    )  # fmt: skip
    for name in PREDICTED:
        for weight in (0.0, SHOWN):
            true_C = np.asarray([(case.values[name, weight] - case.values["", weight]).mean() for case in cases])
            predicted_C = held_out(seen_CF, true_C, [case.collection for case in cases])
            gains = (true_C, np.where(predicted_C > 0, true_C, 0), np.maximum(true_C, 0))
            with np.errstate(invalid="ignore"):  # nan where a second search gains the same everywhere
                correlations = [np.corrcoef(one, true_C)[0, 1] for one in (predicted_C, *seen_CF.T)]
            yield row(
                name, f"{weight:g}", *(f"{one.mean():+.4f}" for one in gains), *(f"{one:+.2f}" for one in correlations)
            )


def predicted_weights(cases: Sequence[Case]) -> Iterator[str]:
    """What weights above 0.75 bring if closeness and agreement choose (or, without queries, the other collections'
    mean), each collection's from the others."""
    yield from head("weights of BM25", "chosen by", "gain over dense, mean", "worst", "best in hindsight")
    seen_CF, collections = standardised(cases)[:, :2], [case.collection for case in cases]
    for more in ((), (0.85,), (0.9,), (0.85, 0.9)):
        weights = sorted({0.0, 0.25, 0.5, 0.75, 1.0, *more})
        true_CW = np.asarray([[(c.values["", w] - c.values["", 0.0]).mean() for w in weights] for c in cases])
        for how, given_CF in (("signals", seen_CF), ("the mean", np.zeros_like(seen_CF))):
            predicted_CW = np.stack([held_out(given_CF, true_C, collections) for true_C in true_CW.T], axis=1)
            gains = true_CW[np.arange(len(cases)), predicted_CW.argmax(1)]
            named = ", ".join(f"{weight:g}" for weight in weights[1:])
            yield row(named, how, f"{gains.mean():+.4f}", f"{gains.min():+.3f}", f"{true_CW.max(1).mean():+.4f}")


def standardised(cases: Sequence[Case]) -> Array:
    """Signals (cases, signals) by model, since a model's cosines only compare with its own."""
    seen_CF = np.asarray([list(case.signals.values()) for case in cases])
    for model in {case.model for case in cases}:
        own = [case.model == model for case in cases]
        seen_CF[own] = (seen_CF[own] - seen_CF[own].mean(0)) / seen_CF[own].std(0)
    return seen_CF


def held_out(seen_CF: Array, true_C: Array, collections: Sequence[str]) -> Array:
    """Predictions of each collection by what the others taught."""
    predicted_C = np.empty(len(true_C))
    for one in set(collections):
        others = np.asarray([name != one for name in collections])
        x, centre = seen_CF[others], true_C[others].mean()
        slope = np.linalg.solve(x.T @ x + RIDGE * np.eye(x.shape[1]), x.T @ (true_C[others] - centre))
        predicted_C[~others] = centre + seen_CF[~others] @ slope
    return predicted_C
