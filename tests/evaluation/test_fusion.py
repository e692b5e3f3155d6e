"""Hybrid search: evidence on an absolute scale, and what it is compared with."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.z_scores import fuse
from sdretrieval.errors import RequestError
from sdretrieval.evaluation import absolute, log_odds, reciprocal_ranks

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


def test_evidence_moves_a_document_by_what_of_the_query_it_holds() -> None:
    dense = {"q": {"a": 0.9, "b": 0.7}, "r": {"a": 0.4, "b": 0.8}}  # sigma: the mean of 0.1 and 0.2
    fused = absolute(dense, {"q": {"b": 3.0, "c": 6.0}, "r": {}}, {"q": 12.0, "r": 5.0}, strength=4, depth=2)
    sigma = 0.15
    assert fused["q"] == pytest.approx({"a": 0.9 / sigma + 1, "b": 0.7 / sigma + 1, "c": 0.7 / sigma + 2})
    assert list(fused["q"]) == ["a", "c", "b"]
    assert fused["r"] == pytest.approx({"b": 0.8 / sigma, "a": 0.4 / sigma}), "no word is known: nothing moves"
    few = absolute(dense, {"q": {"c": 6.0}}, {"q": 12.0}, strength=4, depth=2)
    assert few["q"]["a"] == pytest.approx(0.9 / sigma), "BM25 has found all that share a word: a shares none"


@given(dense=HITS.filter(len), lexical=HITS.filter(len), scale=st.sampled_from([0.5, 3.0, 100.0]))
@settings(max_examples=60, deadline=None)
def test_a_model_with_closer_cosines_is_mixed_the_same(
    dense: dict[str, float], lexical: dict[str, float], scale: float
) -> None:
    words = {document: abs(score) for document, score in lexical.items()}
    closer = {document: score / scale for document, score in dense.items()}
    plain = absolute({"q": dense}, {"q": words}, {"q": 40.0})["q"]
    if len(set(dense.values())) > 1:
        assert absolute({"q": closer}, {"q": words}, {"q": 40.0})["q"] == pytest.approx(plain)
    alone = absolute({"q": dense}, {"q": words}, {"q": 40.0}, strength=0)["q"]
    order = sorted(dense, key=lambda document: (-dense[document], document))
    assert [document for document in alone if document in dense] == order, "no strength: the bi-encoder's order"


def test_weak_evidence_among_its_like_moves_little() -> None:
    """Where BM25's best match holds a tenth of the query, a z-score makes as much of it as of a perfect match."""
    dense = {"q": {"right": 0.9, "wrong": 0.7, "x": 0.6, "y": 0.5}}
    noise = {"q": {"wrong": 1.0, "y": 0.1, "x": 0.1, "right": 0.1}}
    assert next(iter(fuse([dense, noise], [0.5, 0.5])["q"])) == "wrong"
    assert next(iter(absolute(dense, noise, {"q": 10.0})["q"])) == "right"


def test_reciprocal_ranks_and_log_odds_follow_their_formulas() -> None:
    dense, lexical = {"q": {"a": 3.0, "b": 2.0, "c": 1.0}}, {"q": {"c": 10.0, "d": 0.0}}
    ranks = {"a": 1 / 61, "b": 1 / 62, "c": 1 / 63 + 1 / 61, "d": 1 / 62}
    assert reciprocal_ranks([dense, lexical])["q"] == pytest.approx(ranks)
    z = np.sqrt(1.5)
    odds = {"a": z / 2, "b": 0.0, "c": (-z + 1) / np.sqrt(2), "d": -1 / 2}
    assert log_odds([dense, lexical])["q"] == pytest.approx(odds)
    assert list(log_odds([dense, {"q": {}}])["q"]) == ["a", "b", "c"]


def test_a_strength_below_0_is_refused() -> None:
    with pytest.raises(RequestError, match="strength is -1, expected 0"):
        absolute({}, {}, {}, strength=-1)
