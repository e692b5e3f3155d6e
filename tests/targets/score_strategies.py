"""Hypothesis strategies for ragged lists of scores."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from sdretrieval.ragged import Ragged


def score_lists(low: float = -20.0, high: float = 20.0, min_size: int = 0, min_lists: int = 1) -> st.SearchStrategy:
    """1 to 6 lists (or `min_lists` to 6) of `min_size` to 8 float32 scores."""
    score = st.floats(low, high, width=32)
    lists = st.lists(st.lists(score, min_size=min_size, max_size=8), min_size=min_lists, max_size=6)
    return lists.map(lambda entries: Ragged.of(entries, np.float32))


def gaussian(queries: int, candidates: int, seed: int = 0) -> Ragged:
    """Lists of standard normal scores."""
    scores_QK = np.random.default_rng(seed).normal(size=(queries, candidates)).astype(np.float32)
    return Ragged.of(list(scores_QK), np.float32)
