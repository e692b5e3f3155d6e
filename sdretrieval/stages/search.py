"""A split's queries searched: the student's best documents, BM25's, and runs made of them.

A query that was made from a document meets that document without its own words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sdretrieval.evaluation import Run as TrecRun
from sdretrieval.evaluation import run_from_hits
from sdretrieval.indexes.hits import Hits
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.ragged import Array
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.encode import Vectors
from sdretrieval.teachers.query_removed import QueryRemovedScores

SPARE = 1
"""Hits asked for beyond the depth, so that a query's own document can be removed without a gap."""


def dense_hits(collection: Collection, split: str, vectors: Vectors, index: VectorIndex, k: int) -> Hits:
    """The student's best k documents of each of a split's queries."""
    rows, k = collection.rows_of(split), min(k, len(collection.corpus.documents))
    hits = index.search(vectors.queries_QD[rows], k + SPARE)
    return _corrected(dense_query_removed(collection, split, vectors), rows, hits, k)


def lexical_hits(collection: Collection, split: str, lexical: LexicalIndex, k: int) -> Hits:
    """The same of BM25."""
    rows, k = collection.rows_of(split), min(k, len(collection.corpus.documents))
    hits = lexical.search(collection.corpus.query_texts(rows.tolist()), k + SPARE)
    masks = lexical_query_removed(collection, split, lexical).without_zeros()  # no shared word is no hit
    return _corrected(masks, rows, hits, k)


def _corrected(masks: QueryRemovedScores, rows: Array, hits: Hits, k: int) -> Hits:
    return masks.correct_hits(rows, hits, k) if masks.document else Hits(hits.rows_Qk[:, :k], hits.scores_Qk[:, :k])


def dense_run(collection: Collection, split: str, vectors: Vectors, index: VectorIndex, depth: int) -> TrecRun:
    """The student's run over a split."""
    return _run(collection, split, dense_hits(collection, split, vectors, index, depth + SPARE), depth)


def lexical_run(collection: Collection, split: str, lexical: LexicalIndex, depth: int) -> TrecRun:
    """BM25's run over a split."""
    return _run(collection, split, lexical_hits(collection, split, lexical, depth + SPARE), depth)


def lexical_norm(collection: Collection, split: str, lexical: LexicalIndex) -> dict[str, float]:
    """By query id, the unit of its BM25 scores."""
    rows = collection.rows_of(split).tolist()
    norm_Q = lexical.norm(collection.corpus.query_texts(rows))
    return dict(zip((collection.corpus.query_ids[row] for row in rows), norm_Q.tolist(), strict=True))


def _run(collection: Collection, split: str, hits: Hits, depth: int) -> TrecRun:
    corpus = collection.corpus
    ids = [corpus.query_ids[row] for row in collection.rows_of(split)]
    return cut(run_from_hits(ids, corpus.document_ids, *hits), depth)


def cut(run: TrecRun, depth: int) -> TrecRun:
    """The best `depth` documents of each query."""
    return {query: dict(sorted(hits.items(), key=lambda hit: (-hit[1], hit[0]))[:depth]) for query, hits in run.items()}


# --- scores of what is left of documents without the queries that were made from them, by each way of scoring


def dense_query_removed(collection: Collection, split: str, vectors: Vectors) -> QueryRemovedScores:
    """By vectors: the best window of each document without its query."""
    if vectors.query_removed is None:
        return QueryRemovedScores({}, {})
    windows, rows = vectors.query_removed.windows, collection.corpus.query_row
    scores = [
        float(
            np.max(vectors.query_removed.vectors_WD[windows[n] : windows[n + 1]] @ vectors.queries_QD[rows[one.query]])
        )
        for n, one in collection.query_removed_of(split)
    ]
    return _by_query(collection, split, scores)


def lexical_query_removed(collection: Collection, split: str, lexical: LexicalIndex) -> QueryRemovedScores:
    """By BM25."""
    return texts_query_removed(
        collection, split, lambda pairs: lexical.score_outside([q for q, _ in pairs], [text for _, text in pairs])
    )


def texts_query_removed(
    collection: Collection, split: str, score: Callable[[Sequence[tuple[str, str]]], Array]
) -> QueryRemovedScores:
    """By whatever scores pairs of texts."""
    documents = [one for _, one in collection.query_removed_of(split)]
    if not documents:
        return QueryRemovedScores({}, {})
    queries = collection.corpus.query_texts([collection.corpus.query_row[one.query] for one in documents])
    pairs = [(query, one.text) for query, one in zip(queries, documents, strict=True)]
    return _by_query(collection, split, score(pairs).tolist())


def _by_query(collection: Collection, split: str, scores: Sequence[float]) -> QueryRemovedScores:
    rows = [(collection.corpus.query_row[one.query], one.document_row) for _, one in collection.query_removed_of(split)]
    return QueryRemovedScores(dict(rows), dict(zip((query for query, _ in rows), scores, strict=True)))
