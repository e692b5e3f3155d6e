"""Mining: from two retrievers' top lists to the candidates that the teacher scores, with a report of what was removed.

Legend: Q queries, k hits a query, N documents, P documents in one query's pool, C candidates kept of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sdretrieval.corpus.text import content_digest
from sdretrieval.errors import NumericError, RequestError, WorkError
from sdretrieval.mining.candidates import FIELDS, Candidates
from sdretrieval.progress import track
from sdretrieval.ragged import Ragged

Rows = NDArray[np.int64]
ScoreOf = Callable[[int, Rows], NDArray[np.float32]]

RRF_CONSTANT = 60
"""Cormack et al. 2009 fixed 60 in a pilot and found the results near insensitive to it."""


class HitsLike(Protocol):
    """What a retriever found: `rows_Qk` (-1 = padding), best first."""

    @property
    def rows_Qk(self) -> NDArray[Any]:
        """Document rows, integer, shape (Q, k)."""


@dataclass(frozen=True)
class _Pool:
    """One query's documents, best fused rank first; ranks are 0-based, -1 = not in that list."""

    rows_P: Rows
    dense_rank_P: Rows
    lexical_rank_P: Rows
    positive_P: NDArray[np.bool_]

    def take(self, chosen: NDArray[Any]) -> _Pool:
        return _Pool(
            self.rows_P[chosen], self.dense_rank_P[chosen], self.lexical_rank_P[chosen], self.positive_P[chosen]
        )


def mine(
    query_rows: Sequence[int] | Rows,
    dense: HitsLike,
    lexical: HitsLike | None,
    positives: Sequence[Sequence[int]],
    score_of: ScoreOf,
    *,
    depth: int,
    keep: int,
    top_share: float = 0.5,
    duplicate_group_N: Rows,
    own_document_Q: Rows,
    seed: int,
) -> tuple[Candidates, MiningReport]:
    """Up to `keep` candidates a query, and a report of what was removed.

    The pool is the student's top `depth` (`dense`) united with BM25's (`lexical`) and the known positives. Removed:
    the query's own document (before the cut, so ask for one hit more), documents with the text of a known positive,
    and all but the best ranked of documents with one text (among positives too). Known positives come first in the
    list and are flagged, at most `keep` - 1 of them, the best ranked; one that does not fit is left out, never made a
    negative. The other places: a share `top_share` (a half rounds up) for the top ranked, the rest sampled evenly
    without replacement from deeper in the pool, because the top alone holds most false negatives and says nothing of
    the ordinary document. The ranking is reciprocal rank fusion (Cormack et al. 2009), sum of 1 / (60 + rank) with
    ranks from 1, or the dense ranking if `lexical` is None.

    Each query's sample depends on (`seed`, its query row) alone, so that mining fewer queries, or the same ones in
    another order, gives the same lists.

    `positives`: for each query position the rows of its known positives (empty without labels).
    `score_of(q, rows)`: the student's scores of the kept documents for query *position* q; hits have none, since those
    of an index of codes are approximate. `duplicate_group_N`: as `duplicate_groups` gives it. `own_document_Q`: row of
    the document with the query's own id, -1 if there is none.

    Raises RequestError for a setting out of range, WorkError if the inputs do not fit each other, NumericError if a
    score is not finite.
    """
    query_rows_Q = np.asarray(query_rows, dtype=np.int64)
    if keep < 2:
        raise RequestError(f"keep is {keep}, expected 2 or more: a list of one candidate teaches nothing")
    if depth < 1:
        raise RequestError(f"depth is {depth}, expected 1 or more (and at least keep, which is {keep})")
    if not 0.0 <= top_share <= 1.0:
        raise RequestError(f"top_share is {top_share}, expected a share between 0 and 1")
    if seed < 0:
        raise RequestError(f"seed is {seed}, expected 0 or more")
    _check_inputs(query_rows_Q, dense, lexical, positives, duplicate_group_N, own_document_Q)
    tally, lists = Tally(), []
    for q in track(range(len(query_rows_Q)), "mine", "queries"):
        own, lexical_rows = int(own_document_Q[q]), None if lexical is None else lexical.rows_Qk[q]
        pool = _pool(dense.rows_Qk[q], lexical_rows, positives[q], depth, own)
        for name, rank_P in (("dense", pool.dense_rank_P), ("lexical", pool.lexical_rank_P)):
            tally.counts[f"positives_in_{name}"] += int((pool.positive_P & (rank_P >= 0)).sum())
        tally.counts["positives"] += int(pool.positive_P.sum())
        pool = _without_removed(pool, duplicate_group_N, own, int(query_rows_Q[q]), tally)
        kept = _kept(pool, keep, top_share, np.random.default_rng([seed, int(query_rows_Q[q])]), tally)
        tally.counts["lists_short"] += len(kept.rows_P) < keep
        tally.counts["candidates"] += len(kept.rows_P)
        lists.append((kept.rows_P, _scores(kept, q, score_of), kept.positive_P, kept.dense_rank_P))
    parts = [Ragged.of([entry[i] for entry in lists], dtype) for i, dtype in enumerate(FIELDS.values())]
    return Candidates(query_rows_Q, *parts), tally.report(len(query_rows_Q))


