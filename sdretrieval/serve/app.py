"""The HTTP interface: embeddings in two shapes, search, the page, and what operators ask for.

Errors are `{"error": {"message": ..., "type": ...}}`, as OpenAI's clients show them: 401 without the key, 413 and 422
for what is too long or not understood, 429 with Retry-After if too much waits, 503 while nothing is served.
"""

from __future__ import annotations

import base64
import json
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from starlette.exceptions import HTTPException

from sdretrieval.errors import RequestError, SdretrievalError
from sdretrieval.export.text_search import SearchHit, TextSearch
from sdretrieval.formatting import printable
from sdretrieval.ragged import Array
from sdretrieval.serve.batching import Batcher, Encoded, QueueFull, Side
from sdretrieval.serve.guards import Guards
from sdretrieval.serve.highlight import highlight
from sdretrieval.serve.metrics import Metrics
from sdretrieval.serve.opened import Current, Opened
from sdretrieval.serve.shapes import (
    MOST_CHARACTERS,
    MOST_HITS,
    MOST_TEXTS,
    Embed,
    Embeddings,
    Found,
    Hit,
    Search,
    Vectors,
    Verdict,
)
from sdretrieval.serve.verdict_file import VerdictFile

logger = logging.getLogger("sdretrieval")

PAGE = Path(__file__).parent / "page"
QUERY_MODEL = "-query"
"""What a model's name ends with if a client that knows no sides sends queries."""


@dataclass(frozen=True)
class Settings:
    """How much the server takes, and who may ask. `room`: texts that may wait; `batch_wait`: seconds."""

    key: str | None = None
    verdicts: Path | None = None
    log_texts: bool = False
    room: int = 1024
    batch: int = 64
    batch_wait: float = 0.002
    most_bytes: int = 8_000_000


