"""A teacher that has learned from judgements, and never scores a query whose judgements it has learned.

On what it has learned it would only repeat the labels, surer than it can be of any other query. So there are two of it:
each learns one half of the judged queries and scores the other half.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from sdretrieval.ragged import Array, Ragged, gathered
from sdretrieval.teachers.pair_teacher import Pair, PairTeacher


class OutOfFoldTeacher:
    """Two teachers of one kind. `learned_by_first`: rows of the queries that `second` scores, since `first` has learned
    them; all others, dev and test among them, `first` scores."""

    def __init__(self, first: PairTeacher, second: PairTeacher, learned_by_first: Collection[int]) -> None:
        self.name = first.name
        self.asymmetry = f"{first.asymmetry}; it has learned judgements, those of other queries than it scores"
        self._halves, self._learned = (first, second), np.asarray(sorted(learned_by_first), dtype=np.int64)

    @property
    def newly_scored(self) -> int:
        """Pairs that were not remembered."""
        return sum(half.newly_scored for half in self._halves)

    def score(self, query_rows_Q: Array, candidates: Ragged) -> Ragged:
        """See Teacher.score."""
        of_second_Q = np.isin(query_rows_Q, self._learned)
        parts = []
        for half, of_half_Q in zip(self._halves, (~of_second_Q, of_second_Q), strict=True):
            here = np.flatnonzero(of_half_Q)
            asked = Ragged.of([candidates[position] for position in here.tolist()], np.int64)
            parts.append((here, half.score(query_rows_Q[here], asked), np.arange(len(here))))
        return gathered(len(candidates), parts, np.float32)

    def score_texts(self, pairs: Sequence[Pair]) -> Array:
        """See PairTeacher.score_texts: of queries that nobody has judged."""
        return self._halves[0].score_texts(pairs)
