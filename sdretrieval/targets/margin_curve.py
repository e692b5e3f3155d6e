"""How far a false-negative rule may reach: what it removes against what it catches of what is known to be relevant.

A known positive of a query with two or more is taken as unlabelled in turn, and the rule judges it by the others. The
share that it would have removed is its recall of false negatives; the share of unlabelled candidates that it removes is
the price. Among the latter are true false negatives, so the price is at most that.

Legend: Q lists, T candidates in all lists together, P known positives of one list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sdretrieval.errors import RequestError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.false_negatives import Rule, hard_mask
from sdretrieval.targets.reduce import check_same_lists, reduced

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

    `held_out`: positives that stood beside another one in their list, from `lists` lists. `recommended`: the value with
    the greatest difference of the two shares (Youden 1950), the narrowest of equals; None where `held_out` is too small
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
    judged = _with_positive(scores, positive)
    held = _held_out(scores, positive)
    settings = tuple(_setting(rule, value, judged, held) for value in values)
    lists = int((reduced(np.add, positive.values_T, positive, 0.0) > 1).sum())
    recommended, advice = _recommended(rule, settings, len(held[0]))
    candidates = int((~judged[1].values_T).sum())
    return MarginCurve(rule, settings, candidates, len(held[0]), lists, recommended, advice)


def _with_positive(scores: Ragged, positive: Ragged) -> tuple[Ragged, Ragged]:
    """The lists that a rule can judge."""
    kept = [q for q, flags in enumerate(positive) if flags.any()]
    return Ragged.of([scores[q] for q in kept], np.float64), Ragged.of([positive[q] for q in kept], np.bool_)


def _held_out(scores: Ragged, positive: Ragged) -> tuple[Ragged, Ragged]:
    """One list for each positive that has another beside it: that positive, unlabelled, and the others."""
    parts, flags = [], []
    for own, known in zip(scores, positive, strict=True):
        known_P = own[known]
        for place in range(len(known_P)) if len(known_P) > 1 else ():
            parts.append(np.concatenate([known_P[place : place + 1], np.delete(known_P, place)]))
            flags.append(np.arange(len(known_P)) > 0)
    return Ragged.of(parts, np.float64), Ragged.of(flags, np.bool_)


def _setting(rule: Rule, value: float, judged: tuple[Ragged, Ragged], held: tuple[Ragged, Ragged]) -> Setting:
    removed, unlabelled = _removed(rule, value, *judged)
    caught, _ = _removed(rule, value, *held)
    return Setting(
        value,
        removed,
        removed / unlabelled if unlabelled else 0.0,
        caught,
        caught / len(held[0]) if len(held[0]) else None,
    )


def _removed(rule: Rule, value: float, scores: Ragged, positive: Ragged) -> tuple[int, int]:
    """Unlabelled candidates that the rule removes, and all unlabelled ones."""
    mask = hard_mask(rule, scores, positive, margin=value, percent=value)
    unlabelled = int((~positive.values_T).sum())
    return unlabelled - int(mask.values_T.sum()), unlabelled


def _recommended(rule: Rule, settings: Sequence[Setting], held_out: int) -> tuple[float | None, str]:
    name = "margin" if rule == "margin" else "percent"
    if held_out < ENOUGH:
        return None, (
            f"No {name} is recommended: only {held_out} known positive(s) stand beside another one of their query, and "
            f"{ENOUGH} are needed; mark suspects (relevant or not) and run this again."
        )
    best = max(settings, key=lambda one: (one.caught_share or 0.0) - one.removed_share)
    if (best.caught_share or 0.0) <= best.removed_share:
        return None, (
            f"No {name} is recommended: at none does the rule catch more of the known positives than of the other "
            "candidates, so this teacher cannot tell them apart."
        )
    return best.value, (
        f"Recommended: {name} {best.value:g}, which catches {best.caught_share:.0%} of the known positives that were "
        f"hidden ({best.caught} of {held_out}) and removes {best.removed_share:.0%} of the unlabelled candidates: the "
        "greatest difference of the two."
    )
