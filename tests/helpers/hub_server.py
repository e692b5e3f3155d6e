"""A model hub of a few lines: checks a card, makes repositories, takes commits, and refuses what a real one would."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.helpers.chat_server import served

TOKEN = "hf_of-the-test"


@dataclass
class Hub:
    """What was sent to it. `public`: repositories that are there already, for all to see."""

    url: str = ""
    public: set[str] = field(default_factory=set)
    private: set[str] = field(default_factory=set)
    cards: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    refuses_cards: bool = False


class _Handler(BaseHTTPRequestHandler):
    hub: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/validate-yaml":
            self.hub.cards.append(json.loads(body)["content"])
            self._answer(400 if self.hub.refuses_cards else 200, {"error": '"license" must be one of ...'})
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid credentials"})
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif "/preupload/" in self.path:
            files = [{"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                     for one in json.loads(body)["files"]]  # fmt: skip
            self._answer(200, {"files": files})
        elif "/commit/" in self.path:
            for line in body.splitlines():
                self._commit(**json.loads(line))
            self._answer(200, {"commitUrl": f"{self.hub.url}/me/tiny/commit/1", "commitOid": "1", "hookOutput": ""})
        else:
            self._answer(404, {"error": f"no {self.path}"})

    def do_GET(self) -> None:
        name = self.path.partition("/api/models/")[2].partition("?")[0]
        self._answer(200, {"id": name, "modelId": name, "private": name in self.hub.private, "siblings": []})

    def _create(self, wanted: dict[str, Any]) -> None:
        name = "/".join(part for part in (wanted.get("organization"), wanted["name"]) if part)
        there = name in self.hub.public
        if not there:
            private = wanted.get("private") or wanted.get("visibility") == "private"
            (self.hub.private if private else self.hub.public).add(name)
        self._answer(409 if there else 200, {"url": f"{self.hub.url}/{name}", "id": name, "name": name})

    def _commit(self, key: str, value: dict[str, Any]) -> None:
        if key == "header":
            self.hub.messages.append(value["summary"])
        elif key == "file":
            self.hub.files[value["path"]] = base64.b64decode(value["content"])

    def _answer(self, status: int, record: dict[str, Any]) -> None:
        text = json.dumps(record) if status != 400 else str(record["error"])
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json" if status != 400 else "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing is written on stderr."""


@contextmanager
def hub_server(**state: Any) -> Iterator[Hub]:
    """The hub, in threads of this process."""
    hub = Hub(**state)
    with served(type("Handler", (_Handler,), {"hub": hub})) as address:
        hub.url = address.removesuffix("/v1")
        yield hub
