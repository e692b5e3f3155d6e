"""From a few queries to one batch: their sampled candidates, each document once, the teacher's distribution over it.

Legend: B queries of the batch, M distinct documents of the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.views import Specials, View
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Array, Ragged
from sdretrieval.targets.build import Targets
from sdretrieval.training.schedule import sampled_entries

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from sdretrieval.teachers.protocols import HasVectors

PART_TOKENS = 2048
"""Documents of similar length share a forward pass of about this many tokens: less padding than one pass for all."""
QUERY_PART_TOKENS = 512
"""The same of queries where they alone are encoded: most are short, and few are as long as the longest."""


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
class Known:
    """What is known of the training queries beyond their lists, by list position: a batch brings other lists'
    documents to a query, and these must not be taken for its negatives.

    `positives`: document rows. `own_document_Q`: row of the document with the query's own id, -1 if there is none: it
    is never retrieved, so it is left out altogether. `duplicate_group_N`: equal where two documents' texts are.
    """

    positives: Ragged
    own_document_Q: Array
    duplicate_group_N: Array

    def of(self, position: int, rows_M: Array) -> tuple[Array, Array, Array]:
        """Which of `rows_M` are a positive, a copy of one, and the query's own document: three bool (M,)."""
        positives = self.positives[position]
        positive_M = np.isin(rows_M, positives)
        copy_M = np.isin(self.duplicate_group_N[rows_M], self.duplicate_group_N[positives]) & ~positive_M
        return positive_M, copy_M, rows_M == self.own_document_Q[position]


@dataclass(frozen=True)
class Hidden:
    """Documents that are shown without the words of the query that was made from them: a title would tell all.

    `by_query`: query row -> (document row, row in `tokens`).
    """

    tokens: Ragged
    by_query: Mapping[int, tuple[int, int]]

    def rows_of(self, query_rows_B: Array) -> dict[int, int]:
        """Document row -> row in `tokens`, for a batch of queries. Where two queries of a batch were made from one
        document, the words of the later one are hidden."""
        return dict(self.by_query[row] for row in query_rows_B.tolist() if row in self.by_query)


@dataclass(frozen=True)
class StoredVectors:
    """Documents' vectors that stay as they are, so that a batch brings them in place of model inputs.

    `documents`: by document row, the first window of each. `hidden`: by row of `Hidden.tokens`.
    """

    documents: Embeddings
    hidden: Embeddings | None = None

    def of(self, rows_M: Array, hidden: Mapping[int, int]) -> Array:
        """float32 (M, D); `hidden`: document row -> row of its vector without a query's words."""
        vectors_MD = np.array(self.documents.vectors_WD[self.documents.windows[rows_M]])
        for column, row in enumerate(rows_M.tolist()):
            if self.hidden is not None and row in hidden:
                vectors_MD[column] = self.hidden.vectors_WD[self.hidden.windows[hidden[row]]]
        return vectors_MD


