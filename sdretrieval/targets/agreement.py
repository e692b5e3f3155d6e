"""How far an ensemble's members agree: on a query's list, and each with the others over all lists. No label is read.

Legend: M members, Q lists, T candidates in all lists together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.mix import mix, normalised
from sdretrieval.targets.reduce import Floats, per_entry, reduced
from sdretrieval.targets.temperature import entropy, log_softmax


def list_agreement(members: Sequence[Ragged], weights: Sequence[float], temperature: float) -> Floats:
    """1 - the members' Jensen-Shannon divergence over its greatest value, 0 to 1, float64 (Q,).

    Each member's calibrated scores become a distribution at `temperature`, the targets' own, so that agreement is
    judged where the target has its mass: at the top. With p the weighted mean of the members' p_m,
    JSD = H(p) - sum_m w_m H(p_m), at most H(w) (Lin 1991). Members of weight 0 are not asked; one member alone agrees
    with itself. A list without candidates has agreement 1.

    Raises RequestError for bad weights.
    """
    asked = [(member, weight) for member, weight in zip(members, normalised(weights), strict=True) if weight > 0]
    if len(asked) < 2:
        return np.ones(len(members[0]))
    logs = [log_softmax(member, temperature) for member, _ in asked]
    shares_M = np.asarray([weight for _, weight in asked])
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

    Raises WorkError for fewer than two members, and where no list has 3 candidates.
    """
    if len(members) < 2:
        raise WorkError("weights_by: agreement needs two members or more, found one")
    long_Q = members[0].lengths >= 3
    if not long_Q.any():
        raise WorkError(
            "weights_by: agreement needs lists of 3 candidates or more, found none; raise mine.keep, or give weights"
        )
    found = []
    for number, member in enumerate(members):
        others = [other for place, other in enumerate(members) if place != number]
        found.append(float(rank_correlations(member, mix(others, [1.0] * len(others)))[long_Q].mean()))
    return np.asarray(found)


def rank_correlations(one: Ragged, other: Ragged) -> Floats:
    """Spearman's rank correlation of two scorings of each list, 0 where either has no order, float64 (Q,)."""
    a_T, b_T = _centred_ranks(one), _centred_ranks(other)
    products_Q = reduced(np.add, a_T * b_T, one, 0.0)
    lengths_Q = np.sqrt(reduced(np.add, a_T**2, one, 0.0) * reduced(np.add, b_T**2, one, 0.0))
    return np.asarray(np.where(lengths_Q > 0, products_Q / np.where(lengths_Q > 0, lengths_Q, 1.0), 0.0))


def _centred_ranks(lists: Ragged) -> NDArray[np.float64]:
    from scipy.stats import rankdata

    parts = [rankdata(entries) if len(entries) else entries for entries in lists]
    ranks_T = Ragged.of(parts, np.float64).values_T
    middle_Q = (lists.lengths + 1) / 2.0
    return np.asarray(ranks_T - per_entry(middle_Q, lists))


def agreement_weights(correlations_M: Floats) -> Floats:
    """Weights in proportion to the correlations, those below 0 cut to 0; they sum to 1, float64 (M,).

    Raises WorkError where no member agrees with the others at all.
    """
    kept_M = np.maximum(correlations_M, 0.0)
    if kept_M.sum() <= 0:
        raise WorkError(
            "weights_by: agreement: no member agrees with the others (mean rank correlations "
            f"{', '.join(f'{found:.2f}' for found in correlations_M)}); give the members weights, or set "
            "weights_by: dev"
        )
    return np.asarray(kept_M / kept_M.sum())