def _pool(dense_k: Rows, lexical_k: Rows | None, positives: Sequence[int], depth: int, own: int) -> _Pool:
    """The pool, with the query's own document if anything found it: its removal is counted like the others."""
    known = np.asarray(positives, dtype=np.int64)
    dense_rows = _top(dense_k, depth, own)
    lexical_rows = _top(lexical_k, depth, own) if lexical_k is not None else dense_rows[:0]
    hits = dense_k if lexical_k is None else np.concatenate([dense_k, lexical_k])
    rows_P = np.unique(np.concatenate([dense_rows, lexical_rows, known, hits[(hits == own) & (hits >= 0)]]))
    dense_rank_P, lexical_rank_P = _ranks(rows_P, dense_rows), _ranks(rows_P, lexical_rows)
    fused_P = _reciprocal(dense_rank_P) + _reciprocal(lexical_rank_P)
    # Equal fused scores are common (rank 3 and 7 against 7 and 3): the student's own rank decides, then the row.
    dense_last_P = np.where(dense_rank_P < 0, len(rows_P), dense_rank_P)
    order_P = np.lexsort((rows_P, dense_last_P, -fused_P))
    return _Pool(rows_P, dense_rank_P, lexical_rank_P, np.isin(rows_P, known)).take(order_P)


def _top(rows_k: Rows, depth: int, own: int) -> Rows:
    return np.asarray(rows_k[(rows_k >= 0) & (rows_k != own)][:depth], dtype=np.int64)


def _ranks(rows_P: Rows, ranked: Rows) -> Rows:
    ranks_P = np.full(len(rows_P), -1, dtype=np.int64)
    # Written backwards, so that a document that a retriever returned twice keeps its better rank.
    ranks_P[np.searchsorted(rows_P, ranked[::-1])] = np.arange(len(ranked))[::-1]
    return ranks_P


def _reciprocal(ranks_P: Rows) -> NDArray[np.float64]:
    return np.where(ranks_P >= 0, 1.0 / (RRF_CONSTANT + 1 + ranks_P), 0.0)  # ranks of the paper begin at 1


def _without_removed(pool: _Pool, group_N: Rows, own: int, query_row: int, tally: Tally) -> _Pool:
    group_P = group_N[pool.rows_P]
    own_P = pool.rows_P == own
    like_positive_P = np.isin(group_P, group_P[pool.positive_P]) & ~pool.positive_P & ~own_P
    gone_P = own_P | like_positive_P
    # Of what stays, the first, which is the best ranked, of each group of equal texts is kept.
    _, first = np.unique(group_P[~gone_P], return_index=True)
    twin_P = ~gone_P
    twin_P[np.flatnonzero(~gone_P)[first]] = False
    tally.remove("own_document", query_row, pool.rows_P[own_P])
    tally.remove("identical_to_positive", query_row, pool.rows_P[like_positive_P])
    tally.remove("duplicate_text", query_row, pool.rows_P[twin_P])
    return pool.take(~(gone_P | twin_P))


def _kept(pool: _Pool, keep: int, top_share: float, generator: np.random.Generator, tally: Tally) -> _Pool:
    known, others = np.flatnonzero(pool.positive_P), np.flatnonzero(~pool.positive_P)
    tally.counts["positives_left_out"] += max(len(known) - (keep - 1), 0)
    known = known[: keep - 1]
    places = keep - len(known)
    top = int(places * top_share + 0.5)
    deeper = others[top:]
    sampled = np.sort(generator.choice(deeper, min(places - top, len(deeper)), replace=False))
    return pool.take(np.concatenate([known, others[:top], sampled]))


def _scores(kept: _Pool, q: int, score_of: ScoreOf) -> NDArray[np.float32]:
    scores_C = np.asarray(score_of(q, kept.rows_P), dtype=np.float32)
    if scores_C.shape != kept.rows_P.shape:
        raise WorkError(f"score_of(query position {q}) gave shape {scores_C.shape} for {len(kept.rows_P)} documents")
    if not np.isfinite(scores_C).all():
        worst = int(np.argmax(~np.isfinite(scores_C)))
        raise NumericError(
            f"student score of query position {q}, document row {kept.rows_P[worst]} is {scores_C[worst]}, expected a "
            "finite number; check the embeddings of both"
        )
    return scores_C


