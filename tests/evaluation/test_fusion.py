"""Hybrid search by z-scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.errors import RequestError
from sdretrieval.evaluation import fuse

HITS = st.dictionaries(st.sampled_from("abcdefgh"), st.integers(-20, 20).map(float), max_size=8)


def test_a_worked_example() -> None:
    dense = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}
    lexical = {"q": {"c": 10.0, "d": 0.0}}
    z = np.sqrt(1.5)  # (3 - 2) / std of 3, 2, 1
    fused = fuse([dense, lexical], [0.5, 0.5])
    expected = {"a": (z - 1) / 2, "b": -1 / 2, "c": (-z + 1) / 2, "d": (-z - 1) / 2}
    assert fused["q"] == pytest.approx(expected)
    assert list(fused["q"]) == ["a", "c", "b", "d"]


@given(dense=HITS, lexical=HITS, scale=st.sampled_from([0.5, 3.0, 100.0]), offset=st.integers(-50, 50))
@settings(max_examples=60, deadline=None)
def test_scale_and_offset_of_a_system_change_nothing(
    dense: dict[str, float], lexical: dict[str, float], scale: float, offset: int
) -> None:
    moved = {document: scale * score + offset for document, score in lexical.items()}
    plain = fuse([{"q": dense}, {"q": lexical}], [0.5, 0.5])["q"]
    assert fuse([{"q": dense}, {"q": moved}], [2, 2])["q"] == pytest.approx(plain)


@given(hits=HITS)
def test_one_run_alone_keeps_its_order(hits: dict[str, float]) -> None:
    fused = fuse([{"q": hits}], [1.0])["q"]
    assert list(fused) == sorted(hits, key=lambda document: (-hits[document], document))


def test_only_the_top_takes_part() -> None:
    fused = fuse([{"q": {"a": 3.0, "b": 2.0, "c": 1.0}}, {"q": {"b": 1.0}}], [0.5, 0.5], depth=2)
    assert set(fused["q"]) == {"a", "b"}


def test_equal_scores_and_silent_systems_add_nothing() -> None:
    dense = {"q": {"a": 3.0, "b": 1.0}}
    assert fuse([dense, {"q": {"c": 0.1, "b": 0.1}}], [0.5, 0.5])["q"] == {"a": 0.5, "b": -0.5, "c": -0.5}
    assert fuse([dense, {}], [0.5, 0.5])["q"] == {"a": 0.5, "b": -0.5}
    assert fuse([dense, {"q": {}, "r": {}}], [0.5, 0.5]) == {"q": {"a": 0.5, "b": -0.5}, "r": {}}


def test_weights_that_do_not_fit_are_refused() -> None:
    with pytest.raises(RequestError, match="1 weights for 2 runs"):
        fuse([{}, {}], [1.0])
    with pytest.raises(RequestError, match=r"weights \[-1, 2\]: expected none below 0"):
        fuse([{}, {}], [-1, 2])
