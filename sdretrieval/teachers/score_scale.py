"""Does a file's scale teach? Raw scores do; a sigmoid's output, grades and constants lose what a target is made of.

Legend: P pairs, Q queries.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

NEAR = 0.01
"""A probability this close to 0 or 1 is squeezed."""
SQUEEZED_SHARE = 0.5
TIED_AT_ONE_SHARE = 0.05
"""Of pairs whose probability is 1 to three digits: among these the teacher's order is lost."""
FEW_PAIRS = 20
"""Fewer say nothing of a scale."""


def scale_warnings(score_P: NDArray[np.float32], query_P: NDArray[np.int64]) -> list[str]:
    """What is suspicious about scores, one sentence each: constant, squeezed at 0 or 1, whole numbers."""
    if len(score_P) < FEW_PAIRS:
        return []
    if score_P.min() == score_P.max():
        return [
            f"all {len(score_P):,} scores are {score_P[0]:g}: there is no order to learn; is this the right column?"
        ]
    return [text for text in (_squeezed(score_P), _whole_numbers(score_P, query_P)) if text]


def _squeezed(score_P: NDArray[np.float32]) -> str | None:
    if score_P.min() < 0 or score_P.max() > 1 or (score_P == np.round(score_P)).all():
        return None
    high, low = float((score_P >= 1 - NEAR).mean()), float((score_P <= NEAR).mean())
    at_one = float((score_P >= 1 - NEAR / 10).mean())
    if high + low < SQUEEZED_SHARE and at_one < TIED_AT_ONE_SHARE:
        return None
    return (
        f"all scores lie in 0..1, {high:.0%} of them above {1 - NEAR:g} and {low:.0%} below {NEAR:g}: they look like a "
        "sigmoid's probabilities, which hide how much better one good document is than another; write raw logits in "
        "float32 instead (sentence-transformers: CrossEncoder(..., activation_fn=torch.nn.Identity()))"
    )


def _whole_numbers(score_P: NDArray[np.float32], query_P: NDArray[np.int64]) -> str | None:
    if (score_P != np.round(score_P)).any():
        return None
    if _are_ranks(score_P, query_P):
        return (
            "the scores of each query are 1, 2, 3 ...: they look like ranks, where 1 is best, but here the highest "
            "score is the best; write scores, or at least the ranks negated"
        )
    values = np.unique(score_P)
    return (
        f"all scores are whole numbers ({len(values)} different ones, {values[0]:g} to {values[-1]:g}): documents of "
        "one grade are alike to this teacher; raw scores teach more"
    )


def _are_ranks(score_P: NDArray[np.float32], query_P: NDArray[np.int64]) -> bool:
    counts_Q = np.bincount(query_P)
    highest_Q = np.full(len(counts_Q), -np.inf)
    np.maximum.at(highest_Q, query_P, score_P)
    pairs = np.unique(query_P * (1 << 32) + score_P.astype(np.int64))
    return bool(score_P.min() == 1 and len(pairs) == len(score_P) and (highest_Q == counts_Q)[counts_Q > 0].all())
