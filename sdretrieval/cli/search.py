"""`search`: one query to a run's final student, its base student, or an exported bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdretrieval.cli.lookup import Serving
from sdretrieval.cli.options import Json, Runs
from sdretrieval.cli.output import excerpt, print_json, print_table, stdout_kept_clean
from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.formatting import encodable
from sdretrieval.store.run_folder import find_run

if TYPE_CHECKING:
    from sdretrieval.encode.student import Student
    from sdretrieval.export.searcher import SearchHit
    from sdretrieval.ragged import Array

EXCERPT = 160
"""Characters of a hit's text that the table shows."""


def search_command(
    where: Annotated[
        str, typer.Argument(metavar="RUN_OR_BUNDLE", help="a run's name or folder, or an exported folder")
    ],
    query: Annotated[str, typer.Argument(metavar="QUERY", help="what to search for")],
    k: Annotated[int, typer.Option("-k", help="how many documents")] = 10,
    base: Annotated[
        bool, typer.Option("--base", help="search with the run's base student, to see what changed")
    ] = False,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Search a run's corpus, or a bundle, with one query."""
    with stdout_kept_clean():
        answer = search(where, query, k, base=base, runs=runs)
    if as_json:
        print_json(answer.to_json())
        return
    rows = [
        [str(hit.rank), f"{hit.score:.3f}", hit.document_id,
         excerpt(f"{hit.title}: {hit.text}".removeprefix(": "), EXCERPT)]
        for hit in answer.hits
    ]  # fmt: skip
    print_table(["", "score", "id", f"{answer.student} student: {query}"], rows, right=["", "score"])


@dataclass(frozen=True)
class Answer:
    """The hits for a query, best first; scores are inner products (cosines of unit vectors)."""

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

    Raises RequestError for an empty query, k below 1, no such run or bundle, a bundle that was changed, or the base of
    a bundle, which has none.
    """
    from sdretrieval.corpus import load_corpus
    from sdretrieval.export.layout import IDS, MANIFEST
    from sdretrieval.export.searcher import Searcher, SearchHit
    from sdretrieval.indexes import PADDING_ROW, VectorIndex

    query = encodable(query)
    if not query.strip():
        raise RequestError("the query is empty; expected at least one word")
    if k < 1:
        raise RequestError(f"-k {k}: expected at least 1")
    if any((Path(where) / file).is_file() for file in (MANIFEST, IDS)):  # whatever became of the rest
        if base:
            raise RequestError(
                f"--base: {where} is a bundle, which holds the final student alone; name the run instead"
            )
        try:
            return Answer(query, where, "final", Searcher.open(Path(where)).search(query, k))
        except DamagedArtifact as damage:  # nothing of ours to make again: another folder must be named
            raise RequestError(str(damage)) from damage
    serving = Serving.of(find_run(where, runs))
    index = VectorIndex.load(serving.artifact("base_index" if base else "index"), serving.config.index.device)
    corpus = load_corpus(serving.corpus_folder())
    hits = index.search(query_vector(serving.student(base), query), min(k, len(corpus.documents)))
    table = corpus.documents.select([row for row in hits.rows_Qk[0].tolist() if row != PADDING_ROW])
    columns = zip(table["id"], hits.scores_Qk[0].tolist(), table["title"], table["text"], strict=False)
    return Answer(query, where, "base" if base else "final", [SearchHit(n, *hit) for n, hit in enumerate(columns, 1)])


def query_vector(student: Student, query: str) -> Array:
    """The query's vector, shape (1, D), with the student's prompt and query view."""
    from sdretrieval.encode.encoder import encode_sequences
    from sdretrieval.encode.tokens import tokenize

    specials = student.query_specials
    tokens = tokenize([query], student.model.tokenizer)[0]
    return encode_sequences(student.model, student.query_view.cut(tokens, specials)[:1], specials)
