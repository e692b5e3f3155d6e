"""How much a query should count, from how sure the teacher is of its list.

Legend: Q queries, T candidates in all lists together.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sdretrieval.ragged import Ragged
from sdretrieval.targets.calibrate import calibrate, corpus_statistics
from sdretrieval.targets.reduce import Floats, reduced


def corpus_confidence(raw: Ragged) -> NDArray[np.float32]:
    """Weights in (0.5, 1.5) with mean 1, float32 (Q,).

    The confidence of a list is its best score less the mean of its other scores, after min-max calibration over the
    corpus; z-scores of each query would give every list the same spread and erase just this. The weight is
    0.5 + (rank - 0.5) / Q, where rank 1 is the least sure list and equal lists share their mean rank: bounded whatever
    the teacher's scale, and no query is silenced. A list of fewer than two candidates has confidence 0.

    Raises NumericError for scores that are not finite.
    """
    scores = calibrate(raw, corpus_statistics(raw))
    best_Q = reduced(np.maximum, scores.values_T, scores, 0.0)
    others_Q = (reduced(np.add, scores.values_T, scores, 0.0) - best_Q) / np.maximum(scores.lengths - 1, 1)
    gap_Q = np.where(scores.lengths > 1, best_Q - others_Q, 0.0)
    return (0.5 + (_mean_ranks(gap_Q) - 0.5) / max(len(raw), 1)).astype(np.float32)


def _mean_ranks(values_Q: Floats) -> Floats:
    _, group_Q, count = np.unique(values_Q, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[group_Q], dtype=np.float64)