def _check_inputs(
    query_rows_Q: Rows,
    dense: HitsLike,
    lexical: HitsLike | None,
    positives: Sequence[Sequence[int]],
    duplicate_group_N: Rows,
    own_document_Q: Rows,
) -> None:
    counts = {"dense hits": len(dense.rows_Qk), "positives": len(positives), "own_document_Q": len(own_document_Q)}
    if lexical is not None:
        counts["lexical hits"] = len(lexical.rows_Qk)
    for name, count in counts.items():
        if count != len(query_rows_Q):
            raise WorkError(f"mine: {name} for {count} queries, expected {len(query_rows_Q)}")
    known = np.asarray([row for rows in positives for row in rows], dtype=np.int64)
    if len(known) and known.min() < 0:
        raise WorkError(f"mine: positive document row {known.min()}, expected rows of 0 or more")
    referenced = [known, dense.rows_Qk] + ([] if lexical is None else [lexical.rows_Qk])
    highest = max(int(rows.max(initial=-1)) for rows in referenced)
    if highest >= len(duplicate_group_N):
        raise WorkError(
            f"mine: document row {highest} found, but duplicate_group_N covers {len(duplicate_group_N)} documents; "
            "build index and groups from the same corpus"
        )


Reason = Literal["own_document", "identical_to_positive", "duplicate_text"]
REASONS: tuple[Reason, ...] = ("own_document", "identical_to_positive", "duplicate_text")
EXAMPLES_PER_REASON = 5


class Example(NamedTuple):
    """One document that mining removed from one query's pool."""

    query_row: int
    document_row: int
    reason: str


@dataclass(frozen=True)
class MiningReport:
    """Counts over all queries.

    `removed`: documents taken out of the pools, by reason (own_document, identical_to_positive, duplicate_text).
    `lists_short`: lists with fewer than `keep` candidates, because the pool held no more.
    `positives`: known (query, document) pairs; `positives_found_in_*`: how many of them a retriever had in its top
    `depth`; `positives_left_out`: how many did not fit into `keep` - 1 places.
    """

    queries: int
    candidates: int
    mean_list_length: float
    removed: Mapping[str, int]
    lists_short: int
    positives: int
    positives_found_in_dense_top: int
    positives_found_in_lexical_top: int
    positives_left_out: int
    examples: tuple[Example, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {**asdict(self), "removed": dict(self.removed), "examples": [list(e) for e in self.examples]}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> MiningReport:
        """The inverse of `to_json`."""
        return MiningReport(**{**stored, "examples": tuple(Example(*e) for e in stored["examples"])})


@dataclass
class Tally:
    """Running counts while queries are mined; `report` closes it."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)

    def remove(self, reason: Reason, query_row: int, document_rows: NDArray[np.int64]) -> None:
        """Count documents removed for `reason`, keeping the first few as examples."""
        room = EXAMPLES_PER_REASON - self.counts[reason]
        self.counts[reason] += len(document_rows)
        self.examples += [Example(query_row, int(row), reason) for row in document_rows[: max(room, 0)]]

    def report(self, queries: int) -> MiningReport:
        """The finished report over `queries` queries."""
        counts = self.counts
        return MiningReport(
            queries=queries,
            candidates=counts["candidates"],
            mean_list_length=counts["candidates"] / queries if queries else 0.0,
            removed={reason: counts[reason] for reason in REASONS},
            lists_short=counts["lists_short"],
            positives=counts["positives"],
            positives_found_in_dense_top=counts["positives_in_dense"],
            positives_found_in_lexical_top=counts["positives_in_lexical"],
            positives_left_out=counts["positives_left_out"],
            examples=tuple(self.examples),
        )


def duplicate_groups(texts: Iterable[str]) -> NDArray[np.int64]:
    """Group number of each text, shape (N,): equal exactly if the texts agree up to runs of white space.

    Groups are numbered by first appearance. Only 16-byte digests are held, so a corpus may be streamed through.
    """
    digests_N = np.fromiter(map(content_digest, texts), dtype="S16")
    _, firsts_G, group_N = np.unique(digests_N, return_index=True, return_inverse=True)
    number_G = np.empty(len(firsts_G), dtype=np.int64)
    number_G[np.argsort(firsts_G)] = np.arange(len(firsts_G))
    return number_G[group_N]
