"""`search`: one question to a run's final student, its base student, or an exported bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdretrieval.corpus import load_corpus
from sdretrieval.encode.encoder import encode_sequences
from sdretrieval.encode.student import Student
from sdretrieval.encode.tokens import tokenize
from sdretrieval.errors import RequestError
from sdretrieval.indexes import PADDING_ROW, VectorIndex
from sdretrieval.ragged import Array
from sdretrieval.run.artifacts import find_run
from sdretrieval.run.commands.serving import serving_of


def search_run(name: str, query: str, k: int = 10, *, base: bool = False, runs: Path | None = None) -> dict[str, Any]:
    """The best `k` documents of a run's corpus for `query`, by its final student or (`base`) the one it began with.

    `hits`: rank, score (cosine), id, title, text. Raises RequestError for an empty query, k below 1, or no such run.
    """
    check_question(query, k)
    serving = serving_of(find_run(name, runs))
    index = VectorIndex.load(serving.artifact("base_index" if base else "index"), serving.config().index.device)
    corpus = load_corpus(serving.corpus_folder())
    found = index.search(query_vector(serving.student(base), query), min(k, len(corpus.documents)))
    rows = [row for row in found.rows_Qk[0].tolist() if row != PADDING_ROW]
    texts = corpus.documents.select(rows)
    columns = zip(found.scores_Qk[0].tolist(), texts["id"], texts["title"], texts["text"], strict=False)
    hits = [
        {"rank": rank, "score": score, "id": identifier, "title": title, "text": text}
        for rank, (score, identifier, title, text) in enumerate(columns, start=1)
    ]
    return {"query": query, "searched": name, "student": "base" if base else "final", "hits": hits}


def check_question(query: str, k: int) -> None:
    """Raise RequestError for a question that cannot be answered."""
    if not query.strip():
        raise RequestError("the query is empty: expected a text to search for")
    if k < 1:
        raise RequestError(f"-k {k}: expected at least 1")


def query_vector(student: Student, query: str) -> Array:
    """The query's vector, shape (1, D), with the student's prompt and query view."""
    tokens = tokenize([query], student.model.tokenizer)[0]
    specials = student.query_specials
    return encode_sequences(student.model, student.query_view.cut(tokens, specials)[:1], specials)
