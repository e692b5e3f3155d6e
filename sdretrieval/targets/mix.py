"""The ensemble's score: a weighted sum of its members' calibrated scores.

Legend: M members, Q lists, B queries of a batch, N documents.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import RequestError, WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.reduce import Floats, check_same_lists


def normalised(weights: Sequence[float]) -> Floats:
    """Weights scaled to sum to 1, float64 (M,). Raises RequestError for negative, infinite or all-zero weights."""
    weights_M = np.asarray(weights, dtype=np.float64)
    if not len(weights_M) or not np.isfinite(weights_M).all() or (weights_M < 0).any() or weights_M.sum() <= 0:
        raise RequestError(f"teacher weights are {list(weights)}, expected numbers of 0 or more with one above 0")
    return np.asarray(weights_M / weights_M.sum())


def mix(members: Sequence[Ragged], weights: Sequence[float]) -> Ragged:
    """Sum over members of weight x calibrated score, weights normalised to sum 1; float32, computed in float64.

    Raises RequestError for bad weights, WorkError where the members are not cut into the same lists.
    """
    weights_M = _paired(len(members), weights)
    for number, member in enumerate(members[1:], start=1):
        check_same_lists(f"teacher member {number}", member, "member 0", members[0])
    total_T = sum(w * m.values_T.astype(np.float64) for w, m in zip(weights_M, members, strict=True))
    return members[0].with_values(np.asarray(total_T).astype(np.float32))


def mix_matrices(members: Sequence[NDArray[np.floating]], weights: Sequence[float]) -> NDArray[np.float32]:
    """The same for calibrated matrices of one batch, float32 (B, N)."""
    weights_M = _paired(len(members), weights)
    shapes = {member.shape for member in members}
    if len(shapes) > 1:
        raise WorkError(f"teacher members score matrices of shapes {sorted(shapes)}, expected one shape")
    total_BN = sum(w * m.astype(np.float64) for w, m in zip(weights_M, members, strict=True))
    return np.asarray(total_BN).astype(np.float32)


def _paired(members: int, weights: Sequence[float]) -> Floats:
    if members != len(weights):
        raise WorkError(f"{members} teacher members, but {len(weights)} weights")
    return normalised(weights)
