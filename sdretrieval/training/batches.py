"""From a few queries to one batch: their sampled candidates, each document once, the teacher's distribution over it.

Which query is visited when is one array for the whole training, so that a resumed run sees the same batches.

Legend: B queries of the batch, M distinct documents of the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sdretrieval.encode.batches import budget_batches, features_of, usual_batch_tokens
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.views import Specials, View
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Array, Ragged
from sdretrieval.targets.build import Targets

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from sdretrieval.teachers.protocols import HasVectors

PART_TOKENS = 2048
"""Documents of similar length share a forward pass of about this many tokens on a CPU: less padding than one pass for
all, and activations that stay in its caches. A GPU takes `usual_batch_tokens`."""
QUERY_PART_TOKENS = 512
"""The same of queries if they alone are encoded: most are short, and few are as long as the longest."""


@dataclass(frozen=True)
class Side:
    """Texts of one side: content token ids by row, the view, and the special tokens around a window."""

    tokens: Ragged
    view: View
    specials: Specials

    def sequence(self, row: int) -> Array:
        """What the student sees of the text in `row`."""
        return self.view.cut(self.tokens[row], self.specials)[0]


@dataclass(frozen=True)
class KnownRelevance:
    """What is known of the training queries beyond their lists, by list position: a batch brings other lists'
    documents to a query, and these must not be taken for its negatives.

    `positives`: document rows. `refused`: those that a person found not relevant, which no rule suspects.
    `own_document_Q`: row of the document with the query's own id, -1 if there is none: it is never retrieved, so it is
    left out altogether. `duplicate_group_N`: equal if two documents' texts are.
    """

    positives: Ragged
    refused: Ragged
    own_document_Q: Array
    duplicate_group_N: Array

    def of(self, position: int, rows_M: Array) -> tuple[Array, Array, Array]:
        """Which of `rows_M` are a positive, a copy of one, and the query's own document: three bool (M,)."""
        positives = self.positives[position]
        positive_M = np.isin(rows_M, positives)
        copy_M = np.isin(self.duplicate_group_N[rows_M], self.duplicate_group_N[positives]) & ~positive_M
        return positive_M, copy_M, rows_M == self.own_document_Q[position]


@dataclass(frozen=True)
class QueryRemoved:
    """Documents that are shown with the query removed that was taken from them: a title would give all away.

    `by_query`: query row -> (document row, row in `tokens`).
    """

    tokens: Ragged
    by_query: Mapping[int, tuple[int, int]]

    def rows_of(self, query_rows_B: Array) -> dict[int, int]:
        """Document row -> row in `tokens`, for a batch of queries. If two queries of a batch were taken from one
        document, the later one is removed."""
        return dict(self.by_query[row] for row in query_rows_B.tolist() if row in self.by_query)


@dataclass(frozen=True)
class StoredVectors:
    """The base student's vectors, which a batch brings in place of model inputs.

    `documents`: by document row, the first window of each. `query_removed`: by row of `QueryRemoved.tokens`.
    `queries_QD`: by query row, if an adapter learns, which reads vectors; None if the query encoder learns.
    """

    documents: Embeddings
    query_removed: Embeddings | None = None
    queries_QD: Array | None = None

    def of(self, rows_M: Array, query_removed: Mapping[int, int]) -> Array:
        """float32 (M, D); `query_removed`: document row -> row of its vector with the query removed."""
        vectors_MD = np.array(self.documents.vectors_WD[self.documents.windows[rows_M]])
        for column, row in enumerate(rows_M.tolist()):
            if self.query_removed is not None and row in query_removed:
                vectors_MD[column] = self.query_removed.vectors_WD[self.query_removed.windows[query_removed[row]]]
        return vectors_MD


BatchHalf = Callable[[Array, Array, Mapping[int, int]], Array]
"""(query rows of a batch, its document rows, document row -> row of its text with the query removed) -> float32 (B, M).
"""


