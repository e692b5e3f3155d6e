"""`search`: one query to a run's final student, its base student, or an exported bundle; by vectors, words or both."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdretrieval.cli.lookup import DEV_POOL, Serving
from sdretrieval.cli.options import Json, Runs
from sdretrieval.cli.output import excerpt, print_json, print_table, say, stdout_kept_clean
from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.formatting import encodable
from sdretrieval.store.run_folder import find_run

if TYPE_CHECKING:
    from sdretrieval.export.text_search import SearchHit, TextSearch

MODES = ("dense", "lexical", "hybrid")
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
    mode: Annotated[str, typer.Option("--mode", help="dense (the student), lexical (BM25) or hybrid (both)")] = "dense",
    hybrid: Annotated[bool, typer.Option("--hybrid", help="the same as --mode hybrid")] = False,
    format: Annotated[
        str, typer.Option("--format", metavar="F", help="of a bundle: torch, onnx, onnx-int8 or openvino")
    ] = "torch",
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Search a run's corpus, or a bundle, with one query."""
    with stdout_kept_clean():
        answer = search(
            where, query, k, mode="hybrid" if hybrid else mode, base=base, min_probability=min_probability,
            format=format, runs=runs,
        )  # fmt: skip
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
    by = {"dense": f"{answer.student} student", "lexical": "BM25", "hybrid": f"{answer.student} student + BM25"}
    columns = ["", "score", "probability", "id", f"{by[answer.mode]}: {query}"]
    if answer.best is None:  # nobody knows
        columns, rows = [one for one in columns if one != "probability"], [[*row[:2], *row[3:]] for row in rows]
    print_table(columns, rows, right=["", "score", "probability"])
    if answer.note:
        say("", answer.note)


@dataclass(frozen=True)
class Answer:
    """The hits for a query, best first; scores are those of `mode` (see `TextSearch.search`).

    `best`: the highest probability among the best k, shown or not; None if nobody knows. `note`: what to think of
    probabilities.
    """

    query: str
    searched: str
    student: str
    mode: str
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
        record = {"query": self.query, "searched": self.searched, "student": self.student, "mode": self.mode}
        return {**record, "best_probability": self.best, "hits": hits}


def search(
    where: str, query: str, k: int = 10, *, mode: str = "dense", base: bool = False,
    min_probability: float | None = None, format: str = "torch", runs: Path | None = None,
) -> Answer:  # fmt: skip
    """The best `k` documents for `query`, by a bundle or by a run's final student (`base`: the one it began with).

    `mode`: dense, lexical or hybrid. `min_probability`: of these, only the hits that are relevant at least so probably.
    `format`: of a bundle. Raises RequestError for an empty query, k below 1, another mode, no such run or bundle, a
    bundle that was changed, the base of a bundle, which has none, or a `min_probability` that is none, or that nobody
    can tell.
    """
    if not query.strip():
        raise RequestError("the query is empty; expected at least one word")
    if k < 1:
        raise RequestError(f"-k {k}: expected at least 1")
    if mode not in MODES:
        raise RequestError(f"--mode {mode}: expected {', '.join(MODES)}")
    if min_probability is not None and not 0 <= min_probability <= 1:
        raise RequestError(f"--min-probability {min_probability:g}: expected 0 to 1")
    if min_probability is not None and (base or mode == "lexical"):
        raise RequestError(
            "--min-probability: probabilities are of the final student's hits; leave out "
            + ("--base" if base else "--mode lexical")
        )
    engine = _opened(where, base, mode, format, runs)
    try:
        hits = engine.search(encodable(query), k, mode)  # type: ignore[arg-type]  # another is refused there
    except DamagedArtifact as damage:  # nothing of ours to make again: another folder must be named
        raise RequestError(str(damage)) from damage
    answer = Answer(encodable(query), where, "base" if base else "final", mode, hits)
    probabilities = engine.probabilities
    if probabilities is None or mode == "lexical":
        if min_probability is not None:
            raise RequestError(f"--min-probability: {where} was exported without probabilities")
        return answer
    best = max((hit.probability or 0.0 for hit in hits), default=0.0)
    shown = [hit for hit in hits if (hit.probability or 0.0) >= (min_probability or 0.0)]
    note = "probabilities are estimates: no judged dev queries to fit them on" if probabilities.estimate else ""
    return replace(answer, hits=shown, best=best, note=note)


def _opened(where: str, base: bool, mode: str, format: str, runs: Path | None) -> TextSearch:
    """The bundle or the run that `where` names, ready to be searched."""
    from sdretrieval.export.layout import IDS, MANIFEST
    from sdretrieval.export.searcher import Searcher

    if any((Path(where) / file).is_file() for file in (MANIFEST, IDS)):  # whatever became of the rest
        if base:
            raise RequestError(
                f"--base: {where} is a bundle, which holds the final student alone; name the run instead"
            )
        try:
            return Searcher.open(Path(where), format=format)
        except DamagedArtifact as damage:  # as above
            raise RequestError(str(damage)) from damage
    if format != "torch":
        raise RequestError(f"--format {format}: {where} is a run, which holds torch alone; export it, and search that")
    return search_of(Serving.of(find_run(where, runs)), base, words=mode != "dense")


def search_of(serving: Serving, base: bool = False, *, words: bool = True) -> TextSearch:
    """Search a finished run's corpus by its final student or, with `base`, by the one it began with. `words`: with
    BM25, for the modes that need it."""
    from sdretrieval.corpus import load_corpus
    from sdretrieval.export.documents import IndexedDocuments
    from sdretrieval.export.encoders import torch_encoder
    from sdretrieval.export.text_search import TextSearch, measure_spread
    from sdretrieval.indexes import VectorIndex

    corpus = load_corpus(serving.corpus_folder())
    index = VectorIndex.load(serving.artifact("base_index" if base else "index"), serving.config.index.device)
    encoder, spread = torch_encoder(serving.student(base)), 1.0
    if words:
        spread = measure_spread(encoder, index, corpus.query_texts(corpus.split_rows("dev")[:DEV_POOL]))
    return TextSearch(
        encoder, index, corpus.document_ids, IndexedDocuments.of(corpus).passage,
        None if base else serving.probabilities(), serving.lexical() if words else None, spread,
    )  # fmt: skip
