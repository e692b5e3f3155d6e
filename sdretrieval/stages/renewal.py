"""Which documents are encoded anew for a trained student, what leaving the others costs, and the card that says so.

What a list needs is encoded: every document that stands in one, and those that the movement of their cluster could have
brought into one. The others are carried the way that all documents went. Half a sample is held out until the end, and
says what was missed all the same.

Legend: N documents, S sampled documents, J of them held out, Q queries, C clusters, k documents of a list.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.config import Config
from sdretrieval.encode.mixed import MixedVectors
from sdretrieval.encode.movement import (
    Moved,
    best_carry,
    missed_share,
    movement,
    sample_size,
    stratified_sample,
    top_overlap,
)
from sdretrieval.evaluation import evaluate
from sdretrieval.indexes.clusters import clusters_of, last_scores, nearness
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.ragged import Array
from sdretrieval.stages.inputs import Prepared, Vectors
from sdretrieval.stages.prepare import judgements, known_positives
from sdretrieval.stages.search import SPARE, Unindexed, dense_run

FRESH_ENOUGH = 0.95
"""Auto leaves all documents as they are where sampled lists overlap so far, and dev hardly changes:"""
DEV_CHANGE = 0.001
"""most that the gate's measure on dev may change once dev's own documents are fresh. A gate decides over differences of
0.004 (docs/ABLATIONS.md): half of its tolerance, tried first, let an error of that size through."""
UNMOVED = 1e-6
"""1 - cosine of a vector that is the same up to rounding."""
PAYS = 0.8
"""Auto encodes everything where more than this share would be encoded anyway: exact vectors, for a quarter more."""
DEVIATIONS = 1.0
"""How many standard deviations of its cluster's change a document's score may need to enter a list, to be encoded."""
ROUNDS = 3
"""Of carrying, searching and encoding; after these, only documents that stand in a list are encoded."""
ROUNDING = 1e-5
DOCUMENTS_A_CLUSTER = 16
"""Sampled documents that a cluster's movement is judged by, on average."""
SAMPLED_TOP = 10
QUERIES_LOOKED_AT, FITTED_ON = 1_000, 20_000
DEV_DEPTHS = 2
"""Dev's lists are made right to twice the cut of the gate's measure."""

Decision = Literal["skip", "partial", "full"]
Rows = NDArray[np.int64]


class Looked(NamedTuple):
    """The sample: rows that the way of all is fitted on, rows held out to judge by; and every document's cluster."""

    cluster_N: NDArray[np.int64]
    fitted_S: Rows
    held_J: Rows


