"""The fast join finds exactly the pairs that comparing all pairs finds."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.corpus.text import jaccard, shingles_of, similar_pairs

sets = st.lists(st.frozensets(st.integers(0, 8), max_size=8), max_size=14)


@given(sets, st.sampled_from([0.2, 0.5, 0.75, 0.8, 1.0]))
def test_same_pairs_as_brute_force(sets: list[frozenset[int]], threshold: float) -> None:
    expected = {(a, b) for a, b in combinations(range(len(sets)), 2) if jaccard(sets[a], sets[b]) >= threshold}
    found = list(similar_pairs(sets, threshold))
    assert set(found) == expected
    assert len(found) == len(expected)


def test_short_texts_are_one_shingle() -> None:
    assert shingles_of("One two") == {("one", "two")}
    assert len(shingles_of("a b c d e f")) == 2
