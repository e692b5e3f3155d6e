"""What mining kept and what it removed, with examples; and which documents share their text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.corpus.text import content_digest

Reason = Literal["own_document", "identical_to_positive", "duplicate_text"]
REASONS: tuple[Reason, ...] = ("own_document", "identical_to_positive", "duplicate_text")
EXAMPLES_PER_REASON = 5


class Example(NamedTuple):
    """One document that mining removed from one query's pool."""

    query_row: int
    document_row: int
    reason: str


@dataclass(frozen=True)
class MiningReport:
    """Counts over all queries.

    `removed`: documents taken out of the pools, by reason (own_document, identical_to_positive, duplicate_text).
    `lists_short`: lists with fewer than `keep` candidates, because the pool held no more.
    `positives`: known (query, document) pairs; `positives_found_in_*`: how many of them a retriever had in its top
    `depth`; `positives_left_out`: how many did not fit into `keep` - 1 places.
    """

    queries: int
    candidates: int
    mean_list_length: float
    removed: Mapping[str, int]
    lists_short: int
    positives: int
    positives_found_in_dense_top: int
    positives_found_in_lexical_top: int
    positives_left_out: int
    examples: tuple[Example, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {**asdict(self), "removed": dict(self.removed), "examples": [list(e) for e in self.examples]}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> MiningReport:
        """The inverse of `to_json`."""
        return MiningReport(**{**stored, "examples": tuple(Example(*e) for e in stored["examples"])})


@dataclass
class Tally:
    """Running counts while queries are mined; `report` closes it."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[Example] = field(default_factory=list)

    def remove(self, reason: Reason, query_row: int, document_rows: NDArray[np.int64]) -> None:
        """Count documents removed for `reason`, keeping the first few as examples."""
        room = EXAMPLES_PER_REASON - self.counts[reason]
        self.counts[reason] += len(document_rows)
        self.examples += [Example(query_row, int(row), reason) for row in document_rows[: max(room, 0)]]

    def report(self, queries: int) -> MiningReport:
        """The finished report over `queries` queries."""
        counts = self.counts
        return MiningReport(
            queries=queries,
            candidates=counts["candidates"],
            mean_list_length=counts["candidates"] / queries if queries else 0.0,
            removed={reason: counts[reason] for reason in REASONS},
            lists_short=counts["lists_short"],
            positives=counts["positives"],
            positives_found_in_dense_top=counts["positives_in_dense"],
            positives_found_in_lexical_top=counts["positives_in_lexical"],
            positives_left_out=counts["positives_left_out"],
            examples=tuple(self.examples),
        )


def duplicate_groups(texts: Iterable[str]) -> NDArray[np.int64]:
    """Group number of each text, shape (N,): equal exactly if the texts agree up to runs of white space.

    Groups are numbered by first appearance. Only 16-byte digests are held, so a corpus may be streamed through.
    """
    digests_N = np.fromiter(map(content_digest, texts), dtype="S16")
    _, firsts_G, group_N = np.unique(digests_N, return_index=True, return_inverse=True)
    number_G = np.empty(len(firsts_G), dtype=np.int64)
    number_G[np.argsort(firsts_G)] = np.arange(len(firsts_G))
    return number_G[group_N]
