"""What queries are made of, and the record of how many were made, kept and dropped."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args

Kind = Literal["title", "heading", "leading", "span", "keywords", "written"]
KINDS: tuple[Kind, ...] = get_args(Kind)

DEFAULT_SHARES: Mapping[Kind, float] = {
    "title": 0.15, "heading": 0.1, "leading": 0.15, "span": 0.5, "keywords": 0.1, "written": 0.0,
}  # fmt: skip
VERBATIM: frozenset[Kind] = frozenset({"title", "heading", "leading", "span"})
"""Kinds whose text is in the document, and can be hidden from it."""
EXAMPLES = 3
"""Of each kind, and of each reason, that a record keeps."""

Writer = Callable[[Sequence[str]], list[str]]
"""Writes one query for each document text: a seq2seq model (`load_writer`)."""


class SyntheticQuery(NamedTuple):
    """A query, the row of the document that it was made from, its kind, and what is left of that document.

    `query_removed` is the document (title and text joined) without what the query was taken from; None if nothing is
    hidden, because the query's words are all over the text, or because too little would be left.
    """

    text: str
    document_row: int
    kind: Kind
    query_removed: str | None = None


@dataclass(frozen=True)
class Recipe:
    """`shares`: how often each kind is tried first; a document without such a query is given a span.

    `query_removed`: the kinds whose words are removed from their document in training. `writer`: makes `written`.
    """

    shares: Mapping[Kind, float] = field(default_factory=lambda: dict(DEFAULT_SHARES))
    query_removed: frozenset[Kind] = frozenset({"title", "heading"})
    writer: Writer | None = None

    def for_measuring(self) -> Recipe:
        """The recipe of queries that measure: every one is hidden from its document, or was written by a model.

        A query that is in its document is found by any search for words, and flatters BM25 beyond all use.
        """
        shares = {kind: share for kind, share in self.shares.items() if kind in VERBATIM or kind == "written"}
        if not any(shares.values()):
            shares = {"span": 1.0}
        return Recipe(shares, VERBATIM, self.writer)


@dataclass
class QueryTally:
    """How many queries of each kind were made, dropped (by reason) and kept, with examples of texts."""

    made: Counter[str] = field(default_factory=Counter)
    dropped: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def make(self, kind: str) -> None:
        """A query of this kind was made."""
        self.made[kind] += 1

    def drop(self, kind: str, reason: str, text: str) -> None:
        """It was dropped."""
        self.dropped[kind, reason] += 1
        self._example(f"dropped: {reason}", text)

    def keep(self, kind: str, text: str) -> None:
        """It was kept: only its text is noted."""
        self._example(kind, text)

    def _example(self, name: str, text: str) -> None:
        if len(self.examples[name]) < EXAMPLES:
            self.examples[name].append(text[:200])

    def to_json(self) -> dict[str, Any]:
        """By kind what was made and what was dropped why; examples by kind, and by reason."""
        dropped: dict[str, dict[str, int]] = defaultdict(dict)
        for (kind, reason), count in sorted(self.dropped.items()):
            dropped[kind][reason] = count
        return {
            "made": {kind: self.made[kind] for kind in KINDS if self.made[kind]},
            "dropped": dict(dropped),
            "examples": {name: list(texts) for name, texts in self.examples.items()},
        }

    @staticmethod
    def from_json(record: Mapping[str, Any]) -> QueryTally:
        """The inverse of `to_json`."""
        tally = QueryTally(Counter(record["made"]))
        for kind, reasons in record["dropped"].items():
            for reason, count in reasons.items():
                tally.dropped[kind, reason] = count
        tally.examples.update({name: list(texts) for name, texts in record["examples"].items()})
        return tally
