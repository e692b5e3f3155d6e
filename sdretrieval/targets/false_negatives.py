"""Likely false negatives: unlabelled candidates that the teacher finds as good as a known positive.

The rules (NV-Retriever, Moreira et al. 2024: TopK-MarginPos and TopK-PercPos) touch the hard-label term only. The soft
list keeps such documents: what the teacher likes there is the knowledge to pass on. A batch brings other queries'
documents to a query; where the teacher scores these too, `Suspicion` judges them by the list's own threshold.

How far a rule may reach is measured (`margin_curve`): a known positive of a query with two or more is taken as
unlabelled in turn, and the rule judges it by the others. The share that it would have removed is its recall of false
negatives; the share of unlabelled candidates that it removes is the price. Among the latter are true false negatives,
so the price is at most that.

Legend: Q queries (one list each), T candidates in all lists together, P known positives of one list, B queries and M
documents of a batch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import RequestError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.calibrate import Floats, Statistics, apply, check_same_lists, per_entry, reduced

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


@dataclass(frozen=True)
class Suspicion:
    """Above which score a document is a suspect, for each list: `threshold_Q` after calibration by `statistics`."""

    threshold_Q: Floats
    statistics: Statistics

    def of(self, positions_B: NDArray[np.int64], scores_BM: NDArray[np.floating]) -> NDArray[np.bool_]:
        """Which documents of a batch are suspects, bool (B, M), by the teacher's mixed scores.

        `positions_B`: list positions. Raises NumericError for a score that is not finite.
        """
        return apply(scores_BM, self.statistics, positions_B) > self.threshold_Q[positions_B, None]


def hard_mask(
    rule: Rule,
    teacher_scores: Ragged,
    positive: Ragged,
    margin: float = 0.05,
    percent: float = 95.0,
    confirmed: Ragged | None = None,
) -> Ragged:
    """True if a candidate may serve as a negative of the hard-label term; never for a known positive.

    With p the best teacher score among the list's known positives, a candidate is removed if its score is above

    * `margin`               p - margin, in units of the scores given;
    * `percent_of_positive`  p - (1 - percent / 100) x |p|, which is percent % of p if p is positive and is as far
                             below p if it is negative. Scores calibrated over the corpus (0..1) are meant.

    `none` removes nothing, nor does any rule in a list without a known positive, nor any rule a candidate of
    `confirmed` (bool): a person found it not relevant.
    `margin`: 0 or more. `percent`: above 0, at most 100.

    Raises RequestError for an unknown rule or a number out of range, WorkError if the lists do not agree.
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
    scores_T, threshold_T = teacher_scores.values_T, per_entry(threshold_Q, positive)
    entries = np.flatnonzero(removed_T)
    furthest = entries[np.argsort(-(scores_T[entries] - threshold_T[entries]), kind="stable")[:EXAMPLES]]
    list_T, offsets = positive.list_of_entry, positive.offsets
    return FalseNegativeReport(
        rule=rule,
        negatives=int(negative_T.sum()),
        removed=int(removed_T.sum()),
        lists_touched=int((removed_Q > 0).sum()),
        lists_emptied=int(((removed_Q > 0) & (removed_Q == negatives_Q)).sum()),
        lists_without_positive=int((reduced(np.add, positive.values_T, positive, 0.0) == 0).sum()),
        examples=tuple(
            RemovedNegative(
                int(list_T[entry]),
                int(entry - offsets[list_T[entry]]),
                float(scores_T[entry]),
                float(threshold_T[entry]),
            )
            for entry in furthest
        ),
    )


def thresholds(rule: Rule, scores: Ragged, positive: Ragged, margin: float = 0.05, percent: float = 95.0) -> Floats:
    """The score above which an unlabelled candidate of each list is a suspect, +inf if no rule judges, float64 (Q,).

    Arguments and errors are those of `hard_mask`.
    """
    if rule not in RULES:
        raise RequestError(f"false_negatives.rule is {rule!r}, expected one of {', '.join(RULES)}")
    if rule == "margin" and not (np.isfinite(margin) and margin >= 0):
        raise RequestError(f"false_negatives.margin is {margin}, expected a number of 0 or more")
    if rule == "percent_of_positive" and not 0 < percent <= 100:
        raise RequestError(f"false_negatives.percent is {percent}, expected above 0 and at most 100")
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


