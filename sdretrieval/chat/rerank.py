"""A reranker behind a server: one query with some documents a request, their scores in the order of the documents.

Two shapes are known, and found out by asking: `documents` and `results` (Cohere, Jina, infinity, vLLM), and `texts` and
a list (text-embeddings-inference).
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from sdretrieval.chat.ask import Cost
from sdretrieval.chat.client import MOST_BYTES, Client, Trouble, key_of_environment
from sdretrieval.chat.parallel import Requests
from sdretrieval.formatting import quantity

if TYPE_CHECKING:
    import requests

logger = logging.getLogger("sdretrieval")
WANTS_TEXTS = re.compile(r"""[`'"]texts[`'"]""")
"""In the refusal of text-embeddings-inference: missing field `texts`."""
ESCAPED = 12
"""Most bytes of a character in JSON: two escapes of six."""

Pair = tuple[str, str]
Group = tuple[int, ...]
"""Positions of pairs of one query, whose documents go into one request."""


@dataclass
class RerankClient(Client):
    """Asks a reranker."""

    _texts: bool = field(init=False, default=False)
    """Whether the server turned out to be of text-embeddings-inference's shape."""

    def scores(self, session: requests.Session, query: str, documents: Sequence[str]) -> list[float]:
        """The score of each document, raw if the server can give it. One request. Raises Trouble."""
        body: dict[str, Any] = {"query": query}
        most_bytes = MOST_BYTES + ESCAPED * sum(map(len, documents))  # some servers send the documents back
        if self._texts:
            body |= {"texts": documents, "raw_scores": True, "truncate": True}
            return self._read(self.post(session, "/rerank", body, {}, most_bytes), len(documents))
        body |= {"model": self.model.model, "documents": documents}
        optional = {"top_n": len(documents), "return_documents": False, "raw_scores": True}
        try:
            return self._read(self.post(session, "/rerank", body, optional, most_bytes), len(documents))
        except Trouble as trouble:
            if trouble.kind not in ("status 400", "status 422") or not WANTS_TEXTS.search(trouble.found):
                raise
        self._texts = True
        return self.scores(session, query, documents)

    def _read(self, text: str, count: int) -> list[float]:
        record = self.json_of(text)
        results: Any = record.get("results") if isinstance(record, dict) else record
        try:
            pairs = [(one["index"], one["relevance_score" if "relevance_score" in one else "score"]) for one in results]
        except (KeyError, TypeError):
            found = f"neither a list of index and score nor results of index and relevance_score: {self.shown(text)!r}"
            raise Trouble("another shape", found, server=False) from None
        if sorted(index for index, _ in pairs if type(index) is int) != list(range(count)):
            found = f"{len(pairs)} results for {count} documents, expected each index from 0 to {count - 1} once"
            raise Trouble("other documents", found, server=False)
        bad = [score for _, score in pairs if type(score) not in (int, float) or not math.isfinite(score)]
        if bad:
            raise Trouble("no number", f"a score of {self.shown(str(bad[0]))}, expected a number", server=False)
        return [float(score) for _, score in sorted(pairs)]


@dataclass
class Reranker(Requests):
    """A reranker behind a server, and what asking it has cost (`tally`: `requests` too)."""

    documents_per_request: int
    unit: ClassVar[str] = "scores"

    def groups(self, queries: Iterable[str]) -> list[Group]:
        """Pairs whose queries these are, by request."""
        by_query: dict[str, list[int]] = {}
        for position, query in enumerate(queries):
            by_query.setdefault(query, []).append(position)
        return [
            tuple(positions[start : start + self.documents_per_request])
            for positions in by_query.values()
            for start in range(0, len(positions), self.documents_per_request)
        ]

    def score(
        self, groups: Sequence[Group], pair: Callable[[int], Pair], keep: Callable[[Group, list[float]], None]
    ) -> Iterator[int]:
        """Ask for the scores of pairs of texts; yields how many pairs each request has brought, as they come.

        `pair`: the texts of a position. `keep` gets a group and its scores as soon as its request is answered. Neither
        is called twice at a time. Raises WorkError if the server cannot be used, or has no usable answer to a request.
        """
        client = RerankClient(self.model, key_of_environment(self.model, self.setting))

        def once(session: requests.Session, group: Group) -> bool:
            with self._lock:
                pairs = [pair(position) for position in group]
            scores = client.scores(session, pairs[0][0], [document for _, document in pairs])
            with self._lock:
                keep(group, scores)
                self.tally.update(asked=len(scores), requests=1)
            return True

        for group, _ in self.each(client, groups, once):
            yield len(group)

    def give_up(self, found: str) -> None:
        """Every score is needed."""
        remedy = f"see what the server's own log says, or lower {self.setting}.documents_per_request"
        raise self.failed(found, f"{remedy} ({self.documents_per_request})")

    def say_cost(self, cost: Cost) -> None:
        """Tell the log, before the first request, what is going to be asked for."""
        logger.info("%s: %s", self.setting, cost.line(self.model))

    def say_what_it_took(self) -> None:
        """Tell the log what the scores have cost, and what was wrong with answers."""
        logger.info(
            "%s: %s from %s in %s%s", self.setting, quantity(self.tally["asked"], "scores"), self.model.model,
            quantity(self.tally["requests"], "requests"), self.troubles_found(),
        )  # fmt: skip
