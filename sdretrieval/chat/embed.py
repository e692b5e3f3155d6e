"""Vectors of texts from a server.

Two shapes are known, and found out by asking: `/embed` with `inputs` (this package's server, text-embeddings-inference)
and `/v1/embeddings` with `input` (OpenAI, infinity, vLLM and most others).

Legend: N texts, D dims.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sdretrieval.chat.client import MOST_BYTES, Client, Trouble
from sdretrieval.ragged import Array

if TYPE_CHECKING:
    import requests

Side = Literal["query", "document"]
Shape = Literal["embed", "openai"]
NOT_THERE = ("status 404", "status 405")
BYTES_OF_A_VECTOR = 32 * 8192
"""Most dims of a vector, times the characters of a number in JSON."""


@dataclass
class EmbedClient(Client):
    """Asks a server for vectors. `prompts`: what stands before a text of each side; a server of the first shape knows
    them by their names, one of the second gets them with the text."""

    prompts: dict[Side, str] = field(default_factory=dict)
    shape: Shape | None = None
    """None until the first answer tells."""

    def vectors(self, session: requests.Session, texts: Sequence[str], side: Side) -> Array:
        """Vectors (N, D), float32, as the server made them. One request. Raises Trouble."""
        shapes: list[Shape] = [self.shape] if self.shape else ["embed", "openai"]
        for shape in shapes:
            try:
                made = self._asked(session, texts, side, shape)
            except Trouble as trouble:
                if trouble.kind not in NOT_THERE or shape == shapes[-1]:
                    raise
            else:
                self.shape = shape
                return made
        raise AssertionError("the last shape returns or raises")

    def _asked(self, session: requests.Session, texts: Sequence[str], side: Side, shape: Shape) -> Array:
        most_bytes = MOST_BYTES + BYTES_OF_A_VECTOR * len(texts)
        if shape == "embed":
            body: dict[str, Any] = {"inputs": list(texts), "truncate": True}
            return self._matrix(
                self.post(session, "/embed", body, {"prompt_name": side}, most_bytes), len(texts), shape
            )
        prompted = [self.prompts.get(side, "") + text for text in texts]
        body = {"model": self.model.model, "input": prompted}
        answer = self.post(session, "/v1/embeddings", body, {"encoding_format": "float"}, most_bytes)
        return self._matrix(answer, len(texts), shape)

    def _matrix(self, text: str, count: int, shape: Shape) -> Array:
        record = self.json_of(text)
        try:
            if shape == "openai":
                record = [one["embedding"] for one in sorted(record["data"], key=lambda one: int(one["index"]))]
            vectors_ND = np.asarray(record, dtype=np.float32)
        except (KeyError, TypeError, ValueError):
            raise Trouble("another shape", f"no list of vectors: {self.shown(text)!r}", server=False) from None
        if vectors_ND.ndim != 2 or len(vectors_ND) != count or not np.isfinite(vectors_ND).all():
            found = f"an array of shape {vectors_ND.shape} for {count} texts, expected a vector of finite numbers each"
            raise Trouble("other vectors", found, server=False)
        return vectors_ND
