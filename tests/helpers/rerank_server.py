"""A reranking server of a few lines, of both known shapes, with the faults that such servers have.

A document scores by the words that it shares with the query. `plan` says what it answers to its first requests instead:
the name of a fault, `""` for none.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.helpers.chat_server import served

WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass
class RerankServer:
    """What it was asked, and what it is going to do wrong. `rest`: what it does once `plan` is used up."""

    shape: str = "documents"
    squash: Callable[[float], float] = float
    url: str = ""
    plan: list[str] = field(default_factory=list)
    rest: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def config(self) -> dict[str, Any]:
        """As a section of a config."""
        return {"kind": "reranker_api", "url": self.url, "model": "tiny-reranker"}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """All pairs that it was asked for."""
        return [(body["query"], text) for body in self.bodies for text in body.get("texts") or body["documents"]]


def score_of(query: str, document: str) -> float:
    """Shared words, as a raw score."""
    shared = {word.lower() for word in WORD.findall(query)} & {word.lower() for word in WORD.findall(document)}
    return 4.0 * len(shared) - 6.0 + len(document) % 97 / 100


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: RerankServer

    def do_POST(self) -> None:
        state = self.state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wanted = "texts" if state.shape == "texts" else "documents"
        if wanted not in body:
            return self._send(422, json.dumps({"error": f"missing field `{wanted}`", "error_type": "Validation"}))
        with state.lock:
            state.bodies.append(body)
            state.headers.append(dict(self.headers))
            state.paths.append(self.path)
            fault = state.plan.pop(0) if state.plan else state.rest
        try:
            self._answer(fault, body["query"], body[wanted], body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _answer(self, fault: str, query: str, documents: list[str], body: dict[str, Any]) -> None:
        name = "score" if self.state.shape == "texts" else "relevance_score"
        results = [{"index": i, name: self.state.squash(score_of(query, one))} for i, one in enumerate(documents)]
        results.sort(key=lambda one: -one[name])
        kind, _, what = fault.partition(" ")
        match kind:
            case "fewer":
                results.pop()
            case "twice":
                results[-1] = dict(results[0])
            case "nan":
                results[0][name] = float("nan")
            case "text":
                results[0][name] = "high"
            case "unnamed":
                results = [{"id": 1}]  # type: ignore[dict-item]
            case "echo":
                for one in results:
                    one["document"] = {"text": documents[int(one["index"])]}  # type: ignore[assignment]
            case "slow":
                time.sleep(float(what))
            case "429":
                return self._send(429, '{"message": "slow down"}', {"Retry-After": what})
            case "refuses" if what in body:
                return self._send(422, json.dumps({"detail": f"{what}: extra fields are not permitted"}))
            case "401":
                return self._send(401, json.dumps({"message": f"bad key {self.headers.get('Authorization')}"}))
            case kind if kind.isdigit():
                return self._send(int(kind), json.dumps({"error": what or "out of order"}))
        text = json.dumps(results if self.state.shape == "texts" else {"id": "x", "results": results})
        return self._send(200, text[: len(text) // 2] if kind == "cut" else text)

    def _send(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing is written on stderr."""


@contextmanager
def rerank_server(
    shape: str = "documents", plan: Sequence[str] = (), rest: str = "", squash: Callable[[float], float] = float
) -> Iterator[RerankServer]:
    """The server, in threads of this process. `squash`: what it makes of its raw scores."""
    state = RerankServer(shape, squash, plan=list(plan), rest=rest)
    with served(type("Handler", (_Handler,), {"state": state})) as state.url:
        yield state
