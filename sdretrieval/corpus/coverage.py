"""What a view leaves unseen of long documents.

Legend: N documents.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sdretrieval.corpus.text import LIST_AT_MOST


@dataclass(frozen=True)
class LongDocument:
    """A document's id and length, and how much of it each view shows (both in the lengths' unit)."""

    identifier: str
    length: int
    seen: Mapping[str, int]


def share_seen(lengths_N: NDArray[np.int64], most: int) -> float:
    """Share (0 to 1) of all documents' tokens that a view of the first `most` shows; 1 where there are none."""
    total = int(lengths_N.sum())
    return float(np.minimum(lengths_N, most).sum() / total) if total else 1.0


def longest_cut(
    identifiers: Sequence[str], lengths_N: NDArray[np.int64], views: Mapping[str, int]
) -> tuple[LongDocument, ...]:
    """The longest documents, longest first, that the shortest of `views` (most tokens by name) cuts."""
    shortest = min(views.values(), default=None)
    if shortest is None:
        return ()
    order = np.argsort(-lengths_N, kind="stable")[:LIST_AT_MOST]
    return tuple(
        LongDocument(identifiers[row], int(lengths_N[row]), {v: min(int(lengths_N[row]), m) for v, m in views.items()})
        for row in order.tolist()
        if lengths_N[row] > shortest
    )


def seen_line(view: str, unit: str, share: float, longest: Sequence[LongDocument]) -> str:
    """One line for a person: what the view of that name shows of all documents, and of the longest."""
    named = ", ".join(f"{one.identifier} {one.length:,} ({one.seen[view] / one.length:.1%} seen)" for one in longest)
    return f"view {view} sees {share:.1%} of all {unit}" + (f"; the longest documents: {named}" if named else "")
