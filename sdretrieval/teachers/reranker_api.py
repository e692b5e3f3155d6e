"""A reranker behind a server as a teacher: whatever model is there reads query and document together.

Each answer is on the disk before the next request of its thread, so that nothing is paid for twice. Most vendors give
probabilities, which are squeezed at both ends: if all scores are in 0..1, their log-odds teach
(docs/ablations/teachers.md).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import numpy as np

from sdretrieval.chat import Cost
from sdretrieval.chat.rerank import Reranker
from sdretrieval.corpus.read.documents.blocks import word_count
from sdretrieval.formatting import quantity
from sdretrieval.progress import Progress
from sdretrieval.ragged import Array
from sdretrieval.teachers.pair_teacher import Pair, PairTeacher
from sdretrieval.teachers.pairs import PairCache
from sdretrieval.teachers.score_file import FEW_PAIRS

LEAST = 1e-5
"""Probabilities are taken to lie this far from 0 and 1 at least: some servers round to four digits."""
logger = logging.getLogger("sdretrieval")


def log_odds(probabilities: Array) -> Array:
    """What a sigmoid was applied to, float32."""
    p = np.clip(probabilities.astype(np.float64), LEAST, 1 - LEAST)
    return np.asarray(np.log(p / (1 - p)), dtype=np.float32)


class RerankerApiTeacher(PairTeacher):
    """Asks a server for the scores of pairs that are not in the cache."""

    asymmetry = "another model reads query and document together, token against token, behind a server"

    def __init__(
        self,
        reranker: Reranker,
        *,
        name: str,
        query_text: Callable[[int], str],
        document_text: Callable[[int], str],
        cache: PairCache,
    ) -> None:
        super().__init__(name=name, query_text=query_text, document_text=document_text, cache=cache)
        self._reranker, self._told = reranker, False

    @property
    def requests(self) -> int:
        """Answered so far."""
        return self._reranker.tally["requests"]

    def _scored(self, count: int, pair: Callable[[int], Pair]) -> Array:
        scores = super()._scored(count, pair)
        least, greatest = self._cache.range()
        if len(self._cache) < FEW_PAIRS or least < 0 or greatest > 1:
            return scores
        if not self._told:
            self._told = True
            logger.info("%s answers in probabilities: their log-odds teach", self.name)
        return log_odds(scores)

    def _score_new(self, keys: Sequence[bytes], pair: Callable[[int], Pair]) -> None:
        reranker, count = self._reranker, len(keys)
        groups = reranker.groups(pair(position)[0] for position in range(count))
        words = sum(word_count(text) for position in range(count) for text in pair(position))
        reranker.say_cost(rerank_cost(count, len(groups), words))

        def keep(group: Sequence[int], scores: Sequence[float]) -> None:
            self._cache.add([keys[position] for position in group], np.asarray(scores, dtype=np.float32))

        with Progress(f"score with {self.name}", count, "pairs") as progress:
            for done in reranker.score(groups, pair, keep):
                progress.advance(done)
        reranker.say_what_it_took()


def rerank_cost(pairs: int, requests: int, words: float) -> Cost:
    """What scoring so many pairs, with so many words of queries and documents, takes."""
    return Cost(f"scores of {quantity(pairs, 'pairs')}", requests, words, "texts")
