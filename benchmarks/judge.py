"""One judge for the students of all sides."""

from __future__ import annotations

from sdretrieval.corpus import Corpus
from sdretrieval.encode.student import load_student
from sdretrieval.evaluation import evaluate, run_from_hits
from sdretrieval.indexes import exact_search

MEASURE = "nDCG@10"


def ndcg_by_query(model: str, corpus: Corpus, split: str, max_tokens: int) -> dict[str, float]:
    """nDCG@10 of each judged query, vectors in float32, searched exactly."""
    student = load_student(model, max_tokens=max_tokens, device="cpu")
    rows = corpus.split_rows(split)
    vectors_ND = student.model.encode(list(corpus.document_texts()), show_progress_bar=False)
    queries_QD = student.model.encode(corpus.query_texts(rows), show_progress_bar=False)
    hits = exact_search(vectors_ND, queries_QD, 100)
    run = run_from_hits([corpus.query_ids[row] for row in rows], corpus.document_ids, *hits)
    return dict(evaluate(corpus.qrels[split], run, [MEASURE]).of(MEASURE))


def mean(values: dict[str, float]) -> float:
    """Over the queries."""
    return sum(values.values()) / len(values)
