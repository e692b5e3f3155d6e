"""A teacher that reads pairs of texts, at a price: every pair is scored once, and remembered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import numpy as np

from sdretrieval.errors import NumericError
from sdretrieval.ragged import Array, Ragged
from sdretrieval.teachers.pairs import PairCache, pair_key

Pair = tuple[str, str]


class PairTeacher(ABC):
    """Scores pairs once, remembers them in a `PairCache`. Not free: it scores lists, never a whole batch."""

    asymmetry: str

    def __init__(
        self, *, name: str, query_text: Callable[[int], str], document_text: Callable[[int], str], cache: PairCache
    ) -> None:
        self.name = name
        self._query_text, self._document_text, self._cache = query_text, document_text, cache
        self.newly_scored = 0

    def score(self, query_rows_Q: Array, candidates: Ragged) -> Ragged:
        """See Teacher.score. Pairs that the cache knows cost nothing."""
        queries_T, documents_T = query_rows_Q[candidates.list_of_entry], candidates.values_T

        def pair(entry: int) -> Pair:  # all texts at once would be a corpus, a document in each of its lists
            return self._query_text(int(queries_T[entry])), self._document_text(int(documents_T[entry]))

        return candidates.with_values(self._scored(len(documents_T), pair))

    def score_texts(self, pairs: Sequence[Pair]) -> Array:
        """The score of each pair of a query's and a document's text."""
        return self._scored(len(pairs), pairs.__getitem__)

    def _scored(self, count: int, pair: Callable[[int], Pair]) -> Array:
        keys = [pair_key(*pair(i)) for i in range(count)]
        unknown = np.isnan(self._cache.get(keys))
        todo = sorted({keys[i]: i for i in np.flatnonzero(unknown).tolist()}.values())
        self.newly_scored += len(todo)
        if todo:
            self._score_new([keys[i] for i in todo], lambda number: pair(todo[number]))
        return self._cache.get(keys)

    @abstractmethod
    def _score_new(self, keys: Sequence[bytes], pair: Callable[[int], Pair]) -> None:
        """Score the pairs that the cache does not know, and add each to it under its key. `pair`: by position."""


def check_finite_scores(name: str, scores: Array, pairs: Sequence[Pair]) -> None:
    """Raise NumericError that names the first pair whose score is NaN or infinite."""
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        query, document = pairs[int(bad[0])]
        raise NumericError(
            f"teacher {name}: {len(bad)} scores are not finite, the first for query {query[:60]!r} and document "
            f"{document[:60]!r}; load the model in float32 or choose another"
        )
