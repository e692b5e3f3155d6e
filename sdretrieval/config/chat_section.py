"""Sections that name a model behind a server: a language model that writes queries, or judges; a reranker."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator

from sdretrieval.config.fields import Number, Section, cost, identity

URL_TEXT = "an http or https address such as http://localhost:11434/v1, without user, password or ?"
VARIABLE_TEXT = "the name of an environment variable such as OPENAI_API_KEY, never the key itself; or null"


def _address(url: str) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError(URL_TEXT) from None
    extra = parts.query or parts.fragment or parts.username is not None or re.search(r"[\s\\?#@]", url)
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or extra:
        raise ValueError(URL_TEXT)
    return url.rstrip("/").removesuffix("/chat/completions").removesuffix("/rerank")


Url = Annotated[str, AfterValidator(_address)]


class ChatConfig(Section):
    """A language model behind a server that speaks OpenAI's chat completions: ollama, vLLM, llama.cpp, a vendor."""

    # The model's name stands for it in keys: where it is served changes no answer that was paid for.
    url: Url | None = cost("address of the server, up to /v1", expects=URL_TEXT)
    model: str = identity("name of the model, as its server knows it", min_length=1)
    key_variable: str | None = cost(
        "environment variable that holds the key; null: the server needs none",
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,99}$",
        expects=VARIABLE_TEXT,
    )
    concurrency: int = cost("requests at a time", 4, ge=1, le=256)
    timeout: Number = cost("seconds for a whole answer", 120.0, ge=1, le=3600)


class WriterConfig(ChatConfig):
    """A model that writes queries: behind a server, or (without url) a seq2seq model on this machine."""

    url: Url | None = cost(
        "address of a chat-completions server, up to /v1; null: model is a seq2seq model that runs here",
        None,
        expects=f"{URL_TEXT}; or null",
    )
    model: str = identity("the server's name of the model; without url a hub id or folder", min_length=1)
    prompt: str = identity("put before each document that a seq2seq model writes a query for", "")


class JudgeConfig(ChatConfig):
    """A model behind a server that judges pairs of query and document."""

    url: Url = cost("address of a chat-completions server, up to /v1", expects=URL_TEXT)