def create_app(current: Current, settings: Settings) -> FastAPI:
    """The application. It stops `current` when it ends."""
    metrics = Metrics()
    batcher = Batcher(current, settings.batch_wait, settings.batch, settings.room, metrics.batch)
    metrics.follow(batcher, current)
    verdicts = VerdictFile(settings.verdicts) if settings.verdicts else None

    @asynccontextmanager
    async def alive(app: FastAPI) -> AsyncIterator[None]:
        await batcher.start()
        yield
        await batcher.stop()
        current.close()

    # The usual pages of documentation load scripts from elsewhere; /openapi.json is the document.
    app = FastAPI(title="sdretrieval", lifespan=alive, docs_url=None, redoc_url=None)
    app.add_middleware(Guards, key=settings.key, most_bytes=settings.most_bytes, metrics=metrics)
    _errors(app)

    async def encoded(texts: str | Sequence[str], side: Side) -> Encoded:
        listed = [texts] if isinstance(texts, str) else list(texts)
        if blank := [n for n, text in enumerate(listed) if not text.strip()]:
            raise HTTPException(422, f"text {blank[0]} is empty; expected at least one word")
        if settings.log_texts:
            logger.info("%s: %s", side, printable(" | ".join(listed))[:2000])
        return await batcher.encode(listed, side)

    @app.post("/v1/embeddings", response_model=Vectors)
    async def embeddings(body: Embeddings) -> Response:
        """Vectors of texts, in OpenAI's shape. The side is `input_type`, else `query` if the model's name ends with
        `-query`, else `document`."""
        side: Side = body.input_type or ("query" if body.model.endswith(QUERY_MODEL) else "document")
        made = await encoded(body.input, side)
        rows_ND = _shortened(made.vectors_ND, body.dimensions, made.by)
        if body.encoding_format == "base64":
            values: list[Any] = [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in rows_ND]
        else:
            values = rows_ND.tolist()
        data = [{"object": "embedding", "index": n, "embedding": value} for n, value in enumerate(values)]
        usage = {"prompt_tokens": made.tokens, "total_tokens": made.tokens}
        return _json({"object": "list", "data": data, "model": made.by.name, "usage": usage})

    @app.post("/embed", response_model=list[list[float]])
    async def embed(body: Embed) -> Response:
        """Vectors of texts, in text-embeddings-inference's shape. `prompt_name` is the side; documents by default."""
        made = await encoded(body.inputs, body.prompt_name or "document")
        rows_ND = _shortened(made.vectors_ND, body.dimensions, made.by)
        return _json((_unit(rows_ND) if body.normalize else rows_ND).tolist())

    @app.post("/search", response_model=Found)
    async def search(body: Search) -> Response:
        """Documents for a query, best first."""
        from starlette.concurrency import run_in_threadpool

        began = time.perf_counter()
        if settings.log_texts:
            logger.info("search: %s", printable(body.query)[:2000])
        if not body.query.strip():
            raise HTTPException(422, "query: it is empty; expected at least one word")
        vector_D, by = None, current.now
        if body.mode != "lexical" and body.system == "student":
            made = await batcher.encode([body.query], "query")
            vector_D, by = made.vectors_ND[0], made.by
        found = await run_in_threadpool(_search, by, body, vector_D)
        milliseconds = round((time.perf_counter() - began) * 1000, 2)
        return Response(found.model_copy(update={"milliseconds": milliseconds}).model_dump_json(), 200, JSON)

    @app.post("/verdicts", status_code=204)
    async def verdict(body: Verdict) -> Response:
        """Keep what a person thinks of a hit, if the server was started with a file for that."""
        if verdicts is None:
            raise HTTPException(404, "verdicts are not kept: start the server with --verdicts FILE")
        passage = _passage_of(current.now.search, body.document_id)
        verdicts.add(body.query, body.document_id, passage, body.verdict)
        return Response(status_code=204)

    @app.get("/info")
    async def info() -> dict[str, Any]:
        """What is served, and the limits."""
        return _info(current.now, settings)

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process answers."""
        return {"status": "ok"}

    @app.get("/ready")
    async def ready() -> dict[str, str]:
        """Whether it can serve: what is served was opened before the first request."""
        return {"status": "ready", "version": current.now.version}

    @app.get("/metrics")
    async def measured() -> Response:
        """For Prometheus."""
        return Response(*metrics.text())

    for path, name in (("/", "index.html"), ("/page.js", "page.js"), ("/page.css", "page.css")):
        app.add_api_route(path, _file(PAGE / name), include_in_schema=False, response_class=FileResponse)
    return app


JSON = {"Content-Type": "application/json"}


def _json(value: Any) -> Response:
    """Thousands of numbers a vector: no model checks each again."""
    return Response(json.dumps(value, separators=(",", ":")), 200, JSON)


def _file(path: Path) -> Any:
    async def answer() -> FileResponse:
        return FileResponse(path)

    return answer


def _search(by: Opened, body: Search, vector_D: Array | None) -> Found:
    engine = by.search if body.system == "student" else by.base
    if engine is None:
        raise HTTPException(422, "system: found 'base', which is not served; start the server with a run, or --against")
    allowed = set(body.ids.include) if body.ids.include is not None else None
    refused = set(body.ids.exclude)

    def keep(identifier: str) -> bool:
        return identifier not in refused and (allowed is None or identifier in allowed)

    filtered = keep if refused or allowed is not None else None
    try:
        hits = engine.search(body.query, body.k, body.mode, vector_D, filtered)
    except RequestError as problem:
        raise HTTPException(422, str(problem)) from problem
    best = max((hit.probability for hit in hits if hit.probability is not None), default=None)
    if body.min_probability is not None:
        if engine.probabilities is None:
            raise HTTPException(422, "min_probability: nothing here tells how probable a hit is")
        hits = [hit for hit in hits if (hit.probability or 0.0) >= body.min_probability]
    return Found(
        query=body.query, mode=body.mode, system=body.system, version=by.version, milliseconds=0.0,
        best_probability=best, hits=[_hit(body.query, hit, engine) for hit in hits],
    )  # fmt: skip


def _hit(query: str, hit: SearchHit, engine: TextSearch) -> Hit:
    marked = highlight(query, hit.text, engine.lexical)
    return Hit(
        rank=hit.rank, id=hit.document_id, score=hit.score, probability=hit.probability, title=hit.title,
        text=hit.text, passage=marked.passage, words=marked.words,
    )  # fmt: skip


def _passage_of(search: TextSearch, identifier: str) -> tuple[str, str]:
    """Title and text of a document. Raises HTTPException if there is none of this id."""
    try:
        return search.passage(list(search.ids).index(identifier))
    except ValueError:
        raise HTTPException(422, f"document_id: no document has the id {identifier[:100]!r}") from None


def _shortened(vectors_ND: Array, dimensions: int | None, by: Opened) -> Array:
    """The first dims, of length 1 again."""
    if dimensions is None or dimensions == by.dims:
        return vectors_ND
    if dimensions > by.dims:
        raise HTTPException(422, f"dimensions: found {dimensions}, the student has {by.dims}; expected at most that")
    return _unit(vectors_ND[:, :dimensions])


def _unit(vectors_ND: Array) -> Array:
    return np.asarray(vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12))


def _info(now: Opened, settings: Settings) -> dict[str, Any]:
    return {
        "name": now.name, "version": now.version, "format": now.format, "why_format": now.why_format, "dims": now.dims,
        "documents": now.documents, "max_tokens": now.max_tokens, "unit_length": now.unit_length,
        "modes": list(now.search.modes), "probabilities": now.search.probabilities is not None,
        "base": now.base is not None, "verdicts": settings.verdicts is not None, "lineage": dict(now.lineage or {}),
        "limits": {"texts": MOST_TEXTS, "characters": MOST_CHARACTERS, "hits": MOST_HITS, "bytes": settings.most_bytes,
                   "waiting_texts": settings.room},
    }  # fmt: skip


def _errors(app: FastAPI) -> None:
    """One shape for all, and no word of ours about what the server is made of."""

    def answer(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
        kind = "invalid_request_error" if status < 500 else "server_error"
        return JSONResponse({"error": {"message": message, "type": kind, "code": status}}, status, headers)

    @app.exception_handler(RequestValidationError)
    async def not_understood(request: Request, problem: RequestValidationError) -> JSONResponse:
        return answer(422, _said(problem.errors()))

    @app.exception_handler(HTTPException)
    async def refused(request: Request, problem: HTTPException) -> JSONResponse:
        return answer(problem.status_code, str(problem.detail))

    @app.exception_handler(QueueFull)
    async def full(request: Request, problem: QueueFull) -> JSONResponse:
        return answer(429, "too many texts are waiting; try again", {"Retry-After": "1"})

    @app.exception_handler(SdretrievalError)
    async def failed(request: Request, problem: SdretrievalError) -> JSONResponse:
        logger.error("%s: %s", request.url.path, problem)
        return answer(503, "what is served cannot answer; the server's log says why")


NUMBERS = (
    "input: found numbers, the tokens of another tokenizer; expected texts (LangChain: "
    "check_embedding_ctx_length=False)"
)


def _said(errors: Sequence[Any]) -> str:
    """What was not understood: the field, the value found, what was expected."""
    if any(error["type"] == "string_type" and isinstance(error["input"], int) for error in errors):
        return NUMBERS
    # Where a text or a list may stand, the complaints of the reading that came further tell more.
    errors = sorted(errors, key=lambda error: -len(error["loc"]))
    return "; ".join(dict.fromkeys(map(_complaint, errors[:1] if len(errors[0]["loc"]) > 2 else errors[:3])))


def _complaint(error: Any) -> str:
    if error["type"] == "json_invalid":
        return "the body is no JSON; expected an object"
    # A union's branches have names of their own in a place: constrained-str, list[...].
    names = [str(part) for part in error["loc"][1:] if isinstance(part, int) or part.isidentifier()]
    found = error.get("input")
    shown = f"{len(found):,} characters" if isinstance(found, str) and len(found) > 60 else f"{found!r:.60}"
    what = "" if error["type"] == "missing" else f"found {shown}; "
    return printable(f"{'.'.join(names) or 'body'}: {what}{error['msg'][0].lower()}{error['msg'][1:]}")
