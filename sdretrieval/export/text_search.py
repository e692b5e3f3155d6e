"""Text in, documents out: by vectors, by words, or by both on the scale on which a run's hybrid rows mix them.

Legend: Q queries, k hits a query, D dims.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal, get_args

import numpy as np

from sdretrieval.errors import RequestError
from sdretrieval.export.encoders import TextEncoder
from sdretrieval.formatting import encodable
from sdretrieval.indexes.hits import PADDING_ROW, Hits
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.indexes.probability import Probabilities, hits_needed
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.ragged import Array
from sdretrieval.targets.calibrate import EVIDENCE, mean_spread

Mode = Literal["dense", "lexical", "hybrid"]
MODES: tuple[Mode, ...] = get_args(Mode)
DEPTH = 100
"""Of each side's list that hybrid search mixes, as in a run's hybrid rows."""

FILTERED = 10_000
"""Documents among which a search with a filter looks."""

Keep = Callable[[str], bool]
"""Document id -> whether it may be found."""
Passage = Callable[[int], tuple[str, str]]
"""Index row -> (title, text)."""


@dataclass(frozen=True)
class SearchHit:
    """One document found; rank counts from 1. Title and text are empty if nobody knows them; `probability` is that it
    is relevant, None if no dev queries could tell, or the student did not find it."""

    rank: int
    document_id: str
    score: float
    title: str = ""
    text: str = ""
    probability: float | None = None


@dataclass(frozen=True)
class TextSearch:
    """`encoder` gives a query's vector, `index` finds rows by it and `lexical` (BM25) by words, `ids` names them,
    `passage` shows them, `probabilities` says how probably a hit is relevant. `spread`: see `measure_spread`."""

    encoder: TextEncoder
    index: VectorIndex
    ids: Sequence[str]
    passage: Passage
    probabilities: Probabilities | None = None
    lexical: LexicalIndex | None = None
    spread: float = 1.0

    @property
    def modes(self) -> tuple[Mode, ...]:
        """How it can search: by vectors alone, if there is no BM25."""
        return MODES if self.lexical is not None else MODES[:1]

    def search(
        self, query: str, k: int = 10, mode: Mode = "dense", vector_D: Array | None = None, keep: Keep | None = None
    ) -> list[SearchHit]:
        """The best k documents, best first; all, if there are fewer; those that share a word with it, by BM25.

        A score is an inner product, BM25's, or in hybrid search both: the inner product over `spread`, plus twice
        BM25's over the norm of the query's idf. `vector_D`: the query's vector, if it is there already. `keep`: which
        ids may be found, among the best `FILTERED`.
        Raises RequestError for an empty query, k below 1, or a mode that is not one of `modes`.
        """
        if not query.strip():
            raise RequestError("the query is empty; expected at least one word")
        if k < 1:
            raise RequestError(f"k is {k}; expected at least 1")
        if mode not in self.modes:
            raise RequestError(
                f"mode {mode!r}: expected {' or '.join(self.modes)}"
                + ("; BM25 is not there: the bundle was exported without texts" if mode in MODES else "")
            )
        query, least = encodable(query), FILTERED if keep is not None else 0
        if mode == "lexical":
            return self._hits(self._words(query, max(k, least)), {}, k, keep)
        depth = max(hits_needed(k), DEPTH if mode == "hybrid" else 0, least)
        vector_1D = self.encoder.queries([query]) if vector_D is None else np.asarray(vector_D)[None]
        hits = self.index.search(vector_1D, min(depth, len(self.ids)))
        dense, probable = _by_row(hits), {}
        if self.probabilities is not None:
            probable = dict(
                zip(hits.rows_Qk[0].tolist(), self.probabilities.of([query], hits)[0].tolist(), strict=True)
            )
        if mode == "dense":
            return self._hits(dense, probable, k, keep)
        assert self.lexical is not None
        norm = float(self.lexical.norm([query])[0])
        mixed = absolute(dense, self._words(query, depth), self.spread, norm, depth)
        return self._hits(dict(sorted(mixed.items(), key=lambda hit: (-hit[1], self.ids[hit[0]]))), probable, k, keep)

    def _words(self, query: str, k: int) -> dict[int, float]:
        assert self.lexical is not None
        return _by_row(self.lexical.search([query], min(k, len(self.ids))))

    def _hits(self, scores: dict[int, float], probable: dict[int, float], k: int, keep: Keep | None) -> list[SearchHit]:
        kept = (row for row in scores if keep is None or keep(self.ids[row]))
        return [
            SearchHit(rank, self.ids[row], scores[row], *self.passage(row), probable.get(row))
            for rank, row in enumerate(islice(kept, k), 1)
        ]


def absolute(
    dense: dict[int, float], words: dict[int, float], spread: float, norm: float, depth: int
) -> dict[int, float]:
    """Score by row of all rows in either list, each of at most `depth`: `evaluation.fusion.absolute` of one query,
    whose docstring says why."""
    share = EVIDENCE / norm if norm > 0 else 0.0
    floors = min(dense.values(), default=0.0), min(words.values()) if len(words) == depth else 0.0
    return {row: dense.get(row, floors[0]) / spread + share * words.get(row, floors[1]) for row in {**dense, **words}}


def measure_spread(encoder: TextEncoder, index: VectorIndex, queries: Sequence[str]) -> float:
    """The unit of a student's scores: the mean over queries of the standard deviation of their `DEPTH` best."""
    hits = index.search(encoder.queries(queries), min(DEPTH, index.card.count))
    return mean_spread(scores[rows != PADDING_ROW] for rows, scores in zip(*hits, strict=True))


def _by_row(hits: Hits) -> dict[int, float]:
    """Of one query: row -> score, best first."""
    pairs = zip(hits.rows_Qk[0].tolist(), hits.scores_Qk[0].tolist(), strict=True)
    return {row: score for row, score in pairs if row != PADDING_ROW}
