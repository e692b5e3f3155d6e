"""How much a query should count: from how sure the teacher is of its list.

Legend: Q queries, T candidates in all lists together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.calibrate import Floats, calibrate, corpus_statistics, mix, reduced

EXAMPLES = 10
BINS = 20


class Distrusted(NamedTuple):
    """A query that counts nothing, and how far it was trusted."""

    query_position: int
    trust: float


@dataclass(frozen=True)
class QueryWeightReport:
    """How queries were weighed, and which of them count nothing.

    `trust_histogram`: how many queries have a trust in each twentieth of 0 to 1, from which to choose `below`.
    `silenced`: queries under `below`; `examples`: those trusted least.
    """

    below: float
    queries: int
    silenced: int
    mean_trust: float
    trust_histogram: tuple[int, ...]
    examples: tuple[Distrusted, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON-ready dictionary."""
        return {**asdict(self), "examples": [list(example) for example in self.examples]}

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> QueryWeightReport:
        """The inverse of `to_json`."""
        examples = tuple(Distrusted(*example) for example in stored["examples"])
        return QueryWeightReport(
            **{**stored, "trust_histogram": tuple(stored["trust_histogram"]), "examples": examples}
        )


def list_confidence(raw: Ragged) -> Floats:
    """How sure a teacher is of each list, 0 to 1, float64 (Q,): the best score less the mean of the others.

    After min-max calibration over the corpus: z-scores of each query would give every list the same spread and erase
    just this. A list of fewer than two candidates has confidence 0. Raises NumericError for scores that are not finite.
    """
    scores = calibrate(raw, corpus_statistics(raw))
    best_Q = reduced(np.maximum, scores.values_T, scores, 0.0)
    others_Q = (reduced(np.add, scores.values_T, scores, 0.0) - best_Q) / np.maximum(scores.lengths - 1, 1)
    return np.where(scores.lengths > 1, best_Q - others_Q, 0.0)


def ranked_weights(trust_Q: Floats) -> Floats:
    """0.5 + (rank - 0.5) / Q: in (0.5, 1.5) with mean 1, float64 (Q,).

    Rank 1 is the least trusted query, equal ones share their mean rank. Bounded whatever the teacher's scale, and no
    query is silenced by its rank alone.
    """
    _, group_Q, count = np.unique(trust_Q, return_inverse=True, return_counts=True)
    mean_ranks_Q = (np.cumsum(count) - (count - 1) / 2)[group_Q].astype(np.float64)
    return np.asarray(0.5 + (mean_ranks_Q - 0.5) / max(len(trust_Q), 1))


def mixture_confidence(raw: Sequence[Ragged], weights: Sequence[float]) -> Floats:
    """How sure the mixture of the members is of each list, 0 to 1, float64 (Q,).

    `raw`: each member's scores, which are calibrated over the corpus. Raises RequestError for bad weights.
    """
    return list_confidence(mix([calibrate(member, corpus_statistics(member)) for member in raw], weights))


def query_weights(trust_Q: Floats, below: float) -> tuple[NDArray[np.float32], QueryWeightReport]:
    """Weights with mean 1 over the queries that count, float32 (Q,), and the report.

    A query trusted less than `below` weighs 0; the others weigh `ranked_weights` of their trust among themselves.

    Raises WorkError if no query is left.
    """
    kept_Q = trust_Q >= below
    if len(trust_Q) and not kept_Q.any():
        raise WorkError(
            f"targets.query_weights.below is {below:g}, but no query is trusted as much: the highest trust of "
            f"{len(trust_Q)} queries is {trust_Q.max():.3f}, the median {np.median(trust_Q):.3f}; lower it"
        )
    weight_Q = np.zeros(len(trust_Q), dtype=np.float32)
    weight_Q[kept_Q] = ranked_weights(trust_Q[kept_Q])
    gone = np.flatnonzero(~kept_Q)
    worst = gone[np.argsort(trust_Q[gone], kind="stable")][:EXAMPLES]
    counts, _ = np.histogram(trust_Q, bins=BINS, range=(0.0, 1.0))
    report = QueryWeightReport(
        below=below,
        queries=len(trust_Q),
        silenced=len(gone),
        mean_trust=float(trust_Q.mean()) if len(trust_Q) else 0.0,
        trust_histogram=tuple(int(count) for count in counts),
        examples=tuple(Distrusted(int(q), float(trust_Q[q])) for q in worst),
    )
    return weight_Q, report