@dataclass
class BatchMaker:
    """Collates visits (position, visit) into model features and targets.

    `judge`, where given, scores every query against every document of the batch (free teachers): the target spans the
    whole batch. Otherwise a query's target spans its own sampled list and all other documents are excluded.
    `vectors`, where given, brings the teacher's vectors, in the student's dimensions, of all texts of the batch.
    `stored`, where given, brings the documents' own vectors: no document is shown to the model.
    """

    model: SentenceTransformer
    queries: Side
    documents: Side
    candidates: Candidates
    targets: Targets
    candidates_per_query: int
    seed: int
    judge: Callable[[Array, Array], Array] | None = None
    known: Known | None = None
    hidden: Hidden | None = None
    vectors: HasVectors | None = None
    stored: StoredVectors | None = None
    valid_label_columns: list[str] = field(default_factory=lambda: ["label"])

    def __call__(self, visits: Sequence[dict[str, int]]) -> dict[str, Any]:
        """One batch: query_* and document0_*, document1_* ... features, and `label`, a dictionary of tensors.

        With `stored` vectors there are query0_*, query1_* ... instead, the visits ordered by their queries' length,
        and the label `documents_MD`.
        """
        import torch

        if self.stored is not None:
            visits = sorted(visits, key=lambda visit: -len(self._asked(visit["position"])))
        positions_B = np.asarray([visit["position"] for visit in visits], dtype=np.int64)
        sampled = [self._sample(visit["position"], visit["visit"]) for visit in visits]
        chosen = [self.candidates.rows[p][entries] for p, entries in zip(positions_B, sampled, strict=True)]
        # Lists may all be empty; a batch must hold a document: any one, excluded everywhere.
        rows_M = np.unique(np.concatenate(chosen)) if any(map(len, chosen)) else np.zeros(1, dtype=np.int64)
        masks = self._masks(positions_B, sampled, rows_M)
        batch: dict[str, Any] = {}
        features = self._features if self.stored is None else self._query_features
        shown = features(batch, positions_B, rows_M)
        labels = {
            **{name: torch.from_numpy(values) for name, values in shown.items()},
            "queries_B": torch.from_numpy(self.candidates.query_rows_Q[positions_B]),
            "positions_B": torch.from_numpy(positions_B),
            "weight_B": torch.from_numpy(self.targets.weight_Q[positions_B]),
            **{name: torch.from_numpy(mask) for name, mask in masks.items()},
        }
        if self.vectors is not None:
            query_rows_B = self.candidates.query_rows_Q[positions_B]
            labels["teacher_queries_BD"] = torch.from_numpy(self.vectors.query_vectors(query_rows_B))
            labels["teacher_documents_MD"] = torch.from_numpy(self.vectors.document_vectors(rows_M))
        return {**batch, "label": labels}

    def _sample(self, position: int, visit: int) -> Array:
        positives = np.flatnonzero(self.candidates.positive[position])
        key = (self.seed, int(self.candidates.query_rows_Q[position]), visit)
        length = len(self.candidates.rows[position])
        return sampled_entries(length, self.candidates_per_query, positives, key)

    def _masks(self, positions_B: Array, sampled: list[Array], rows_M: Array) -> dict[str, Array]:
        shape = (len(positions_B), len(rows_M))
        scores_BM: Array = np.full(shape, -np.inf, dtype=np.float32)
        left_out_BM = np.zeros(shape, dtype=bool)
        positive_BM, negative_BM = np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)
        for b, (position, entries) in enumerate(zip(positions_B, sampled, strict=True)):
            rows, positive = self.candidates.rows[position], self.candidates.positive[position]
            log_probs = self.targets.log_probs[position]
            scores_BM[b, np.searchsorted(rows_M, rows[entries])] = log_probs[entries]
            present = np.isin(rows, rows_M)
            columns = np.searchsorted(rows_M, rows[present])
            left_out_BM[b, columns] = np.isneginf(log_probs[present])
            positive_BM[b, columns] = positive[present]
            negative_BM[b, columns] = self.targets.hard_negative[position][present]
            if self.known is not None:
                known_M, copy_M, own_M = self.known.of(position, rows_M)
                positive_BM[b] = (positive_BM[b] | known_M) & ~own_M
                negative_BM[b] &= ~(copy_M | own_M)
                left_out_BM[b] |= own_M
        if self.judge is not None:
            judged_BM = self.judge(positions_B, rows_M) / np.float32(self.targets.temperature)
            scores_BM = np.where(left_out_BM, np.float32(-np.inf), judged_BM)
        return {
            "target_log_probs_BM": _log_softmax(scores_BM),
            "positive_BM": positive_BM,
            "negative_BM": negative_BM & ~positive_BM,
        }

    def _asked(self, position: int) -> Array:
        return self.queries.sequence(int(self.candidates.query_rows_Q[position]))

    def _query_features(self, batch: dict[str, Any], positions_B: Array, rows_M: Array) -> dict[str, Array]:
        """Adds those of queries, which come longest first, in parts; the documents' vectors."""
        from sdretrieval.encode.batches import budget_batches

        assert self.stored is not None
        asked = [self._asked(position) for position in positions_B]
        for number, part in enumerate(budget_batches([len(ids) for ids in asked], QUERY_PART_TOKENS)):
            self._add(batch, f"query{number}", [asked[i] for i in part], self.queries.specials)
        return {"order_M": np.arange(len(rows_M)), "documents_MD": self.stored.of(rows_M, self._hidden_in(positions_B))}

    def _features(self, batch: dict[str, Any], positions_B: Array, rows_M: Array) -> dict[str, Array]:
        """Adds those of both sides, documents in parts of similar length; what puts these back in column order."""
        from sdretrieval.encode.batches import budget_batches

        self._add(batch, "query", [self._asked(position) for position in positions_B], self.queries.specials)
        shown = self._shown(positions_B, rows_M)
        parts = list(budget_batches([len(ids) for ids in shown], PART_TOKENS))
        for number, part in enumerate(parts):
            self._add(batch, f"document{number}", [shown[i] for i in part], self.documents.specials)
        return {"order_M": np.argsort(np.concatenate(parts))}

    def _hidden_in(self, positions_B: Array) -> dict[int, int]:
        return {} if self.hidden is None else self.hidden.rows_of(self.candidates.query_rows_Q[positions_B])

    def _shown(self, positions_B: Array, rows_M: Array) -> list[Array]:
        documents, hidden = self.documents, self._hidden_in(positions_B)
        return [
            documents.view.cut(self.hidden.tokens[hidden[row]], documents.specials)[0]
            if self.hidden is not None and row in hidden
            else documents.sequence(row)
            for row in rows_M.tolist()
        ]

    def _add(self, batch: dict[str, Any], side: str, sequences: Sequence[Array], specials: Specials) -> None:
        from sdretrieval.encode.batches import features_of

        features = features_of(self.model, sequences, specials)
        batch.update({f"{side}_{name}": value for name, value in features.items()})


def _log_softmax(scores_BM: Array) -> Array:
    """Row-wise, -inf stays -inf, also where the whole row is; a sampled list is renormalised over what was sampled."""
    best_B1 = scores_BM.max(axis=1, keepdims=True)
    shifted_BM = scores_BM.astype(np.float64) - np.where(np.isneginf(best_B1), 0.0, best_B1)
    total_B1 = np.exp(shifted_BM).sum(axis=1, keepdims=True)
    return np.asarray(shifted_BM - np.log(np.where(total_B1 > 0, total_B1, 1.0)), dtype=np.float32)
