"""Knowing when not to answer: quality against the share of queries that are answered, and its area.

Legend: Q queries. Confidence and quality are by query, in the same order; any scale of confidence will do.

Paper: Gisserot-Boukhlef et al. 2024, Towards Trustworthy Reranking: A Simple yet Effective Abstention Mechanism.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdretrieval.errors import NumericError, RequestError

RATES = np.linspace(0, 1, 11)[:-1]
"""Shares of the queries that are left unanswered, least confident first: none, a tenth, ... nine tenths."""
Values = NDArray[np.float64]


class Answered(NamedTuple):
    """The mean quality if only this share of the queries, the most confident, is answered."""

    share: float
    quality: float


def risk_coverage(confidence_Q: ArrayLike, quality_Q: ArrayLike) -> list[Answered]:
    """Mean quality of the most confident queries, for all of them down to a tenth.

    Raises RequestError if the two do not match, NumericError if a value is not finite.
    """
    confidence, quality = _pair(confidence_Q, quality_Q)
    return [
        Answered(1 - float(rate), float(mean)) for rate, mean in zip(RATES, _curve(confidence, quality), strict=True)
    ]


def nauc(confidence_Q: ArrayLike, quality_Q: ArrayLike) -> float | None:
    """Area under `risk_coverage`, scaled so that 0 is answering at random and 1 leaving out the worst queries first.

    As mteb's `nAUC_NDCG@10_max` and `_diff1` (`mteb/_evaluators/retrieval_metrics.py`), which multiply nothing by 100.
    None if all queries have the same quality, so that no order is better than another. Raises as `risk_coverage`.
    """
    confidence, quality = _pair(confidence_Q, quality_Q)
    best, flat = np.trapezoid(_curve(quality, quality), RATES), quality.mean() * (RATES[-1] - RATES[0])
    if np.isclose(best, flat, rtol=1e-12, atol=0):
        return None
    return float((np.trapezoid(_curve(confidence, quality), RATES) - flat) / (best - flat))


def _curve(confidence_Q: Values, quality_Q: Values) -> Values:
    by_confidence = quality_Q[np.argsort(confidence_Q, stable=True)]
    left_out = [min(round(rate * len(by_confidence)), len(by_confidence) - 1) for rate in RATES.tolist()]
    return np.array([by_confidence[count:].mean() for count in left_out])


def _pair(confidence_Q: ArrayLike, quality_Q: ArrayLike) -> tuple[Values, Values]:
    confidence, quality = np.asarray(confidence_Q, dtype=np.float64), np.asarray(quality_Q, dtype=np.float64)
    if confidence.ndim != 1 or confidence.shape != quality.shape or not len(quality):
        raise RequestError(f"{confidence.size} confidences and {quality.size} qualities: expected one of each a query")
    if not (np.isfinite(confidence).all() and np.isfinite(quality).all()):
        raise NumericError("a confidence or a quality is not finite; check the scores that they come from")
    return confidence, quality
