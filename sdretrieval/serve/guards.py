"""Before a request is read: who asks, how large it is; and what each one took."""

from __future__ import annotations

import hmac
import json
import time
from typing import Any

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sdretrieval.serve.metrics import Metrics

OPEN = ("/", "/page.js", "/page.css", "/health", "/ready")
"""Paths that need no key: they hold nothing of the corpus."""
PAGE_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'"
"""The page loads nothing from elsewhere, and runs no script that stands in a document."""
POLICY = f"{PAGE_POLICY}; frame-ancestors 'none'; form-action 'none'"
HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", POLICY.encode()),
)


class Guards:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, *, key: str | None, most_bytes: int, metrics: Metrics) -> None:
        self.app, self.key, self.most_bytes, self.metrics = app, key, most_bytes, metrics
        self._too_large = f"the body is larger than {most_bytes:,} bytes; send fewer texts at a time"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuses with 401 or 413, or passes on, and counts."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status, read, started = time.perf_counter(), 500, 0, False

        async def sent(message: Message) -> None:
            nonlocal status, started
            if message["type"] == "http.response.start":
                status, started = message["status"], True
                message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
            await send(message)

        async def received() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > self.most_bytes:
                raise HTTPException(413, self._too_large)  # the one kind that passes through what reads bodies
            return message

        headers = dict(scope["headers"])
        try:
            if not self._known(scope["path"], headers):
                await _refuse(sent, 401, "the key is missing or wrong; send it as 'Authorization: Bearer KEY'")
            elif int(headers.get(b"content-length", b"0") or 0) > self.most_bytes:
                await _refuse(sent, 413, self._too_large)
            else:
                await self.app(scope, received, sent)
        except ValueError:  # a length that is no number
            if started:
                raise
            await _refuse(sent, 400, "content-length: expected a number")
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.request(route, status, time.perf_counter() - began)

    def _known(self, path: str, headers: dict[bytes, bytes]) -> bool:
        if self.key is None or path in OPEN:
            return True
        given = headers.get(b"authorization", b"").removeprefix(b"Bearer ").strip() or headers.get(b"x-api-key", b"")
        return hmac.compare_digest(given, self.key.encode())


async def _refuse(send: Send, status: int, message: str) -> None:
    body: dict[str, Any] = {"error": {"message": message, "type": "invalid_request_error", "code": status}}
    headers = [(b"content-type", b"application/json"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(body).encode()})
