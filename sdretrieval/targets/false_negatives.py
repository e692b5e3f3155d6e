"""Likely false negatives: unlabelled candidates that the teacher finds as good as a known positive.

The rules (NV-Retriever, Moreira et al. 2024: TopK-MarginPos and TopK-PercPos) touch the hard-label term only. The soft
list keeps such documents: what the teacher likes there is the knowledge to pass on.

Legend: Q queries, T candidates in all lists together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import RequestError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.reduce import Floats, check_same_lists, per_entry, reduced

Rule = Literal["none", "margin", "percent_of_positive"]
RULES: tuple[Rule, ...] = ("none", "margin", "percent_of_positive")
EXAMPLES = 10


class RemovedNegative(NamedTuple):
    """One candidate that may not serve as a hard negative, and the threshold that it exceeded."""

    query_position: int
    candidate_position: int
    score: float
    threshold: float


@dataclass(frozen=True)
class FalseNegativeReport:
    """What a rule took out of the hard-label term.

    `negatives`: candidates not known as positive; `removed`: those taken out; `lists_touched`: lists that lost one;
    `lists_emptied`: lists left without any hard negative; `lists_without_positive`: lists that no rule can judge.
    `examples`: those furthest above their threshold.
    """

    rule: str
    negatives: int
    removed: int
    lists_touched: int
    lists_emptied: int
    lists_without_positive: int
    examples: tuple[RemovedNegative, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {**asdict(self), "examples": [list(example) for example in self.examples]}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> FalseNegativeReport:
        """The inverse of `to_json`."""
        return FalseNegativeReport(**{**stored, "examples": tuple(RemovedNegative(*e) for e in stored["examples"])})


def hard_mask(
    rule: Rule,
    teacher_scores: Ragged,
    positive: Ragged,
    margin: float = 0.05,
    percent: float = 95.0,
    confirmed: Ragged | None = None,
) -> Ragged:
    """True where a candidate may serve as a negative of the hard-label term; never for a known positive.

    With p the best teacher score among the list's known positives, a candidate is removed if its score is above

    * `margin`               p - margin, in units of the scores given;
    * `percent_of_positive`  p - (1 - percent / 100) x |p|, which is percent % of p where p is positive and lies as far
                             below p where it is negative. Scores calibrated over the corpus (0..1) are meant.

    `none` removes nothing, nor does any rule in a list without a known positive, nor any rule a candidate of
    `confirmed` (bool): a person found it not relevant.
    `margin`: 0 or more. `percent`: above 0, at most 100.

    Raises RequestError for an unknown rule or a number out of range, WorkError where the lists do not agree.
    """
    threshold_Q = thresholds(rule, teacher_scores, positive, margin, percent)
    return positive.with_values(~positive.values_T & ~_removed(teacher_scores, positive, threshold_Q, confirmed))


def false_negative_report(
    rule: Rule,
    teacher_scores: Ragged,
    positive: Ragged,
    margin: float = 0.05,
    percent: float = 95.0,
    confirmed: Ragged | None = None,
) -> FalseNegativeReport:
    """What `hard_mask` removes for the same arguments."""
    threshold_Q = thresholds(rule, teacher_scores, positive, margin, percent)
    negative_T = ~positive.values_T
    removed_T = _removed(teacher_scores, positive, threshold_Q, confirmed)
    removed_Q = reduced(np.add, removed_T, positive, 0.0)
    negatives_Q = reduced(np.add, negative_T, positive, 0.0)
    return FalseNegativeReport(
        rule=rule,
        negatives=int(negative_T.sum()),
        removed=int(removed_T.sum()),
        lists_touched=int((removed_Q > 0).sum()),
        lists_emptied=int(((removed_Q > 0) & (removed_Q == negatives_Q)).sum()),
        lists_without_positive=int((reduced(np.add, positive.values_T, positive, 0.0) == 0).sum()),
        examples=_examples(removed_T, teacher_scores, per_entry(threshold_Q, positive)),
    )


def thresholds(rule: Rule, scores: Ragged, positive: Ragged, margin: float = 0.05, percent: float = 95.0) -> Floats:
    """The score above which an unlabelled candidate of each list is a suspect, +inf where no rule judges, float64 (Q,).

    Arguments and errors are those of `hard_mask`.
    """
    _check(rule, margin, percent)
    check_same_lists("positive", positive, "teacher_scores", scores)
    best_Q = reduced(np.maximum, np.where(positive.values_T, scores.values_T, -np.inf), scores, -np.inf)
    judged_Q = np.isfinite(best_Q)
    best_Q = np.where(judged_Q, best_Q, 0.0)
    room_Q = np.full(len(scores), margin) if rule == "margin" else (1.0 - percent / 100.0) * np.abs(best_Q)
    return np.where(judged_Q & (rule != "none"), best_Q - room_Q, np.inf)


def _removed(scores: Ragged, positive: Ragged, threshold_Q: Floats, confirmed: Ragged | None) -> NDArray[np.bool_]:
    removed_T = ~positive.values_T & (scores.values_T > per_entry(threshold_Q, positive))
    if confirmed is not None:
        check_same_lists("confirmed", confirmed, "positive", positive)
        removed_T &= ~confirmed.values_T
    return np.asarray(removed_T, dtype=np.bool_)


def _examples(removed_T: NDArray[np.bool_], scores: Ragged, threshold_T: Floats) -> tuple[RemovedNegative, ...]:
    entries = np.flatnonzero(removed_T)
    excess = scores.values_T[entries] - threshold_T[entries]
    worst = entries[np.argsort(-excess, kind="stable")[:EXAMPLES]]
    list_T = scores.list_of_entry
    return tuple(
        RemovedNegative(
            int(list_T[entry]),
            int(entry - scores.offsets[list_T[entry]]),
            float(scores.values_T[entry]),
            float(threshold_T[entry]),
        )
        for entry in worst
    )


def _check(rule: Rule, margin: float, percent: float) -> None:
    if rule not in RULES:
        raise RequestError(f"false_negatives.rule is {rule!r}, expected one of {', '.join(RULES)}")
    if rule == "margin" and not (np.isfinite(margin) and margin >= 0):
        raise RequestError(f"false_negatives.margin is {margin}, expected a number of 0 or more")
    if rule == "percent_of_positive" and not 0 < percent <= 100:
        raise RequestError(f"false_negatives.percent is {percent}, expected above 0 and at most 100")
