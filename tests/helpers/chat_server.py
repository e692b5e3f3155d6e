"""A chat-completions server of a few lines, as ollama or a vendor would answer, with the faults that they have.

It writes a query from the document in the prompt, or grades by shared words; `plan` says what it answers to its first
requests instead: the name of a fault, `""` for none.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WORD = re.compile(r"[^\W\d_]{3,}")


@dataclass
class ChatServer:
    """What it was asked, and what it is going to do wrong. `rest`: what it does once `plan` is used up."""

    url: str = ""
    plan: list[str] = field(default_factory=list)
    rest: str = ""
    prompts: list[str] = field(default_factory=list)
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    most_at_once: int = 0
    at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def config(self) -> dict[str, Any]:
        """As a section of a config."""
        return {"url": self.url, "model": "tiny-writer"}


def answer_of(prompt: str) -> str:
    """A grade or a query, made from the words of the document alone."""
    if "Grade:" in prompt:
        query, _, document = prompt.partition("Query: ")[2].partition("\n\nDocument:\n")
        shared = {word.lower() for word in WORD.findall(query)} & {word.lower() for word in WORD.findall(document)}
        return str(min(3, len(shared)))
    document = prompt.partition("Document:\n")[2]
    words = list(dict.fromkeys(WORD.findall(document)))
    return f"where is the {words[1]} {words[-1]}?"


def completion(text: str) -> dict[str, Any]:
    """What a server answers."""
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "total_tokens": 107}
    message = {"role": "assistant", "content": text}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    state: ChatServer

    def do_POST(self) -> None:
        state = self.state
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with state.lock:
            state.at_once += 1
            state.most_at_once = max(state.most_at_once, state.at_once)
            state.prompts.append(body["messages"][-1]["content"])
            state.bodies.append(body)
            state.headers.append(dict(self.headers))
            state.paths.append(self.path)
            fault = state.plan.pop(0) if state.plan else state.rest
        try:
            self._answer(fault, body["messages"][-1]["content"], body)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True
        finally:
            with state.lock:
                state.at_once -= 1

    def _answer(self, fault: str, prompt: str, body: dict[str, Any]) -> None:
        good = json.dumps(completion(answer_of(prompt)))
        match fault.partition(" ")[0]:
            case "":
                self._send(200, good)
            case "says":
                self._send(200, json.dumps(completion(fault.removeprefix("says "))))
            case "429":
                self._send(429, '{"error": {"message": "slow down"}}', {"Retry-After": fault.partition(" ")[2]})
            case "401":  # some repeat the key
                self._send(401, json.dumps({"error": {"message": f"bad key {self.headers.get('Authorization')}"}}))
            case "refuses":
                name = fault.partition(" ")[2]
                if name in body:
                    self._send(400, json.dumps({"error": {"message": f"Unsupported parameter: '{name}'"}}))
                else:
                    self._send(200, good)
            case "302":
                self._send(302, "", {"Location": fault.partition(" ")[2]})
            case "cut":
                self._send(200, good[: len(good) // 2])
            case "torn":  # fewer bytes than were promised
                self._send(200, good[:20], {"Content-Length": str(len(good))})
                self.close_connection = True
            case "html":
                self._send(200, "<html>It works!</html>", {"Content-Type": "text/html"})
            case "shape":
                self._send(200, '{"answer": "a query"}')
            case "huge":
                self._send(200, json.dumps(completion("word " * 200_000)))
            case "slow":
                time.sleep(float(fault.partition(" ")[2]))
                self._send(200, good)
            case "drips":  # a byte at a time, so that no single read is too slow
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                for _ in range(1000):
                    self.wfile.write(b" ")
                    time.sleep(float(fault.partition(" ")[2]))
            case status:
                self._send(int(status), '{"error": {"message": "out of order"}}')

    def _send(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(data)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing is written on stderr."""


@contextmanager
def chat_server(plan: Sequence[str] = (), rest: str = "") -> Iterator[ChatServer]:
    """The server, in threads of this process."""
    state = ChatServer(plan=list(plan), rest=rest)
    with served(type("Handler", (_Handler,), {"state": state})) as state.url:
        yield state


@contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address of a server that answers by `handler`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # clients that hang up are wanted here
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
