"""How much a query should count: from how sure the teacher is of its list, and how far its members agree on it.

Legend: M members, Q queries, T candidates in all lists together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.calibrate import Floats, calibrate, corpus_statistics, mix, normalised, per_entry, reduced
from sdretrieval.targets.temperature import entropy, log_softmax

WeightBy = Literal["none", "confidence", "agreement", "both"]
EXAMPLES = 10
BINS = 20


class Distrusted(NamedTuple):
    """A query that counts nothing, and how far it was trusted."""

    query_position: int
    trust: float


@dataclass(frozen=True)
class QueryWeightReport:
    """What queries were weighed by, and which of them count nothing.

    `trust_histogram`: how many queries have a trust in each twentieth of 0 to 1, from which to choose `below`.
    `silenced`: queries under `below`; `examples`: those trusted least.
    """

    by: str
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


def query_trust(
    by: WeightBy, raw: Sequence[Ragged], calibrated: Sequence[Ragged], weights: Sequence[float], temperature: float
) -> Floats:
    """How far each query's target is trusted, 0 to 1, float64 (Q,).

    `confidence`: of the mixture of the members' `raw` scores, each calibrated over the corpus; `agreement`: of the
    members' `calibrated` scores at the targets' `temperature`; `both`: the product; `none`: 1.
    """
    trust_Q = np.ones(len(raw[0]))
    if by in ("confidence", "both"):
        trust_Q = trust_Q * list_confidence(mix([calibrate(m, corpus_statistics(m)) for m in raw], weights))
    if by in ("agreement", "both"):
        trust_Q = trust_Q * list_agreement(calibrated, weights, temperature)
    return trust_Q


def query_weights(by: WeightBy, trust_Q: Floats, below: float) -> tuple[NDArray[np.float32], QueryWeightReport]:
    """Weights with mean 1 over the queries that count, float32 (Q,), and the report.

    A query trusted less than `below` weighs 0; the others weigh `ranked_weights` of their trust among themselves.

    Raises WorkError if no query is left.
    """
    kept_Q = trust_Q >= below
    if len(trust_Q) and not kept_Q.any():
        raise WorkError(
            f"targets.query_weights.below is {below:g}, but no query is trusted as much by {by}: the highest trust of "
            f"{len(trust_Q)} queries is {trust_Q.max():.3f}, the median {np.median(trust_Q):.3f}; lower it"
        )
    weight_Q = np.zeros(len(trust_Q), dtype=np.float32)
    weight_Q[kept_Q] = ranked_weights(trust_Q[kept_Q])
    gone = np.flatnonzero(~kept_Q)
    worst = gone[np.argsort(trust_Q[gone], kind="stable")][:EXAMPLES]
    counts, _ = np.histogram(trust_Q, bins=BINS, range=(0.0, 1.0))
    report = QueryWeightReport(
        by=by,
        below=below,
        queries=len(trust_Q),
        silenced=len(gone),
        mean_trust=float(trust_Q.mean()) if len(trust_Q) else 0.0,
        trust_histogram=tuple(int(count) for count in counts),
        examples=tuple(Distrusted(int(q), float(trust_Q[q])) for q in worst),
    )
    return weight_Q, report


def list_agreement(members: Sequence[Ragged], weights: Sequence[float], temperature: float) -> Floats:
    """1 - the members' Jensen-Shannon divergence over its greatest value, 0 to 1, float64 (Q,).

    Each member's calibrated scores become a distribution at `temperature`, the targets' own, so that agreement is
    judged where the target has its mass: at the top. With p the weighted mean of the members' p_m,
    JSD = H(p) - sum_m w_m H(p_m), at most H(w) (Lin 1991). Members of weight 0 do not count; one member alone agrees
    with itself. A list without candidates has agreement 1.

    Raises RequestError for bad weights.
    """
    weighted = [(member, weight) for member, weight in zip(members, normalised(weights), strict=True) if weight > 0]
    if len(weighted) < 2:
        return np.ones(len(members[0]))
    logs = [log_softmax(member, temperature) for member, _ in weighted]
    shares_M = np.asarray([weight for _, weight in weighted])
    mean_T = sum(w * np.exp(log.values_T.astype(np.float64)) for w, log in zip(shares_M, logs, strict=True))
    with np.errstate(divide="ignore"):
        mixed = entropy(members[0].with_values(np.log(np.asarray(mean_T))))
    divergence_Q = mixed - sum(w * entropy(log) for w, log in zip(shares_M, logs, strict=True))
    greatest = -float((shares_M * np.log(shares_M)).sum())
    return np.clip(1.0 - np.asarray(divergence_Q) / greatest, 0.0, 1.0)


def consensus_correlations(members: Sequence[Ragged]) -> Floats:
    """Each member's mean rank correlation with the even mixture of the *other* members, over the lists, float64 (M,).

    `members`: calibrated scores. Spearman's, ties sharing their mean rank; lists of fewer than 3 candidates are left
    out, and a list in which either side gives every candidate the same score counts 0: it says nothing of an order.

    Raises WorkError for fewer than two members, and if no list has 3 candidates.
    """
    if len(members) < 2:
        raise WorkError("weights_by: agreement needs two members or more, found one")
    long_Q = members[0].lengths >= 3
    if not long_Q.any():
        raise WorkError(
            "weights_by: agreement needs lists of 3 candidates or more, found none; raise mine.keep, or give weights"
        )
    correlations = []
    for number, member in enumerate(members):
        others = [other for place, other in enumerate(members) if place != number]
        correlations.append(float(rank_correlations(member, mix(others, [1.0] * len(others)))[long_Q].mean()))
    return np.asarray(correlations)


def rank_correlations(one: Ragged, other: Ragged) -> Floats:
    """Spearman's rank correlation of two scorings of each list, 0 if either has no order, float64 (Q,)."""
    from scipy.stats import rankdata

    # Ranks less their mean, ties sharing theirs: the correlation is their inner product over both lengths.
    middle_T = per_entry((one.lengths + 1) / 2.0, one)
    a_T, b_T = (
        Ragged.of([rankdata(entries) if len(entries) else entries for entries in lists], np.float64).values_T - middle_T
        for lists in (one, other)
    )
    products_Q = reduced(np.add, a_T * b_T, one, 0.0)
    lengths_Q = np.sqrt(reduced(np.add, a_T**2, one, 0.0) * reduced(np.add, b_T**2, one, 0.0))
    return np.asarray(np.where(lengths_Q > 0, products_Q / np.where(lengths_Q > 0, lengths_Q, 1.0), 0.0))


def agreement_weights(correlations_M: Floats) -> Floats:
    """Weights in proportion to the correlations, those below 0 cut to 0; they sum to 1, float64 (M,).

    Raises WorkError if no member agrees with the others at all.
    """
    kept_M = np.maximum(correlations_M, 0.0)
    if kept_M.sum() <= 0:
        raise WorkError(
            "weights_by: agreement: no member agrees with the others (mean rank correlations "
            f"{', '.join(f'{value:.2f}' for value in correlations_M)}); give the members weights, or set "
            "weights_by: dev"
        )
    return np.asarray(kept_M / kept_M.sum())