@dataclass
class Collator:
    """Collates visits (position, visit) into model features and targets.

    `score_batch`, if given, scores every query against every document of the batch (free teachers): the target spans
    the whole batch. Otherwise a query's target spans its own sampled list and all other documents are excluded.
    `judge_batch`, if given, takes its place where the false-negative rule judges documents that other lists brought.
    `vectors`, if given, brings the teacher's vectors, in the student's dimensions, of all texts of the batch.
    `stored`, if given, brings the documents' own vectors: no document is shown to the model.
    `half`, if given, brings what the student's lexical half adds to each score.
    """

    model: SentenceTransformer
    queries: Side
    documents: Side
    candidates: Candidates
    targets: Targets
    candidates_per_query: int
    seed: int
    score_batch: Callable[[Array, Array], Array] | None = None
    judge_batch: Callable[[Array, Array], Array] | None = None
    known: KnownRelevance | None = None
    query_removed: QueryRemoved | None = None
    vectors: HasVectors | None = None
    stored: StoredVectors | None = None
    half: BatchHalf | None = None
    valid_label_columns: list[str] = field(default_factory=lambda: ["label"])

    def __len__(self) -> int:
        """Training queries."""
        return len(self.candidates)

    def __call__(self, visits: Sequence[dict[str, int]]) -> dict[str, Any]:
        """One batch: query_* and document0_*, document1_* ... features, and `label`, a dictionary of tensors.

        With `stored` vectors there are query0_*, query1_* ... instead, the visits ordered by their queries' length,
        and the label `documents_MD`; if those of queries are stored too, query_* and document0_* are vectors.
        """
        import torch

        if self.stored is not None and self.stored.queries_QD is None:
            visits = sorted(visits, key=lambda visit: -len(self._query_ids(visit["position"])))
        positions_B = np.asarray([visit["position"] for visit in visits], dtype=np.int64)
        query_rows_B = self.candidates.query_rows_Q[positions_B]
        sampled = []
        for position, row, visit in zip(positions_B, query_rows_B, visits, strict=True):
            positives = np.flatnonzero(self.candidates.positive[position])
            key = (self.seed, int(row), visit["visit"])
            length = len(self.candidates.rows[position])
            sampled.append(sampled_entries(length, self.candidates_per_query, positives, key))
        chosen = [self.candidates.rows[p][entries] for p, entries in zip(positions_B, sampled, strict=True)]
        # Lists may all be empty; a batch must hold a document: any one, excluded everywhere.
        rows_M = np.unique(np.concatenate(chosen)) if any(map(len, chosen)) else np.zeros(1, dtype=np.int64)
        batch: dict[str, Any] = {}
        label = {
            **self._add_features(batch, positions_B, rows_M),
            "queries_B": query_rows_B,
            "positions_B": positions_B,
            "weight_B": self.targets.weight_Q[positions_B],
            **self._by_query(positions_B, sampled, rows_M),
        }
        if self.half is not None:
            label["half_BM"] = self.half(query_rows_B, rows_M, self._query_removed(positions_B))
        if self.vectors is not None:
            label["teacher_queries_BD"] = self.vectors.query_vectors(query_rows_B)
            label["teacher_documents_MD"] = self.vectors.document_vectors(rows_M)
        return {**batch, "label": {name: torch.from_numpy(values) for name, values in label.items()}}

    def _by_query(self, positions_B: Array, sampled: list[Array], rows_M: Array) -> dict[str, Array]:
        shape = (len(positions_B), len(rows_M))
        scores_BM: Array = np.full(shape, -np.inf, dtype=np.float32)
        left_out_BM = np.zeros(shape, dtype=bool)
        matrix_BM = self.score_batch(positions_B, rows_M) if self.score_batch is not None else None
        judged_BM = matrix_BM if self.judge_batch is None else self.judge_batch(positions_B, rows_M)
        positive_BM, negative_BM = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
        if judged_BM is not None:  # of a list's own documents the targets know already
            negative_BM = ~self.targets.suspicion.of(positions_B, judged_BM)
        for b, (position, entries) in enumerate(zip(positions_B, sampled, strict=True)):
            rows, positive = self.candidates.rows[position], self.candidates.positive[position]
            log_probs = self.targets.log_probs[position]
            # Rows of the batch ascend, so that a list's documents find their columns by bisection.
            scores_BM[b, np.searchsorted(rows_M, rows[entries])] = log_probs[entries]
            # What is known of a list's own documents holds also for those that another query brought to the batch.
            present = np.isin(rows, rows_M)
            columns = np.searchsorted(rows_M, rows[present])
            left_out_BM[b, columns] = np.isneginf(log_probs[present])
            positive_BM[b, columns] = positive[present]
            if self.known is not None:
                negative_BM[b] |= np.isin(rows_M, self.known.refused[position])
            negative_BM[b, columns] = self.targets.hard_negative[position][present]
            if self.known is not None:
                known_M, copy_M, own_M = self.known.of(position, rows_M)
                positive_BM[b] = (positive_BM[b] | known_M) & ~own_M
                negative_BM[b] &= ~(copy_M | own_M)
                left_out_BM[b] |= own_M
        if matrix_BM is not None:
            scores_BM = np.where(left_out_BM, np.float32(-np.inf), matrix_BM / np.float32(self.targets.temperature))
        # Row-wise log-softmax, which renormalises a sampled list over what was sampled. -inf stays -inf, also if a
        # whole row is: the maximum and the sum of such a row are replaced, so that no NaN comes of -inf - -inf.
        best_B1 = scores_BM.max(axis=1, keepdims=True)
        shifted_BM = scores_BM.astype(np.float64) - np.where(np.isneginf(best_B1), 0.0, best_B1)
        total_B1 = np.exp(shifted_BM).sum(axis=1, keepdims=True)
        log_probs_BM = shifted_BM - np.log(np.where(total_B1 > 0, total_B1, 1.0))
        return {
            "target_log_probs_BM": np.asarray(log_probs_BM, dtype=np.float32),
            "positive_BM": positive_BM,
            "negative_BM": negative_BM & ~positive_BM,
        }

    def _add_features(self, batch: dict[str, Any], positions_B: Array, rows_M: Array) -> dict[str, Array]:
        """Adds the model's inputs to `batch`: of queries and documents, or, with stored vectors, of queries alone.

        Texts of similar length share a part. Returns the labels that belong to them: `order_M` puts the parts'
        documents back in column order, `documents_MD` holds stored vectors.
        """
        import torch

        query_removed = self._query_removed(positions_B)
        if self.stored is not None and self.stored.queries_QD is not None:
            sides = {
                "query": self.stored.queries_QD[self.candidates.query_rows_Q[positions_B]],
                "document0": self.stored.of(rows_M, query_removed),
            }
            batch.update({f"{side}_sentence_embedding": torch.from_numpy(some) for side, some in sides.items()})
            return {"order_M": np.arange(len(rows_M))}
        queries = [self._query_ids(position) for position in positions_B]
        device = self.model.device.type
        gpu_tokens = None if device == "cpu" else usual_batch_tokens(device)
        if self.stored is not None:
            parts = budget_batches([len(ids) for ids in queries], gpu_tokens or QUERY_PART_TOKENS)
            for number, part in enumerate(parts):
                self._add(batch, f"query{number}", [queries[i] for i in part], self.queries.specials)
            return {"order_M": np.arange(len(rows_M)), "documents_MD": self.stored.of(rows_M, query_removed)}
        self._add(batch, "query", queries, self.queries.specials)
        shortened = (
            self.documents if self.query_removed is None else replace(self.documents, tokens=self.query_removed.tokens)
        )
        documents = [
            shortened.sequence(query_removed[row]) if row in query_removed else self.documents.sequence(row)
            for row in rows_M.tolist()
        ]
        shown = list(budget_batches([len(ids) for ids in documents], gpu_tokens or PART_TOKENS))
        for number, part in enumerate(shown):
            self._add(batch, f"document{number}", [documents[i] for i in part], self.documents.specials)
        return {"order_M": np.argsort(np.concatenate(shown))}

    def _query_removed(self, positions_B: Array) -> dict[int, int]:
        """Document row -> row of its text with the query removed."""
        rows_B = self.candidates.query_rows_Q[positions_B]
        return self.query_removed.rows_of(rows_B) if self.query_removed is not None else {}

    def _query_ids(self, position: int) -> Array:
        return self.queries.sequence(int(self.candidates.query_rows_Q[position]))

    def _add(self, batch: dict[str, Any], side: str, sequences: Sequence[Array], specials: Specials) -> None:
        features = features_of(self.model, sequences, specials)
        batch.update({f"{side}_{name}": value for name, value in features.items()})


