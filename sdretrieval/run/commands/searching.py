"""`search`: one question to a run's final student, its base student, or an exported bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdretrieval.corpus import load_corpus
from sdretrieval.encode.encoder import encode_sequences
from sdretrieval.encode.tokens import tokenize
from sdretrieval.errors import RequestError
from sdretrieval.export.layout import is_bundle
from sdretrieval.export.searcher import Searcher, SearchHit
from sdretrieval.indexes import PADDING_ROW, VectorIndex
from sdretrieval.run.commands.serving import serving_of
from sdretrieval.store.run_folder import find_run

if TYPE_CHECKING:
    from sdretrieval.encode.student import Student
    from sdretrieval.ragged import Array


@dataclass(frozen=True)
class Answer:
    """What was found for a query, best first; scores are inner products (cosines of unit vectors)."""

    query: str
    searched: str
    student: str
    hits: list[SearchHit]

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        hits = [
            {"rank": hit.rank, "score": hit.score, "id": hit.document_id, "title": hit.title, "text": hit.text}
            for hit in self.hits
        ]
        return {"query": self.query, "searched": self.searched, "student": self.student, "hits": hits}


def search(where: str, query: str, k: int = 10, *, base: bool = False, runs: Path | None = None) -> Answer:
    """The best `k` documents for `query`, by a bundle or by a run's final student (`base`: the one it began with).

    Raises RequestError for an empty query, k below 1, no such run or bundle, or the base of a bundle, which has none.
    """
    if not query.strip():
        raise RequestError("the query is empty; expected at least one word")
    if k < 1:
        raise RequestError(f"-k {k}: expected at least 1")
    if not is_bundle(Path(where)):
        return _search_run(where, query, k, base, runs)
    if base:
        raise RequestError(f"--base: {where} is a bundle, which holds the final student alone; name the run instead")
    return Answer(query, where, "final", Searcher.open(Path(where)).search(query, k))


def _search_run(name: str, query: str, k: int, base: bool, runs: Path | None) -> Answer:
    serving = serving_of(find_run(name, runs))
    index = VectorIndex.load(serving.artifact("base_index" if base else "index"), serving.config().index.device)
    corpus = load_corpus(serving.corpus_folder())
    found = index.search(query_vector(serving.student(base), query), min(k, len(corpus.documents)))
    rows = [row for row in found.rows_Qk[0].tolist() if row != PADDING_ROW]
    table = corpus.documents.select(rows)
    columns = zip(table["id"], found.scores_Qk[0].tolist(), table["title"], table["text"], strict=False)
    return Answer(query, name, "base" if base else "final", [SearchHit(n, *hit) for n, hit in enumerate(columns, 1)])


def query_vector(student: Student, query: str) -> Array:
    """The query's vector, shape (1, D), with the student's prompt and query view."""
    specials = student.query_specials
    tokens = tokenize([query], student.model.tokenizer)[0]
    return encode_sequences(student.model, student.query_view.cut(tokens, specials)[:1], specials)
