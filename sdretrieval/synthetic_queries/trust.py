"""How far a difference that was estimated on synthetic queries may be trusted (docs/estimates.md)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

TRUTH_LESS_ESTIMATE = (-0.12, 0.12)
"""Where the true difference in nDCG@10 less the estimated one was in 90 of 100 cases, over collections and models."""
TOLD_APART = 0.95
"""Area under the ROC curve from which a classifier tells synthetic queries from real ones easily."""


def true_gain(estimated: float) -> tuple[float, float]:
    """The interval that holds the true difference with a chance of 90 %, as the study's collections went."""
    return estimated + TRUTH_LESS_ESTIMATE[0], estimated + TRUTH_LESS_ESTIMATE[1]


def doubts(realism: Mapping[str, float], by_kind: Mapping[str, float]) -> Iterator[str]:
    """Why an estimate is not to be trusted; nothing if no reason is known.

    `realism`: by kind how well synthetic queries are told from real ones (`told_apart`). `by_kind`: the estimated
    difference by kind.
    """
    if by_kind and min(by_kind.values()) < 0 < max(by_kind.values()):
        parts = ", ".join(f"{kind} {difference:+.4f}" for kind, difference in by_kind.items())
        yield f"kinds of query disagree about its sign ({parts})"
    easy = {kind: area for kind, area in realism.items() if area >= TOLD_APART}
    if easy:
        parts = ", ".join(f"{kind} {area:.2f}" for kind, area in easy.items())
        yield f"a simple classifier tells its queries from those that people asked (area under the ROC curve: {parts})"
