"""From the teacher's unit to the student's: how many cosines one unit of the teacher's calibrated score is worth.

Legend: Q lists, T candidates in all lists together.
"""

from __future__ import annotations

import numpy as np

from sdretrieval.errors import NumericError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.reduce import per_entry, reduced


def margin_scale(student: Ragged, teacher: Ragged) -> float:
    """Standard deviation of the student's scores within its lists, over that of the teacher's.

    With it the lists keep their spread and learn their order: a teacher's calibrated unit (a standard deviation of its
    scores) becomes one of the student's. It is fitted once, on the mined lists and the student as it starts, and stays:
    a factor learned along could shrink to 0, and with it every margin and the loss. A least-squares fit would do so by
    as much as student and teacher disagree.

    `teacher`: -inf = excluded, left out of both. Raises NumericError where either has no spread at all.
    """
    included_T = np.isfinite(teacher.values_T)
    spreads = {name: _spread(lists, included_T) for name, lists in (("student", student), ("teacher", teacher))}
    for name, spread in spreads.items():
        if not spread > 0:
            raise NumericError(
                f"train.margin_scale auto: the {name}'s scores are equal within every list, so margins have no scale; "
                "set train.margin_scale to a number (cosines for one unit of the teacher's score)"
            )
    return spreads["student"] / spreads["teacher"]


def _spread(lists: Ragged, included_T: np.ndarray) -> float:
    values_T = np.where(included_T, lists.values_T, 0.0).astype(np.float64)
    count_Q = np.maximum(reduced(np.add, included_T, lists, 0.0), 1.0)
    centred_T = values_T - per_entry(reduced(np.add, values_T, lists, 0.0) / count_Q, lists)
    return float(np.sqrt(np.square(centred_T[included_T]).mean())) if included_T.any() else 0.0
