"""What queries are made of, and the record of how many were made, kept and dropped."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

Kind = Literal["title", "question", "sentence", "keywords", "written"]
KINDS: tuple[Kind, ...] = get_args(Kind)

DEFAULT_SHARES: Mapping[Kind, float] = {
    "title": 0.25, "question": 0.25, "sentence": 0.25, "keywords": 0.25, "written": 0.0,
}  # fmt: skip
JUDGING: tuple[Kind, ...] = ("title", "keywords")
"""Kinds that measure; all others train. A student that has learned a kind is good at that kind, which is no gain in
search. Of all kinds, titles and keywords tell best which of two systems is better (docs/estimates.md)."""
VERBATIM: frozenset[Kind] = frozenset({"title", "sentence"})
"""Kinds whose text is in the document word for word."""
EXAMPLES = 3
"""Of each kind, and of each reason, that a record keeps."""

Writer = Callable[[Sequence[str]], list[str]]
"""Writes one query for each document text: a seq2seq model (`load_writer`)."""


class SyntheticQuery(NamedTuple):
    """A query, the row of the document that it was made from, its kind, and what is left of that document.

    `query_removed` is the document (title and text joined) without the title, heading or sentence that the query was
    made from; all of it if the query's words are all over the text, or if too little would be left.
    """

    text: str
    document_row: int
    kind: Kind
    query_removed: str


@dataclass(frozen=True)
class Recipe:
    """`shares`: how often each kind is tried first; a document without such a query is asked for the other kinds.

    `lengths`: words of queries that people asked, which sentences and keywords follow. `writer`: makes `written`.
    """

    shares: Mapping[Kind, float] = field(default_factory=lambda: dict(DEFAULT_SHARES))
    lengths: Sequence[int] = ()
    writer: Writer | None = None

    def of(self, kinds: Collection[Kind]) -> Recipe:
        """The recipe of these kinds alone, in its shares; evenly if it has none of them."""
        shares = {kind: share if kind in kinds else 0.0 for kind, share in self.shares.items()}
        return replace(self, shares=shares if any(shares.values()) else dict.fromkeys(kinds, 1.0))


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
