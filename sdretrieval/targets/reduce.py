"""One number from each list of a Ragged, empty lists included (`ufunc.reduceat` alone gets those wrong).

Legend: Q lists, T entries in all lists together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import WorkError
from sdretrieval.ragged import Ragged

Floats = NDArray[np.float64]


def reduced(ufunc: np.ufunc, values_T: NDArray[Any], lists: Ragged, empty: float) -> Floats:
    """`ufunc` over each list of `values_T`, cut as `lists` is; `empty` for a list without entries. Float64, (Q,)."""
    out_Q = np.full(len(lists), empty, dtype=np.float64)
    filled_Q = lists.lengths > 0
    if filled_Q.any():
        out_Q[filled_Q] = ufunc.reduceat(np.asarray(values_T, dtype=np.float64), lists.offsets[:-1][filled_Q])
    return out_Q


def per_entry(values_Q: Floats, lists: Ragged) -> Floats:
    """Each list's number repeated for its entries, shape (T,)."""
    return np.repeat(values_Q, lists.lengths)


def check_same_lists(name: str, found: Ragged, expected_name: str, expected: Ragged) -> None:
    """Raise WorkError unless both are cut into the same lists."""
    if len(found.values_T) != len(expected.values_T) or not np.array_equal(found.offsets, expected.offsets):
        raise WorkError(
            f"{name} holds {len(found)} lists of {len(found.values_T)} entries, {expected_name} {len(expected)} of "
            f"{len(expected.values_T)}, or they are cut at other places; both must come from the same candidates"
        )
