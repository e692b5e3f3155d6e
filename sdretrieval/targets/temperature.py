"""Soft targets: softmax of the teacher's scores at a temperature (Hinton et al. 2015), over a list (ListNet, Cao 2007).

Legend: Q lists, T candidates in all lists together.
"""

from __future__ import annotations

import numpy as np

from sdretrieval.errors import NumericError, RequestError, WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.calibrate import Floats, per_entry, reduced

MAX_SPREAD = 100.0
"""exp(-100) is near float32's smallest number: beyond it a candidate's probability becomes exactly 0."""

TOLERANCE = 5e-4
"""Half of the promised 0.1 %, so that float32 targets still keep the promise."""


def entropy(log_probs: Ragged) -> Floats:
    """-sum p log p of each list in nats, shape (Q,); an excluded candidate (-inf) adds nothing."""
    logs_T = log_probs.values_T.astype(np.float64)
    terms_T = np.where(np.isneginf(logs_T), 0.0, np.exp(logs_T) * np.where(np.isneginf(logs_T), 0.0, logs_T))
    return np.asarray(np.maximum(-reduced(np.add, terms_T, log_probs, 0.0), 0.0))


def perplexity(log_probs: Ragged) -> Floats:
    """exp(entropy) of each list, shape (Q,): over how many candidates the list is spread (1 = one-hot, K = uniform)."""
    return np.asarray(np.exp(entropy(log_probs)))


def tempered_log_softmax(lists: Ragged, temperature: float) -> Ragged:
    """log p_i = s_i / t - log sum_j exp(s_j / t), float32, computed in float64.

    `lists`: calibrated scores; -inf = excluded, stays -inf and leaves the sum.
    `temperature` t: to 0 the best candidate gets everything, large gives every candidate the same.

    Raises RequestError for a temperature that is not a positive number; NumericError for NaN or +inf among the scores,
    and if a list's spread / temperature exceeds 100, naming the temperature to use.
    """
    if not (np.isfinite(temperature) and temperature > 0):
        raise RequestError(f"temperature is {temperature}, expected a number above 0, or auto")
    _check_scores(lists)
    spreads_Q = _spreads(lists)
    worst = int(np.argmax(spreads_Q)) if len(spreads_Q) else 0
    if len(spreads_Q) and spreads_Q[worst] / temperature > MAX_SPREAD:
        spread = float(spreads_Q[worst])
        least = spread / MAX_SPREAD
        unit = 10.0 ** (np.floor(np.log10(least)) - 2)  # three digits, rounded up
        raise NumericError(
            f"query position {worst}: the list's spread {spread:.4g} / temperature {temperature:.4g} = "
            f"{spread / temperature:.4g}, above {MAX_SPREAD:g}, where a float32 softmax loses candidates; use a "
            f"temperature of at least {np.ceil(least / unit) * unit:.3g} (a higher target_perplexity, if it is auto), "
            "or calibrate: zscore"
        )
    return lists.with_values(log_softmax(lists, temperature).values_T.astype(np.float32))


def clip_spread(lists: Ragged, temperature: float) -> tuple[Ragged, int]:
    """The lists with scores that are further below a list's best than 100 temperatures raised to there, and how many
    lists that changed. Their probability is 0 in float32 either way.

    If a query's best documents score all but the same, z-scores of any other are huge: that is no mistake of the
    user's, and one such query must not stop a run.
    """
    _check_scores(lists)
    changed = int((_spreads(lists) / temperature > MAX_SPREAD).sum())
    if not changed:
        return lists, 0
    values_T = lists.values_T.astype(np.float64)
    floor_Q = reduced(np.maximum, values_T, lists, 0.0) - 0.999 * MAX_SPREAD * temperature
    raised_T = np.where(np.isneginf(values_T), -np.inf, np.maximum(values_T, per_entry(floor_Q, lists)))
    return lists.with_values(raised_T.astype(np.float32)), changed


def fit_temperature(lists: Ragged, target_perplexity: float) -> float:
    """The temperature at which the lists' median perplexity is `target_perplexity`, within 0.1 %.

    A list's perplexity never falls as the temperature rises, nor then does the median: bisection in log space finds
    it. Lists with fewer than two candidates are left out, their perplexity is 1 at any temperature.

    Raises WorkError if no temperature from a thousandth of the smallest spread on gives the target (two candidates
    in a dead heat keep a list at 2 down to nearly 0), with the range that can be had.
    """
    _check_scores(lists)
    included_Q = reduced(np.add, ~np.isneginf(lists.values_T), lists, 0.0)
    usable = Ragged.of([entries for entries, n in zip(lists, included_Q, strict=True) if n >= 2], np.float64)
    if not len(usable):
        raise WorkError("temperature: auto needs a list of two or more candidates, found none; raise mine.keep")
    spreads_Q = _spreads(usable)
    positive = spreads_Q[spreads_Q > 0]
    # A thousandth of the smallest spread is one-hot for nearly any list; ten thousand of the largest is uniform.
    cold, hot = (float(positive.min()) * 1e-3, float(positive.max()) * 1e4) if len(positive) else (1.0, 1.0)
    low, high = _median_perplexity(usable, cold), _median_perplexity(usable, hot)
    if not low * (1 - TOLERANCE) <= target_perplexity <= high * (1 + TOLERANCE):
        raise WorkError(
            f"target_perplexity {target_perplexity:g} cannot be reached: the median over {len(usable)} lists runs from "
            f"{low:.3f} (temperature near 0) to {high:.3f} (every candidate alike); choose a value between, or set "
            "targets.temperature to a number"
        )
    for _ in range(200):
        temperature = float(np.sqrt(cold * hot))
        median = _median_perplexity(usable, temperature)
        if abs(median / target_perplexity - 1.0) <= TOLERANCE:
            break
        cold, hot = (temperature, hot) if median < target_perplexity else (cold, temperature)
    return temperature


def log_softmax(lists: Ragged, temperature: float) -> Ragged:
    """`tempered_log_softmax` in float64 and unchecked: for what is measured, not taught."""
    scaled_T = lists.values_T.astype(np.float64) / temperature
    best_Q = reduced(np.maximum, scaled_T, lists, 0.0)
    shifted_T = scaled_T - per_entry(np.where(np.isneginf(best_Q), 0.0, best_Q), lists)
    total_Q = reduced(np.add, np.exp(shifted_T), lists, 1.0)
    return lists.with_values(shifted_T - per_entry(np.log(np.where(total_Q > 0, total_Q, 1.0)), lists))


def _median_perplexity(lists: Ragged, temperature: float) -> float:
    return float(np.median(perplexity(log_softmax(lists, temperature))))


def _spreads(lists: Ragged) -> Floats:
    values_T = lists.values_T.astype(np.float64)
    best_Q = reduced(np.maximum, values_T, lists, 0.0)
    worst_Q = reduced(np.minimum, np.where(np.isneginf(values_T), np.inf, values_T), lists, 0.0)
    finite_Q = np.isfinite(best_Q) & np.isfinite(worst_Q)
    return np.where(finite_Q, best_Q, 0.0) - np.where(finite_Q, worst_Q, 0.0)


def _check_scores(lists: Ragged) -> None:
    bad_T = np.isnan(lists.values_T) | np.isposinf(lists.values_T)
    if bad_T.any():
        entry = int(np.argmax(bad_T))
        query = int(lists.list_of_entry[entry])
        raise NumericError(
            f"score of query position {query}, candidate position {entry - int(lists.offsets[query])} is "
            f"{lists.values_T[entry]}, expected a finite number (or -inf for an excluded candidate)"
        )
