"""Mining's promises, as properties over random collections and as worked examples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sdretrieval.errors import NumericError, RequestError, WorkError
from sdretrieval.mining.candidates import Candidates
from sdretrieval.mining.mine import MiningReport, duplicate_groups, mine


@dataclass(frozen=True)
class Found:
    rows_Qk: NDArray[np.int64]
    scores_Qk: NDArray[np.float32]


def best(scores_QN: NDArray[np.float32], k: int, width: int) -> Found:
    """The best k a query, padded with -1 to `width`, as an index pads; scores are rough, as those of codes are."""
    rows = np.argsort(-scores_QN, axis=1, kind="stable")[:, :k]
    padding = np.full((len(rows), width - rows.shape[1]), -1, dtype=np.int64)
    found = np.take_along_axis(scores_QN, rows, axis=1).round(1)
    return Found(np.hstack([rows, padding]), np.hstack([found, np.full(padding.shape, -np.inf, dtype=np.float32)]))


@dataclass(frozen=True)
class Case:
    """A random collection: everything that `mine` takes, and the scores behind it."""

    dense_QN: NDArray[np.float32]
    lexical_QN: NDArray[np.float32] | None
    query_rows: NDArray[np.int64]
    positives: list[list[int]]
    group_N: NDArray[np.int64]
    own_Q: NDArray[np.int64]
    depth: int
    keep: int
    top_share: float
    seed: int

    def subset(self, positions: NDArray[np.int64]) -> Case:
        return replace(
            self,
            dense_QN=self.dense_QN[positions],
            lexical_QN=None if self.lexical_QN is None else self.lexical_QN[positions],
            query_rows=self.query_rows[positions],
            positives=[self.positives[p] for p in positions],
            own_Q=self.own_Q[positions],
        )

    def mine(self) -> tuple[Candidates, MiningReport]:
        hits = min(self.depth + 2, self.dense_QN.shape[1])
        width = self.depth + 4
        return mine(
            self.query_rows,
            best(self.dense_QN, hits, width),
            None if self.lexical_QN is None else best(self.lexical_QN, hits, width),
            self.positives,
            lambda q, rows: self.dense_QN[q, rows],
            depth=self.depth,
            keep=self.keep,
            top_share=self.top_share,
            duplicate_group_N=self.group_N,
            own_document_Q=self.own_Q,
            seed=self.seed,
        )


@st.composite
def cases(draw: st.DrawFn) -> Case:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    queries, documents = draw(st.integers(1, 5)), draw(st.integers(4, 40))
    many = draw(st.integers(0, min(6, documents)))
    return Case(
        dense_QN=rng.normal(size=(queries, documents)).astype(np.float32),
        lexical_QN=rng.normal(size=(queries, documents)).astype(np.float32) if draw(st.booleans()) else None,
        query_rows=rng.permutation(1000)[:queries],
        positives=[rng.choice(documents, rng.integers(0, many + 1), replace=False).tolist() for _ in range(queries)],
        group_N=rng.integers(0, draw(st.integers(2, 3 * documents)), size=documents),
        own_Q=rng.integers(-1, documents, size=queries),
        depth=draw(st.integers(1, 20)),
        keep=draw(st.integers(2, 12)),
        top_share=draw(st.sampled_from([0.0, 0.3, 0.5, 1.0])),
        seed=draw(st.integers(0, 99)),
    )


@given(cases())
@settings(max_examples=150, deadline=None)
def test_promises_of_every_list(case: Case) -> None:
    candidates, report = case.mine()
    for q, rows in enumerate(candidates.rows):
        positive = candidates.positive[q]
        known = set(case.positives[q])
        groups = case.group_N[rows]
        assert len(rows) <= case.keep
        assert positive.sum() <= case.keep - 1
        assert len(set(rows)) == len(rows)
        assert len(set(groups)) == len(groups), "one text twice"
        assert case.own_Q[q] not in rows
        assert known.isdisjoint(rows[~positive]), "a known positive as a negative"
        assert set(rows[positive]) <= known
        assert not set(groups[~positive]) & {case.group_N[p] for p in known}, "a positive's text as a negative"
        np.testing.assert_array_equal(candidates.scores[q], case.dense_QN[q, rows])
    assert report.candidates == candidates.rows.lengths.sum()
    assert report.lists_short == (candidates.rows.lengths < case.keep).sum()


@given(cases())
@settings(max_examples=100, deadline=None)
def test_every_positive_that_fits_is_in_the_list(case: Case) -> None:
    candidates, report = case.mine()
    missing = 0
    for q, known in enumerate(case.positives):
        texts = {case.group_N[p] for p in known if p != case.own_Q[q]}
        missing += max(len(texts) - (case.keep - 1), 0)
        assert candidates.positive[q].sum() == min(len(texts), case.keep - 1)
    assert report.positives_left_out == missing


@given(cases(), st.randoms(use_true_random=False))
@settings(max_examples=100, deadline=None)
def test_a_query_does_not_depend_on_the_others(case: Case, random: Any) -> None:
    whole, _ = case.mine()
    positions = np.array(random.sample(range(len(whole)), k=random.randint(1, len(whole))))
    some, _ = case.subset(positions).mine()
    expected = whole.take(positions)
    np.testing.assert_array_equal(some.rows.values_T, expected.rows.values_T)
    np.testing.assert_array_equal(some.rows.offsets, expected.rows.offsets)
    np.testing.assert_array_equal(some.dense_rank.values_T, expected.dense_rank.values_T)


def plain(**changes: Any) -> Case:
    """One query, 20 documents, dense score falling with the row, nothing removed."""
    case = Case(
        dense_QN=np.linspace(1, 0, 20, dtype=np.float32)[None],
        lexical_QN=None,
        query_rows=np.array([7]),
        positives=[[]],
        group_N=np.arange(20),
        own_Q=np.array([-1]),
        depth=20,
        keep=6,
        top_share=0.5,
        seed=0,
    )
    return replace(case, **changes)


def test_half_are_top_ranked_and_half_sampled_deeper() -> None:
    deep = set()
    for seed in range(40):
        rows = plain(seed=seed).mine()[0].rows[0]
        assert rows[:3].tolist() == [0, 1, 2]
        assert len(rows) == 6 and min(rows[3:]) >= 3
        deep |= set(rows[3:].tolist())
    assert deep == set(range(3, 20)), "every deeper document can be drawn"


def test_depth_bounds_the_pool() -> None:
    rows = plain(depth=5).mine()[0].rows[0]
    assert rows.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("lexical", [False, True])
def test_the_querys_own_document_takes_no_place_of_the_depth(lexical: bool) -> None:
    case = plain(depth=5, own_Q=np.array([2]), lexical_QN=plain().dense_QN if lexical else None)
    candidates, report = case.mine()
    assert candidates.rows[0].tolist() == [0, 1, 3, 4, 5]
    assert candidates.dense_rank[0].tolist() == [0, 1, 2, 3, 4]
    assert report.removed["own_document"] == 1


def test_positives_come_first_even_where_no_retriever_found_them() -> None:
    candidates, report = plain(positives=[[19, 1]], depth=8).mine()
    assert candidates.rows[0][:2].tolist() == [1, 19]
    assert candidates.positive[0].tolist() == [True, True, False, False, False, False]
    assert candidates.dense_rank[0][:2].tolist() == [1, -1]
    assert candidates.scores[0][1] == plain().dense_QN[0, 19]
    assert (report.positives, report.positives_found_in_dense_top) == (2, 1)


def test_fusion_puts_what_both_found_above_what_one_found() -> None:
    lexical = np.zeros((1, 20), dtype=np.float32)
    lexical[0, [15, 3, 18]] = [3.0, 2.0, 1.0]
    candidates, report = plain(lexical_QN=lexical, depth=4, keep=4, top_share=1.0, positives=[[15]]).mine()
    # Dense top 0 1 2 3, lexical top 15 3 18 0: only 0 and 3 stand in both; then dense rank 1 before lexical rank 2.
    assert candidates.rows[0].tolist() == [15, 0, 3, 1]
    assert (report.positives_found_in_dense_top, report.positives_found_in_lexical_top) == (0, 1)


def test_the_report_counts_what_was_removed_with_examples() -> None:
    group_N = np.arange(20)
    group_N[4] = group_N[2]  # the text of the positive
    group_N[9] = group_N[8]  # two negatives with one text
    candidates, report = plain(positives=[[2]], group_N=group_N, own_Q=np.array([0]), keep=20).mine()
    assert sorted(candidates.rows[0].tolist()) == sorted(set(range(20)) - {0, 4, 9})
    assert report.removed == {"own_document": 1, "identical_to_positive": 1, "duplicate_text": 1}
    assert set(report.examples) == {(7, 0, "own_document"), (7, 4, "identical_to_positive"), (7, 9, "duplicate_text")}
    assert (report.lists_short, report.mean_list_length) == (1, 17.0)
    assert MiningReport.from_json(report.to_json()) == report


def test_no_hits_give_an_empty_list() -> None:
    nothing = Found(np.full((1, 3), -1), np.full((1, 3), -np.inf, dtype=np.float32))
    candidates, report = mine(
        [0], nothing, None, [[]], lambda q, rows: np.zeros(len(rows), dtype=np.float32),
        depth=3, keep=4, duplicate_group_N=np.arange(5), own_document_Q=np.array([-1]), seed=1,
    )  # fmt: skip
    assert (candidates.rows.lengths.tolist(), report.lists_short) == ([0], 1)


def test_a_score_that_is_not_finite_is_named() -> None:
    dense = plain().dense_QN.copy()
    dense[0, 19] = np.nan
    with pytest.raises(NumericError, match="query position 0, document row 19 is nan"):
        plain(dense_QN=dense, positives=[[19]], depth=5).mine()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"keep": 1}, RequestError, "keep is 1, expected 2 or more"),
        ({"depth": 0}, RequestError, "depth is 0, expected 1 or more"),
        ({"top_share": 1.5}, RequestError, r"top_share is 1\.5, expected a share between 0 and 1"),
        ({"seed": -1}, RequestError, "seed is -1"),
        ({"positives": [[], []]}, WorkError, "positives for 2 queries, expected 1"),
        ({"group_N": np.arange(10)}, WorkError, "document row 19 found, but duplicate_group_N covers 10 documents"),
        ({"positives": [[-1]]}, WorkError, "positive document row -1"),
    ],
)
def test_bad_requests_are_named(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        plain(**changes).mine()


def test_groups_ignore_white_space_only() -> None:
    texts = ["a  b\n", "b a", " a b", "", "A b", "   "]
    assert duplicate_groups(iter(texts)).tolist() == [0, 1, 0, 2, 3, 2]