@dataclass
class Refresh:
    """The decisions over `mixed`, which holds old vectors to begin with. `new`: the new student's queries and masked
    documents. `lexical`: None where lists have no BM25 documents."""

    config: Config
    prepared: Prepared
    new: Vectors
    mixed: MixedVectors
    lexical: LexicalIndex | None
    dev: dict[str, float] = field(default_factory=dict)
    decision: Decision = "partial"
    why: str = "asked for"
    _last_held: Moved | None = None

    def run(self) -> dict[str, Any]:
        """Encode what the config's `index.refresh` asks for; the card."""
        self._note_dev("all_stale")
        if self.config.index.refresh == "auto" and self._is_fresh_enough():
            self.decision = "skip"
            self.dev = {"pools_fresh": self.dev["all_stale"], **self.dev, "lists_fresh": self.dev["all_stale"]}
            return self._card()
        self.mixed.renew(np.setdiff1d(np.union1d(self.looked.fitted_S, self.mixed.encoded), self.looked.held_J))
        if not self._renew_lists():
            self.decision = "full"
            self.mixed.renew(np.arange(self.count))
        self._note_dev("lists_fresh")
        self._renew_dev_pools()
        card = self._card()  # what was missed is estimated while half the sample is held out
        self.mixed.renew(self.looked.held_J)
        return card | {"exact": bool(self.mixed.fresh_N.all())}

    # --- what is looked at

    @property
    def count(self) -> int:
        """Number of documents."""
        return len(self.mixed.old_ND)

    @cached_property
    def looked(self) -> Looked:
        """A sample of documents, drawn cluster by cluster, and encoded."""
        size, seed = sample_size(self.count), self.config.seed
        cluster_N = clusters_of(self.mixed.old_ND, max(1, size // DOCUMENTS_A_CLUSTER), seed)
        rows_S = stratified_sample(cluster_N, size, seed)
        self.mixed.look(rows_S)
        by_cluster_S = rows_S[np.argsort(cluster_N[rows_S], kind="stable")]
        return Looked(cluster_N, np.sort(by_cluster_S[::2]), np.sort(by_cluster_S[1::2]))

    @cached_property
    def _moved_so_far(self) -> Moved:
        """How far all sampled documents moved from their old vectors."""
        rows = np.union1d(self.looked.fitted_S, self.looked.held_J)
        return self._movement(rows, np.asarray(self.mixed.old_ND[rows]))

    def _movement(self, rows: Rows, before_SD: Array) -> Moved:
        queries_QD = self.new.queries_QD[_some(self.train_rows, self.config.seed)]
        clusters, of_all = self.looked.cluster_N[rows], int(self.looked.cluster_N.max()) + 1
        return movement(before_SD, self.mixed.look(rows), queries_QD, clusters, of_all)

    @cached_property
    def _overlap(self) -> tuple[float, int]:
        """Of the training queries' lists among the sampled documents, by old vectors and by new; and their length."""
        rows = np.union1d(self.looked.fitted_S, self.looked.held_J)
        queries_QD = self.new.queries_QD[_some(self.train_rows, self.config.seed)]
        k = min(max(SAMPLED_TOP, round(self.config.mine.depth * len(rows) / self.count)), len(rows))
        old, new = np.asarray(self.mixed.old_ND[rows]), self.mixed.look(rows)
        return top_overlap(queries_QD @ old.T, queries_QD @ new.T, k), k

    @property
    def train_rows(self) -> Array:
        """Rows of the queries whose lists will be mined."""
        return self.prepared.train_rows

    @cached_property
    def dev_rows(self) -> Array:
        """Rows of the queries that the gate measures on."""
        return self.prepared.rows_of("dev")

    @property
    def _cut(self) -> int:
        return int(self.config.gate.measure.split("@")[1])

    def _depth(self, asked: int) -> int:
        return min(asked, self.count)

    def _note_dev(self, when: str) -> None:
        """The gate's measure on dev, by the vectors as they stand."""
        run = dense_run(self.prepared, "dev", self.new, Unindexed(self.mixed.vectors_ND), self.config.evaluate.depth)
        measure = self.config.gate.measure
        self.dev[when] = evaluate(judgements(self.prepared, "dev"), run, [measure]).mean(measure)

    # --- what is decided

    def _is_fresh_enough(self) -> bool:
        """Whether lists and dev would hardly change: then nothing is encoded, and the old index serves on."""
        overlap, _ = self._overlap
        if self._moved_so_far.distance_S.max() < UNMOVED:
            self.why = "no sampled document moved"
            return True
        self.why = f"sampled lists overlap by {overlap:.3f}"
        if overlap < FRESH_ENOUGH:
            self.why += f", less than {FRESH_ENOUGH:g}"
            return False
        self._renew_dev_pools(and_train=False)
        self.mixed.revert()
        cost = self.dev["pools_fresh"] - self.dev["all_stale"]
        self.why += f"; with dev's own documents fresh, {self.config.gate.measure} on dev changes by {cost:+.4f}"
        return abs(cost) <= DEV_CHANGE

    def _renew_lists(self) -> bool:
        """Encode what the training queries' lists need; False, and nothing encoded, where auto finds that too much."""
        rows, depth = self.train_rows, self._depth(self.config.mine.depth + SPARE)
        positives = known_positives(self.prepared, rows.tolist(), self.config.corpus.labels)
        extra = np.concatenate([self._found_lexically(rows, depth), *(np.asarray(one, np.int64) for one in positives)])
        if self.config.index.refresh == "auto":
            self._carry()
            needed = len(np.union1d(self._wanted(rows, depth, DEVIATIONS), extra)) / self.count
            self.why += f"; {needed:.0%} of the documents are needed"
            if needed > PAYS:
                return False
        self.mixed.renew(extra)
        for _ in range(ROUNDS):
            self._carry()
            self.mixed.renew(self._wanted(rows, depth, DEVIATIONS))
        self._close(rows, depth)
        return True

    def _renew_dev_pools(self, *, and_train: bool = True) -> None:
        """Encode what dev's lists need to twice the measure's cut: the gate must not judge by old vectors."""
        depth = self._depth(DEV_DEPTHS * self._cut)
        self.mixed.renew(self._found_lexically(self.dev_rows, depth))
        self.mixed.renew(self._wanted(self.dev_rows, depth, DEVIATIONS))
        lists = [(self.dev_rows, depth)]
        if and_train:
            lists.append((self.train_rows, self._depth(self.config.mine.depth + SPARE)))
        # A document that leaves one list makes room there: all are closed until none changes.
        while sum(self._close(rows, k) for rows, k in lists):
            pass
        self._note_dev("pools_fresh")

    def _close(self, query_rows: Array, depth: int) -> int:
        """Encode whatever stands in a list with an old vector, until nothing does; how many documents that were."""
        before = int(self.mixed.fresh_N.sum())
        while len(wanted := self._wanted(query_rows, depth)):
            self.mixed.renew(wanted)
        return int(self.mixed.fresh_N.sum()) - before

    def _carry(self) -> None:
        """Take the documents that are not encoded along, as far as those that are show the way."""
        fresh, held = np.flatnonzero(self.mixed.fresh_N), self.looked.held_J
        known = np.setdiff1d(_some(fresh, self.config.seed, FITTED_ON), held)
        old_ND, new_JD = self.mixed.old_ND, self.mixed.look(held)
        carry = best_carry(np.asarray(old_ND[known]), self.mixed.look(known), np.asarray(old_ND[held]), new_JD)
        self.mixed.carry(carry)

    def _wanted(self, query_rows: Array, depth: int, deviations: float | None = None) -> Rows:
        """Documents with old vectors that stand in a list, or, with `deviations`, within reach of one."""
        queries_QD, vectors_ND = self.new.queries_QD[query_rows], self.mixed.vectors_ND
        near_N = nearness(vectors_ND, queries_QD, last_scores(vectors_ND, queries_QD, depth)) + ROUNDING
        if deviations is not None:
            near_N = near_N + self._held_out().allowance_C(deviations)[self.looked.cluster_N]
        return np.flatnonzero((near_N >= 0) & ~self.mixed.fresh_N)

    def _held_out(self) -> Moved:
        """How far documents that were not encoded for their own sake are from where they were carried."""
        stale = self._still_held
        if not len(stale) and self._last_held is not None:
            return self._last_held  # those that are left cannot be judged by themselves
        rows = stale if len(stale) else self.looked.held_J
        self._last_held = self._movement(rows, np.asarray(self.mixed.vectors_ND[rows]))
        return self._last_held

    @property
    def _still_held(self) -> Rows:
        """The held-out documents that were not encoded for another reason."""
        return self.looked.held_J[~self.mixed.fresh_N[self.looked.held_J]]

    def _found_lexically(self, query_rows: Array, depth: int) -> Rows:
        """BM25's documents, which lists take in."""
        if self.lexical is None:
            return np.empty(0, dtype=np.int64)
        texts = self.prepared.corpus.query_texts(query_rows.tolist())
        found = self.lexical.search(texts, depth).rows_Qk
        return np.unique(found[found >= 0]).astype(np.int64)

    # --- what is said

    def _card(self) -> dict[str, Any]:
        looked, moved, left = self.looked, self._moved_so_far, self._held_out()
        knows = len(self._still_held) or self.mixed.fresh_N.all()  # of the documents that are not encoded
        encoded, overlap = len(self.mixed.encoded), self._overlap
        sizes_C = np.bincount(looked.cluster_N)
        return {
            "schema": 1,
            "asked": self.config.index.refresh,
            "decision": self.decision,
            "why": self.why,
            "exact": False,
            "documents": self.count,
            "documents_encoded": encoded,
            "share_encoded": round(encoded / self.count, 4),
            "sample": len(looked.fitted_S) + len(looked.held_J),
            "movement": {
                "mean": round(float(moved.distance_S.mean()), 6),
                "percentile_95": round(float(np.percentile(moved.distance_S, 95)), 6),
                "left": round(float(left.distance_S.mean()), 6) if knows else None,
            },
            "overlap": {
                "sampled": round(overlap[0], 4),
                "sampled_k": overlap[1],
                "lists": self._overlap_left(self.train_rows, self.config.mine.depth),
                "lists_k": self.config.mine.depth,
                "dev": self._overlap_left(self.dev_rows, self._cut),
                "dev_k": self._cut,
            },
            "dev": {
                "measure": self.config.gate.measure,
                **{when: self.dev[when] for when in ("all_stale", "lists_fresh", "pools_fresh")},
                "cost": self.dev["pools_fresh"] - self.dev["lists_fresh"],
            },
            "clusters": [self._cluster(number, int(size)) for number, size in enumerate(sizes_C)],
        }

    def _cluster(self, number: int, documents: int) -> dict[str, Any]:
        moved, left = self._moved_so_far, self._held_out()
        return {
            "documents": documents,
            "sampled": int(moved.sampled_C[number]),
            "movement": round(float(moved.distance_C[number]), 6),
            "score_shift": round(float(moved.shift_C[number]), 6),
            "score_spread": round(float(moved.spread_C[number]), 6),
            "score_spread_left": round(float(left.spread_C[number]), 6),
            "encoded": int(self.mixed.fresh_N[self.looked.cluster_N == number].sum()),
        }

    def _overlap_left(self, query_rows: Array, depth: int) -> float | None:
        """Estimated share of the queries' true lists that the vectors give; None where the sample cannot say.

        It cannot where nothing was encoded: old scores and new ones then have no common scale.
        """
        if self.decision == "skip":
            return None
        stale_N = ~self.mixed.fresh_N
        rows_J = self.looked.held_J[stale_N[self.looked.held_J]]
        if not stale_N.any() or not len(rows_J):
            return None if stale_N.any() else 1.0
        queries_QD, vectors_ND, depth = self.new.queries_QD[query_rows], self.mixed.vectors_ND, self._depth(depth)
        weight_J = _weights(self.looked.cluster_N[rows_J], self.looked.cluster_N[stale_N])
        last_Q = last_scores(vectors_ND, queries_QD, depth)
        before, now = np.asarray(vectors_ND[rows_J]), self.mixed.look(rows_J)
        return round(1 - missed_share(queries_QD @ before.T, queries_QD @ now.T, last_Q, weight_J, depth), 4)


def _some(rows: Array, seed: int, most: int = QUERIES_LOOKED_AT) -> Array:
    return np.sort(np.random.default_rng(seed).permutation(rows)[:most])


def _weights(cluster_S: Array, cluster_of_stale: Array) -> NDArray[np.float64]:
    """How many documents each sampled one stands for: those of its cluster, and its part of clusters without any."""
    size = int(max(cluster_S.max(), cluster_of_stale.max())) + 1
    sampled_C, stale_C = np.bincount(cluster_S, minlength=size), np.bincount(cluster_of_stale, minlength=size)
    weight_S = (stale_C / np.maximum(sampled_C, 1))[cluster_S]
    return np.asarray(weight_S * (len(cluster_of_stale) / weight_S.sum()), dtype=np.float64)
