"""One request to a server, and what can be wrong with its answer; requests for chat completions.

Their shape is OpenAI's, which ollama, vLLM, llama.cpp and most vendors speak.
"""

from __future__ import annotations

import ipaddress
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from sdretrieval.errors import RequestError
from sdretrieval.formatting import printable, readable_bytes

if TYPE_CHECKING:
    import requests

MOST_BYTES = 500_000
"""Of an answer: a query or a grade has a few hundred."""
MOST_ANSWER_TOKENS = 2048
"""Models that think before they answer need most of them."""
CHUNK = 64
"""Bytes read at a time: some servers send blanks to keep a connection open, and the time must end there too."""
EXCERPT = 160
"""Characters of a server's words that a message repeats."""


@dataclass(frozen=True)
class ServedModel:
    """Where a model is and how it is asked. `key_variable`: the environment variable that holds the key, if it needs
    one. `concurrency`: requests at a time; `timeout`: seconds for a whole answer."""

    url: str
    model: str
    key_variable: str | None = None
    concurrency: int = 4
    timeout: float = 120.0

    @property
    def is_local(self) -> bool:
        """Whether the server is on this machine, so that no text leaves it."""
        host = urlsplit(self.url).hostname or ""
        try:
            return ipaddress.ip_address(host).is_loopback
        except ValueError:
            return host == "localhost" or host.endswith(".localhost")


def key_of_environment(model: ServedModel, setting: str) -> str | None:
    """The key, from the environment alone. Raises RequestError if its variable is not set, or holds no key."""
    if model.key_variable is None:
        return None
    key = os.environ.get(model.key_variable, "").strip()
    if key and key.isascii() and key.isprintable() and " " not in key:
        return key
    found = "is not set" if not key else "holds spaces or characters that no key has (it is not shown)"
    raise RequestError(
        f"{setting}.key_variable: the environment variable {model.key_variable} {found}; expected the key of "
        f"{model.url}: export {model.key_variable}=..., or leave key_variable out if the server needs none"
    )


class Answer(NamedTuple):
    """A model's words, and the tokens that the server counted (0 if it did not)."""

    text: str
    prompt_tokens: int
    answer_tokens: int


class Trouble(Exception):
    """No usable answer. `kind` is counted; `server`: whether the server, not this one answer, is at fault, so that the
    work ends if it lasts; `again`: whether it may pass; `wait`: seconds that the server asks for."""

    def __init__(self, kind: str, found: str, *, server: bool, again: bool = True, wait: float = 0.0) -> None:
        super().__init__(found)
        self.kind, self.found, self.server, self.again, self.wait = kind, found, server, again, wait