MARGINS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
PERCENTS = (100.0, 99.0, 98.0, 95.0, 90.0, 85.0, 80.0, 70.0, 60.0, 50.0)
ENOUGH = 20
"""Positives that must be judged by another one before a margin is recommended: one of 20 is 5 points of recall."""


class Setting(NamedTuple):
    """One margin (or percentage): candidates removed, and known positives caught, each as a count and a share."""

    value: float
    removed: int
    removed_share: float
    caught: int
    caught_share: float | None


@dataclass(frozen=True)
class MarginCurve:
    """`settings` from the narrowest to the widest. `candidates`: unlabelled ones in lists with a known positive.

    `held_out`: positives that were beside another one in their list, from `lists` lists. `recommended`: the value with
    the greatest difference of the two shares (Youden 1950), the narrowest of equals; None if `held_out` is too small
    or nothing beats removing nothing. `advice` says which in a sentence.
    """

    rule: Rule
    settings: tuple[Setting, ...]
    candidates: int
    held_out: int
    lists: int
    recommended: float | None
    advice: str


def margin_curve(rule: Rule, scores: Ragged, positive: Ragged, grid: Sequence[float] | None = None) -> MarginCurve:
    """The curve of `rule` over `grid` (its own unless given), on the scores that the rule judges (0..1).

    Raises RequestError for the rule none, which has no margin, and what `hard_mask` raises.
    """
    if rule == "none":
        raise RequestError("the rule is none, which removes nothing; expected margin or percent_of_positive")
    check_same_lists("positive", positive, "scores", scores)
    values = tuple(grid) if grid is not None else (MARGINS if rule == "margin" else PERCENTS)
    kept = [q for q, flags in enumerate(positive) if flags.any()]  # the lists that a rule can judge
    usable = Ragged.of([scores[q] for q in kept], np.float64), Ragged.of([positive[q] for q in kept], np.bool_)
    held = _held_out(scores, positive)
    settings = []
    for value in values:
        removed, unlabelled = _removals(rule, value, *usable)
        caught, _ = _removals(rule, value, *held)
        removed_share = removed / unlabelled if unlabelled else 0.0
        settings.append(Setting(value, removed, removed_share, caught, caught / len(held[0]) if len(held[0]) else None))
    lists = int((reduced(np.add, positive.values_T, positive, 0.0) > 1).sum())
    recommended, advice = _recommended(rule, settings, len(held[0]))
    candidates = int((~usable[1].values_T).sum())
    return MarginCurve(rule, tuple(settings), candidates, len(held[0]), lists, recommended, advice)


def _held_out(scores: Ragged, positive: Ragged) -> tuple[Ragged, Ragged]:
    """One list for each positive that has another beside it: that positive, unlabelled, and the others."""
    parts, flags = [], []
    for own, known in zip(scores, positive, strict=True):
        known_P = own[known]
        for place in range(len(known_P)) if len(known_P) > 1 else ():
            parts.append(np.concatenate([known_P[place : place + 1], np.delete(known_P, place)]))
            flags.append(np.arange(len(known_P)) > 0)
    return Ragged.of(parts, np.float64), Ragged.of(flags, np.bool_)


def _removals(rule: Rule, value: float, scores: Ragged, positive: Ragged) -> tuple[int, int]:
    """Unlabelled candidates that the rule removes, and all unlabelled ones."""
    mask = hard_mask(rule, scores, positive, margin=value, percent=value)
    unlabelled = int((~positive.values_T).sum())
    return unlabelled - int(mask.values_T.sum()), unlabelled


def _recommended(rule: Rule, settings: Sequence[Setting], held_out: int) -> tuple[float | None, str]:
    name = "margin" if rule == "margin" else "percent"
    if held_out < ENOUGH:
        return None, (
            f"No {name} is recommended: it takes {ENOUGH} known positives that are beside another one of their query, "
            f"found {held_out}; mark suspects (relevant or not) and run this again."
        )
    best = max(settings, key=lambda one: (one.caught_share or 0.0) - one.removed_share)
    if (best.caught_share or 0.0) <= best.removed_share:
        return None, (
            f"No {name} is recommended: at none does the rule catch more of the known positives than of the other "
            "candidates, so this teacher cannot tell them apart."
        )
    return best.value, (
        f"Recommended: {name} {best.value:g}, which catches {best.caught_share:.0%} of the known positives that were "
        f"held out ({best.caught} of {held_out}) and removes {best.removed_share:.0%} of the unlabelled candidates: "
        "the greatest difference of the two."
    )
