"""Where the teacher finds another document far better than the one that is taken for the answer: worth a person's look.

Of a *label*, it may be wrong. Of the *student's first document* of a query that nobody has judged, either it or the
teacher's own first is likely to be right, and the answer settles what the two disagree on. Both are ordered by the
difference of the teacher's scores, which told wrong labels better than probabilities or ranks did
(docs/ablations/label_noise.md).

Legend: Q queries (one list each), T candidates in all lists together.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sdretrieval.ragged import Ragged
from sdretrieval.targets.calibrate import Floats, check_same_lists, reduced


class Doubt(NamedTuple):
    """A list's doubted candidate and the teacher's best other one, as places in the list; how far the first is behind
    in the teacher's score."""

    query_position: int
    doubted: int
    rival: int
    gap: float


def doubtful_labels(scores: Ragged, positive: Ragged) -> list[Doubt]:
    """Known positives that the teacher finds worse than the list's best unlabelled candidate, furthest behind first.

    `scores`: the teacher's; -inf = unknown or refused, neither doubted nor a rival. Raises WorkError if the lists do
    not agree.
    """
    check_same_lists("positive", positive, "scores", scores)
    found = []
    for position, (own, known) in enumerate(zip(scores, positive, strict=True)):
        others = np.where(known, -np.inf, own)
        if not known.any() or not np.isfinite(others).any():
            continue
        rival = int(np.argmax(others))
        behind = np.flatnonzero(known & np.isfinite(own) & (own < others[rival]))
        found += [Doubt(position, int(place), rival, float(others[rival] - own[place])) for place in behind]
    return _furthest_first(found)


def disagreements(scores: Ragged, student: Ragged, positive: Ragged) -> list[Doubt]:
    """Lists without a known positive in which student and teacher have different first documents; those first whose
    student's document the teacher finds furthest behind its own.

    `scores`: as of `doubtful_labels`; `student`: the student's. Raises WorkError if the lists do not agree.
    """
    check_same_lists("positive", positive, "scores", scores)
    check_same_lists("student", student, "scores", scores)
    found = []
    for position, (own, theirs, known) in enumerate(zip(scores, student, positive, strict=True)):
        if known.any() or not np.isfinite(own).any():
            continue
        first, rival = int(np.argmax(np.where(np.isfinite(own), theirs, -np.inf))), int(np.argmax(own))
        if own[first] < own[rival]:
            found.append(Doubt(position, first, rival, float(own[rival] - own[first])))
    return _furthest_first(found)


def label_shares(log_probs: Ragged, positive: Ragged, evidence: float) -> Floats:
    """Which share of each list's target its labels keep as evidence of so many nats (`with_labels`), 0 to 1, float64
    (Q,); NaN for a list without a label that the teacher scored.

    `log_probs`: the teacher's, log-sum-exp 0 in each list. Raises WorkError if the lists do not agree.
    """
    check_same_lists("positive", positive, "log_probs", log_probs)
    own_Q = reduced(
        np.add, np.where(positive.values_T, np.exp(log_probs.values_T.astype(np.float64)), 0.0), positive, 0.0
    )
    scored_Q = reduced(np.add, positive.values_T & ~np.isneginf(log_probs.values_T), positive, 0.0) > 0
    odds_Q = own_Q * np.exp(evidence)
    return np.where(scored_Q, odds_Q / (odds_Q + np.maximum(1.0 - own_Q, 0.0)), np.nan)


def _furthest_first(found: list[Doubt]) -> list[Doubt]:
    return sorted(found, key=lambda one: -one.gap)