@dataclass
class Client:
    """Posts JSON to one server. Safe for several threads with a session each."""

    model: ServedModel
    key: str | None
    _refused: set[str] = field(init=False, default_factory=set)
    """Parameters that this server does not take."""

    def session(self) -> requests.Session:
        """A connection of one thread. Proxies of the environment are used, but not for a server on this machine."""
        import requests

        session = requests.Session()
        session.trust_env = not self.model.is_local
        # A function, even one that adds nothing: without it, requests would take a password from ~/.netrc.
        session.auth = self._signed
        return session

    def _signed(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self.key is not None:
            request.headers["Authorization"] = f"Bearer {self.key}"
        return request

    def post(
        self, session: requests.Session, path: str, body: Mapping[str, Any], optional: Mapping[str, Any],
        most_bytes: int = MOST_BYTES,
    ) -> str:  # fmt: skip
        """The text of one answer, of at most so many bytes. Raises Trouble.

        `optional`: parameters that some servers refuse; each is left out from then on if a server names it in a
        refusal, and None is not sent.
        """
        sent = {name: value for name, value in optional.items() if value is not None and name not in self._refused}
        status, headers, text = self._post(session, path, {**body, **sent}, most_bytes)
        if status in (400, 422):
            named = {name for name in sent if name in text}  # only what was sent, so that this ends
            if named:
                self._refused |= named
                return self.post(session, path, body, optional, most_bytes)
        if status != 200:
            raise self._refusal(status, headers, text)
        return text

    def _post(
        self, session: requests.Session, path: str, body: Mapping[str, Any], most_bytes: int
    ) -> tuple[int, Any, str]:
        """Status, headers and text, within the time allowed. Redirects are not followed: the key is for this host."""
        import requests

        seconds, ends = self.model.timeout, time.monotonic() + self.model.timeout
        try:
            with session.post(
                f"{self.model.url}{path}", json=body, timeout=seconds, stream=True, allow_redirects=False
            ) as response:
                parts, size = [], 0
                for part in response.iter_content(CHUNK):
                    parts.append(part)
                    size += len(part)
                    if size > most_bytes:
                        raise Trouble(
                            "too large",
                            f"an answer of more than {readable_bytes(most_bytes)}",
                            server=False,
                            again=False,
                        )
                    if time.monotonic() > ends:
                        raise requests.Timeout
                return response.status_code, response.headers, b"".join(parts).decode("utf8", "replace")
        except requests.Timeout:
            found = f"no whole answer within {seconds:g} s"
            raise Trouble("too slow", found, server=True) from None
        except requests.exceptions.SSLError as problem:
            found = f"no secure connection ({self.shown(str(problem))})"
            raise Trouble("no secure connection", found, server=True, again=False) from None
        except requests.exceptions.ChunkedEncodingError:
            raise Trouble("cut off", "an answer that was cut off", server=False) from None
        except requests.ConnectionError as problem:
            if "Read timed out" in str(problem):  # while the body was read
                raise Trouble("too slow", f"no whole answer within {seconds:g} s", server=True) from None
            raise Trouble("no connection", f"no connection ({self.shown(_cause(problem))})", server=True) from None
        except (requests.RequestException, ValueError) as problem:
            raise Trouble("no request", f"{self.shown(str(problem))}", server=True, again=False) from None

    def _refusal(self, status: int, headers: Any, text: str) -> Trouble:
        says = f", which says: {self.shown(_message_of(text))}" if text.strip() else ""
        kind = f"status {status}"
        if 300 <= status < 400:
            target = self.shown(str(headers.get("Location", "another address")))
            return Trouble(kind, f"a redirect to {target}, which is not followed", server=True, again=False)
        if status in (401, 403):  # their words may repeat parts of the key
            found = f"status {status}: the key was refused" if self.key else f"status {status}: it wants a key"
            return Trouble(kind, found, server=True, again=False)
        if status in (408, 409, 425, 429) or status >= 500:
            return Trouble(
                kind, f"status {status}{says}", server=True, wait=_seconds_to_wait(headers.get("Retry-After"))
            )
        of_this_prompt = status in (400, 413, 422)  # too long for the model, or refused for its words
        return Trouble(kind, f"status {status}{says}", server=not of_this_prompt, again=False)

    def json_of(self, text: str) -> Any:
        """What an answer's JSON holds. Raises Trouble."""
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise Trouble(
                "no JSON", f"an answer that is cut off or no JSON: {self.shown(text)!r}", server=False
            ) from None

    def shown(self, text: str) -> str:
        """Somebody else's words as a message may repeat them: short, on one line, and without the key."""
        line = printable(" ".join(text.replace(self.key, "[key]").split() if self.key else text.split()))
        return line if len(line) <= EXCERPT else f"{line[: EXCERPT - 3]}..."


@dataclass
class ChatClient(Client):
    """Asks a language model for chat completions."""

    temperature: float | None = None

    def ask(self, session: requests.Session, prompt: str) -> Answer:
        """One request. Raises Trouble."""
        body = {"model": self.model.model, "messages": [{"role": "user", "content": prompt}], "stream": False}
        optional = {"max_tokens": MOST_ANSWER_TOKENS, "temperature": self.temperature}
        return self._read(self.post(session, "/chat/completions", body, optional))

    def _read(self, text: str) -> Answer:
        record = self.json_of(text)
        try:
            choice = record["choices"][0]
            words = choice["message"]["content"]
        except (KeyError, IndexError, TypeError):
            found = f"JSON without choices[0].message.content: {self.shown(text)!r}"
            raise Trouble("another shape", found, server=False) from None
        usage = record.get("usage")
        counts = usage if isinstance(usage, dict) else {}
        numbers = [counts.get(name) for name in ("prompt_tokens", "completion_tokens")]
        prompt, answer = (number if type(number) is int and number >= 0 else 0 for number in numbers)
        if not isinstance(words, str) or not words.strip():
            length = choice.get("finish_reason") == "length"
            why = f" (cut at {MOST_ANSWER_TOKENS} tokens: does it think so long?)" if length else ""
            raise Trouble("empty", f"an empty answer{why}", server=False)
        return Answer(words, prompt, answer)


def _cause(problem: BaseException) -> str:
    """`Connection refused` of a chain of exceptions that wrap one another."""
    while (inner := problem.__cause__ or problem.__context__) is not None:
        problem = inner
    return str(getattr(problem, "strerror", None) or problem)


def _message_of(text: str) -> str:
    """The message in an error's JSON (`{"error": {"message": ...}}`), else the text."""
    try:
        record = json.loads(text)
        error = record.get("error", record)
        return str(error.get("message", error) if isinstance(error, dict) else error)
    except (ValueError, AttributeError, RecursionError):
        return text


def _seconds_to_wait(header: str | None) -> float:
    """`Retry-After`: seconds, or a date."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        try:
            return max(0.0, parsedate_to_datetime(str(header)).timestamp() - time.time())
        except (ValueError, TypeError, OverflowError):
            return 0.0
