"""`search`: one query to a run's final student, its base student, or an exported bundle."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdretrieval.cli.lookup import Serving
from sdretrieval.cli.options import Json, Runs
from sdretrieval.cli.output import excerpt, print_json, print_table, say, stdout_kept_clean
from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.formatting import encodable
from sdretrieval.store.run_folder import find_run

if TYPE_CHECKING:
    from sdretrieval.encode.student import Student
    from sdretrieval.export.searcher import SearchHit
    from sdretrieval.indexes.probability import Probabilities
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
    min_probability: Annotated[
        float | None,
        typer.Option("--min-probability", metavar="P", help="show only hits that are relevant at least so probably"),
    ] = None,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Search a run's corpus, or a bundle, with one query."""
    with stdout_kept_clean():
        answer = search(where, query, k, base=base, min_probability=min_probability, runs=runs)
    if as_json:
        print_json(answer.to_json())
        return
    if answer.best is not None and min_probability is not None and not answer.hits:
        say(f"no good answer: the best of {k} hits has probability {answer.best:.2f}, below {min_probability:g}")
        return
    rows = [
        [str(hit.rank), f"{hit.score:.3f}", "" if hit.probability is None else f"{hit.probability:.2f}",
         hit.document_id, excerpt(f"{hit.title}: {hit.text}".removeprefix(": "), EXCERPT)]
        for hit in answer.hits
    ]  # fmt: skip
    columns = ["", "score", "probability", "id", f"{answer.student} student: {query}"]
    if answer.best is None:  # nobody knows
        columns, rows = [one for one in columns if one != "probability"], [[*row[:2], *row[3:]] for row in rows]
    print_table(columns, rows, right=["", "score", "probability"])
    if answer.note:
        say("", answer.note)


@dataclass(frozen=True)
class Answer:
    """The hits for a query, best first; scores are inner products (cosines of unit vectors).

    `best`: the highest probability among the best k, shown or not; None if nobody knows. `note`: what to think of
    probabilities.
    """

    query: str
    searched: str
    student: str
    hits: list[SearchHit]
    best: float | None = None
    note: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain dictionaries, lists, strings and numbers."""
        hits = [
            {"rank": hit.rank, "score": hit.score, "probability": hit.probability, "id": hit.document_id,
             "title": hit.title, "text": hit.text}
            for hit in self.hits
        ]  # fmt: skip
        record = {"query": self.query, "searched": self.searched, "student": self.student}
        return {**record, "best_probability": self.best, "hits": hits}


def search(
    where: str, query: str, k: int = 10, *, base: bool = False, min_probability: float | None = None,
    runs: Path | None = None,
) -> Answer:  # fmt: skip
    """The best `k` documents for `query`, by a bundle or by a run's final student (`base`: the one it began with).

    `min_probability`: of these, only the hits that are relevant at least so probably. Raises RequestError for an empty
    query, k below 1, no such run or bundle, a bundle that was changed, the base of a bundle, which has none, or a
    `min_probability` that is none, or that nobody can tell.
    """
    if min_probability is not None and not 0 <= min_probability <= 1:
        raise RequestError(f"--min-probability {min_probability:g}: expected 0 to 1")
    if min_probability is not None and base:
        raise RequestError("--min-probability: probabilities are of the final student; leave out --base")
    hits, probabilities = _hits(where, query, k, base, runs)
    answer = Answer(encodable(query), where, "base" if base else "final", hits)
    if probabilities is None:
        if min_probability is not None:
            raise RequestError(f"--min-probability: {where} was exported without probabilities")
        return answer
    best = max((hit.probability or 0.0 for hit in hits), default=0.0)
    shown = [hit for hit in hits if (hit.probability or 0.0) >= (min_probability or 0.0)]
    note = "probabilities are estimates: no judged dev queries to fit them on" if probabilities.estimate else ""
    return replace(answer, hits=shown, best=best, note=note)


def _hits(
    where: str, query: str, k: int, base: bool, runs: Path | None
) -> tuple[list[SearchHit], Probabilities | None]:
    from sdretrieval.corpus import load_corpus
    from sdretrieval.export.layout import IDS, MANIFEST
    from sdretrieval.export.searcher import Searcher, SearchHit
    from sdretrieval.indexes import PADDING_ROW, VectorIndex
    from sdretrieval.indexes.probability import hits_needed

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
            searcher = Searcher.open(Path(where))
            return searcher.search(query, k), searcher.probabilities
        except DamagedArtifact as damage:  # nothing of ours to make again: another folder must be named
            raise RequestError(str(damage)) from damage
    serving = Serving.of(find_run(where, runs))
    index = VectorIndex.load(serving.artifact("base_index" if base else "index"), serving.config.index.device)
    corpus = load_corpus(serving.corpus_folder())
    probabilities = None if base else serving.probabilities()
    hits = index.search(query_vector(serving.student(base), query), min(hits_needed(k), len(corpus.documents)))
    none: list[float | None] = [None] * hits.rows_Qk.shape[1]
    found = probabilities.of([query], hits)[0].tolist() if probabilities else none
    table = corpus.documents.select([row for row in hits.rows_Qk[0, :k].tolist() if row != PADDING_ROW])
    columns = zip(table["id"], hits.scores_Qk[0].tolist(), table["title"], table["text"], found, strict=False)
    return [SearchHit(n, *hit) for n, hit in enumerate(columns, 1)], probabilities


def query_vector(student: Student, query: str) -> Array:
    """The query's vector, shape (1, D), with the student's prompt and query view."""
    import numpy as np

    from sdretrieval.encode.encoder import encode_sequences
    from sdretrieval.encode.tokens import tokenize

    specials = student.query_specials
    tokens = tokenize([query], student.model.tokenizer)[0]
    plain_1D = encode_sequences(student.model, student.query_view.cut(tokens, specials)[:1], specials)
    return plain_1D if student.half is None else np.concatenate([plain_1D, student.half.queries([query])], axis=1)
