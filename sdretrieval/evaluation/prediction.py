"""What BM25's evidence will add to a bi-encoder's search, predicted from queries without judgements.

Two things that can be seen without any judgement tell much of it (query performance prediction: Carmel and Yom-Tov
2010). The closer a model's best document is to the query, the more the model knows of the subject, and the less BM25
adds. The more of the two searches' best documents are the same, the less either can add to the other.

If no query is known that somebody asked, what remains is the average of other collections; nothing that documents or
synthetic queries show says more.

Measured over the collections and models of docs/estimates.md, where the numbers below come from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.indexes.hits import PADDING_ROW, Hits

DEPTH = 10
MEASURE = "nDCG@10"
MATTERS = 0.02
"""A gain that is worth a training; the study asks for the right sign of differences above it."""
UNRELATED = (
    "The train to the coast leaves at seven in the morning.",
    "How do I remove a coffee stain from a wool carpet?",
    "Photosynthesis turns light into chemical energy.",
    "The central bank raised its interest rate again.",
    "Which team won the cup final last year?",
    "Sort a list of numbers in descending order.",
    "The cathedral was built in the twelfth century.",
    "Symptoms of iron deficiency in children",
    "Cheap flights to Lisbon in October",
    "The court dismissed the appeal.",
    "Add the butter, then stir until it melts.",
    "Black holes bend the light of stars behind them.",
    "My printer does not connect to the wireless network.",
    "Elephants live in herds led by an old female.",
    "Tax return for people who work abroad",
    "She played the violin sonata without a score.",
    "Concrete hardens more slowly in cold weather.",
    "Who wrote the national anthem of Brazil?",
    "The vaccine was tested on four thousand adults.",
    "Pruning apple trees in late winter",
    "Voters go to the polls on Sunday.",
    "The battery lasts about ten hours on one charge.",
    "What is the difference between a lease and a rent?",
    "Waves wore the cliff away over thousands of years.",
)
"""Texts that have nothing to do with each other: their mean cosine is where a model's scale begins. It is 0.03 for
all-MiniLM-L6-v2 and 0.37 for bge-small-en-v1.5, so that cosines of different models cannot be compared as they are."""


@dataclass(frozen=True)
class Signals:
    """`closeness`: mean over queries of the best document's cosine, 0 = as near as unrelated texts, 1 = the same text.
    `agreement`: share of the bi-encoder's best 10 documents that are BM25's as well. Both over so many `queries`."""

    closeness: float
    agreement: float
    queries: int


@dataclass(frozen=True)
class Prediction:
    """The difference in nDCG@10 to the bi-encoder alone, and the interval that held the truth in 90 of 100 cases.

    `queries`: that somebody asked and that it was predicted from; 0 if it is the average of other collections.
    """

    gain: float
    low: float
    high: float
    queries: int

    def record(self) -> dict[str, float]:
        """As a JSON object."""
        return asdict(self)


TYPICAL = (0.63, 0.307)
"""Closeness and agreement of the study's collections, on average."""
SEEN = ((0.54, 0.72), (0.17, 0.49))
"""Their smallest and largest."""
BY_WEIGHT = {
    0.0: (0.0, 0.0, 0.0, 0.0, 0.0),
    0.25: (0.021, -0.12, -0.03, -0.02, 0.02),
    0.5: (0.049, -0.29, -0.11, -0.04, 0.05),
    0.75: (0.08, -0.56, -0.29, -0.07, 0.08),
    1.0: (0.012, -1.03, -0.52, -0.14, 0.16),
}
"""By BM25's weight on the absolute scale (1: BM25 alone): the gain of a typical collection, what a unit of closeness
and one of agreement add to it, and the 5th and 95th percentile of truth less prediction."""
AVERAGE_ERROR = {0.0: (0.0, 0.0), 0.25: (-0.02, 0.02), 0.5: (-0.05, 0.06), 0.75: (-0.11, 0.11), 1.0: (-0.21, 0.2)}
"""The same percentiles if the gain of a typical collection is all that is known."""


def mean_cosine(queries_QD: NDArray[Any], documents_QD: NDArray[Any]) -> float:
    """Of every query with every document but the one of the same row; rows have length 1."""
    cosines_QQ = queries_QD @ documents_QD.T
    return float(cosines_QQ[~np.eye(len(cosines_QQ), dtype=bool)].mean())


def signals(dense: Hits, lexical: Hits, unrelated: float) -> Signals:
    """From the best 10 of either search for the same queries. `unrelated`: the model's mean cosine of `UNRELATED`."""
    shared = [
        len({*ours.tolist()} & {*theirs.tolist()} - {PADDING_ROW})
        for ours, theirs in zip(dense.rows_Qk[:, :DEPTH], lexical.rows_Qk[:, :DEPTH], strict=True)
    ]
    closeness = (float(dense.scores_Qk[:, 0].mean()) - unrelated) / (1 - unrelated)
    return Signals(closeness, float(np.mean(shared)) / DEPTH, len(shared))


def predict(found: Signals | None, weight: float) -> Prediction:
    """What BM25 gains with that weight on the absolute scale, 0 (none) to 1 (BM25 alone); between the weights that were
    measured, the line between their gains. Signals beyond those of the study count as the nearest that it saw; None:
    the average."""
    values = np.asarray([(*BY_WEIGHT[one], *AVERAGE_ERROR[one]) for one in sorted(BY_WEIGHT)])
    gain, closeness, agreement, low, high, lowest, highest = (
        np.interp(weight, sorted(BY_WEIGHT), column) for column in values.T
    )
    if found is None:
        return Prediction(float(gain), float(gain + lowest), float(gain + highest), 0)
    given = (np.clip(one, *ends) for one, ends in zip((found.closeness, found.agreement), SEEN, strict=True))
    slopes = zip((closeness, agreement), given, TYPICAL, strict=True)
    predicted = float(gain + sum(slope * (one - typical) for slope, one, typical in slopes))
    return Prediction(predicted, predicted + float(low), predicted + float(high), found.queries)


def unlike(found: Signals) -> Iterator[str]:
    """Why a prediction is not to be trusted: the queries are unlike those of all collections that it was learned on."""
    named = zip(("closeness", "agreement"), (found.closeness, found.agreement), SEEN, strict=True)
    for name, value, (low, high) in named:
        if not low <= value <= high:
            yield f"{name} of the queries that people asked is {value:.2f}, in the study it was {low:g} to {high:g}"