def count_updates(queries: int, epochs: float, queries_per_update: int) -> int:
    """Optimiser updates of a training: at least one."""
    return max(1, math.ceil(queries * epochs / queries_per_update - 1e-9))


def visiting_order(queries: int, visits: int, seed: int) -> tuple[Array, Array]:
    """(position, visit number) of each visit, each of shape (visits,): a fresh permutation for every pass."""
    passes = -(-visits // queries)
    generator = np.random.default_rng([seed, queries])
    positions = np.concatenate([generator.permutation(queries) for _ in range(passes)])[:visits]
    return positions, np.repeat(np.arange(passes), queries)[:visits]


def sampled_entries(length: int, wanted: int, positives: Array, key: tuple[int, int, int]) -> Array:
    """`wanted` entries of a list: its positives, half of the rest from the front, half sampled behind.

    One place at least is for another document, if the list has one: a query with many positives brings others of
    them at each visit. Deterministic in `key` = (seed, query, visit). Returned in list order.
    """
    if length <= wanted:
        return np.arange(length)
    chance = np.random.default_rng(key)
    others = np.setdiff1d(np.arange(length), positives)
    most = max(wanted - min(len(others), 1), 1)
    kept = positives if len(positives) <= most else chance.choice(positives, size=most, replace=False)
    room = min(wanted - len(kept), len(others))
    front = others[: -(-room // 2)]
    behind = np.setdiff1d(others, front)
    sample = chance.choice(behind, size=room - len(front), replace=False)
    return np.sort(np.concatenate([kept, front, sample]).astype(np.int64))
