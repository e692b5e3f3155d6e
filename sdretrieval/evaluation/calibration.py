"""Does a probability of 0.8 come true eight times in ten? Calibration of probabilities of relevance.

Legend: N judged (query, document) pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import NumericError, RequestError


class Bin(NamedTuple):
    """Pairs whose probability is in one range: the mean probability, the share that is relevant, how many pairs."""

    confidence: float
    accuracy: float
    pairs: int


def reliability(
    probabilities_N: Sequence[float] | NDArray[np.floating],
    labels_N: Sequence[int] | NDArray[np.integer | np.bool_],
    bins: int = 10,
) -> list[Bin]:
    """The pairs in `bins` ranges of equal width over 0..1, empty ranges left out.

    Labels are 1 (relevant) or 0. Raises RequestError if the two do not match or labels are neither,
    NumericError if a probability is outside 0..1.
    """
    probabilities, labels = _checked(probabilities_N, labels_N)
    bin_of_N = np.minimum((probabilities * bins).astype(np.int64), bins - 1)
    members = (bin_of_N == number for number in range(bins))
    return [
        Bin(float(probabilities[inside].mean()), float(labels[inside].mean()), int(inside.sum()))
        for inside in members
        if inside.any()
    ]


def _checked(
    probabilities_N: Sequence[float] | NDArray[np.floating],
    labels_N: Sequence[int] | NDArray[np.integer | np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    probabilities, labels = np.asarray(probabilities_N, dtype=np.float64), np.asarray(labels_N, dtype=np.float64)
    if probabilities.shape != labels.shape or not len(labels):
        raise RequestError(f"{len(probabilities)} probabilities and {len(labels)} labels: expected one label for each")
    if not np.isin(labels, (0, 1)).all():
        raise RequestError("labels must be 0 or 1: binarise graded judgements first")
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise NumericError(f"probabilities are between {probabilities.min()} and {probabilities.max()}, expected 0..1")
    return probabilities, labels


def expected_calibration_error(
    probabilities_N: Sequence[float] | NDArray[np.floating],
    labels_N: Sequence[int] | NDArray[np.integer | np.bool_],
    bins: int = 10,
) -> float:
    """Mean distance of confidence and accuracy over the bins, weighted by count (Naeini et al. 2015); 0 is perfect."""
    rows = reliability(probabilities_N, labels_N, bins)
    return sum(row.pairs * abs(row.confidence - row.accuracy) for row in rows) / sum(row.pairs for row in rows)


def brier_score(
    probabilities_N: Sequence[float] | NDArray[np.floating],
    labels_N: Sequence[int] | NDArray[np.integer | np.bool_],
) -> float:
    """Mean squared distance of probability and label (Brier 1950); 0 is perfect. Raises as `reliability`."""
    probabilities, labels = _checked(probabilities_N, labels_N)
    return float(np.mean((probabilities - labels) ** 2))
