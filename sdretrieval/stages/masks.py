"""Scores of what is left of documents without the queries that were made from them, by each way of scoring."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.ragged import Array
from sdretrieval.stages.inputs import Asking, Prepared
from sdretrieval.teachers.query_removed import Masks


def dense_masks(prepared: Prepared, split: str, vectors: Asking) -> Masks:
    """By vectors: the best window of each masked document."""
    if vectors.masked is None:
        return Masks({}, {})
    windows, rows = vectors.masked.windows, prepared.corpus.query_row
    return _masks(
        prepared,
        split,
        [
            float(np.max(vectors.masked.vectors_WD[windows[n] : windows[n + 1]] @ vectors.queries_QD[rows[one.query]]))
            for n, one in prepared.masked_of(split)
        ],
    )


def lexical_masks(prepared: Prepared, split: str, lexical: LexicalIndex) -> Masks:
    """By BM25."""
    return text_masks(
        prepared, split, lambda pairs: lexical.score_outside([q for q, _ in pairs], [text for _, text in pairs])
    )


def text_masks(prepared: Prepared, split: str, score: Callable[[Sequence[tuple[str, str]]], Array]) -> Masks:
    """By whoever scores pairs of texts."""
    masked = [one for _, one in prepared.masked_of(split)]
    if not masked:
        return Masks({}, {})
    queries = prepared.corpus.query_texts([prepared.corpus.query_row[one.query] for one in masked])
    return _masks(prepared, split, score([(q, one.text) for q, one in zip(queries, masked, strict=True)]).tolist())


def _masks(prepared: Prepared, split: str, scores: Sequence[float]) -> Masks:
    rows = [(prepared.corpus.query_row[one.query], one.document_row) for _, one in prepared.masked_of(split)]
    return Masks(dict(rows), dict(zip((query for query, _ in rows), scores, strict=True)))
