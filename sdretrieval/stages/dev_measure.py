"""The dev measure by which a training stops early."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sdretrieval.encode.encoder import Embeddings, encode_sequences
from sdretrieval.encode.student import Student
from sdretrieval.evaluation import evaluate, run_from_hits
from sdretrieval.indexes.exact import exact_search
from sdretrieval.indexes.hits import Hits
from sdretrieval.ragged import Array, Ragged
from sdretrieval.stages.training_inputs import TrainingData
from sdretrieval.teachers.query_removed import QueryRemovedScores

POOL_DOCUMENTS = 2000
"""Early stopping ranks dev queries in their positives and this many other documents: enough to see a turn, cheap."""


def dev_measure(data: TrainingData, student: Student) -> Callable[[], float]:
    corpus, rows = data.collection.corpus, data.collection.rows_of("dev")
    positives = {d for row in rows.tolist() for d in corpus.positives("dev", row)}
    generator = np.random.default_rng(data.config.seed)
    others = generator.permutation(len(corpus.documents))[:POOL_DOCUMENTS]
    pool = np.asarray(sorted(positives | set(others.tolist())), dtype=np.int64)
    sequences = [student.query_view.cut(data.tokens.queries[q], student.query_specials)[0] for q in rows]
    shown, left, sources = _dev_documents(data, student, pool)
    measure, qrels = data.config.gate.measure, data.collection.corpus.qrels["dev"]
    cut = int(measure.split("@")[1])

    def value() -> float:
        vectors, query_removed = shown(), left()
        queries = encode_sequences(student.model, sequences, student.query_specials)
        found = exact_search(vectors, queries, min(cut + 1, len(pool)))  # one more: a query_removed document may leave
        hits = Hits(np.where(found.rows_Qk < 0, -1, pool[found.rows_Qk]), found.scores_Qk)
        if sources:
            position = {row: q for q, row in enumerate(rows.tolist())}
            scores = {row: float(query_removed[n] @ queries[position[row]]) for n, row in enumerate(sources)}
            hits = QueryRemovedScores(sources, scores).correct_hits(rows, hits, cut)
        run = run_from_hits([corpus.query_ids[q] for q in rows], corpus.document_ids, *hits)
        student.model.train()
        return evaluate(qrels, run, [measure]).mean(measure)

    return value


def _dev_documents(
    data: TrainingData, student: Student, pool: Array
) -> tuple[Callable[[], Array], Callable[[], Array], dict[int, int]]:
    """What gives vectors of the `pool`, and of the documents that dev queries were made from, without these; and query
    row -> document row of the latter."""
    found = data.collection.query_removed_of("dev")
    sources = {data.collection.corpus.query_row[one.query]: one.document_row for _, one in found}
    positions = np.asarray([n for n, _ in found], dtype=np.int64)
    if data.documents is not None:
        kept = data.documents
        return lambda: _firsts(kept.documents, pool), lambda: _firsts(kept.query_removed, positions), sources

    def encoded(tokens: Ragged | None, rows: Array) -> Callable[[], Array]:
        specials = student.document_specials
        shown = [student.view.cut(tokens[row], specials)[0] for row in rows.tolist()] if tokens is not None else []
        return lambda: encode_sequences(student.model, shown, specials)

    return encoded(data.tokens.documents, pool), encoded(data.tokens.query_removed, positions), sources


def _firsts(vectors: Embeddings | None, rows: Array) -> Array:
    """The first window's vector of each text."""
    return np.asarray(vectors.vectors_WD[vectors.windows[rows]]) if vectors is not None else np.empty((0, 0))
