"""The probability that a hit is relevant, from what is known when it is served: a logistic map of a few numbers.

    p = 1 / (1 + exp(-(bias + sum of weight * feature)))

* `score`: the student's;
* `lead`: the distance to the query's best other hit: the gap to the next one for the first hit, below 0 for others;
* `coverage`: BM25's score as a share of what the query's words could reach;
* `agreement`: how far this coverage is behind the corpus' best: 0 for BM25's own first hit, below 0 for others.

No weight is below 0, so that a hit whose score rises never becomes less probable.

Legend: Q queries, k hits a query, N hits, F features.

Paper: Platt 1999, Probabilistic Outputs for Support Vector Machines.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.files import record_of
from sdretrieval.indexes.hits import Hits
from sdretrieval.indexes.lexical import LexicalIndex

Values = NDArray[np.float64]


@dataclass(frozen=True)
class ProbabilityMap:
    """The map's numbers; see the formula above."""

    bias: float
    score: float
    lead: float
    coverage: float
    agreement: float

    def of(self, scores_Qk: ArrayLike, coverage_Qk: ArrayLike, best_Q: ArrayLike) -> Values:
        """probabilities_Qk of hits; 0 for padding, whose score is minus infinity. `best_Q`: best coverage of all."""
        features_QkF = hit_features(scores_Qk, coverage_Qk, best_Q)
        with np.errstate(invalid="ignore"):
            logits = self.bias + features_QkF @ np.array([self.score, self.lead, self.coverage, self.agreement])
        return np.where(np.isneginf(np.asarray(scores_Qk, dtype=np.float64)), 0.0, _logistic(logits))

    @property
    def reads_words(self) -> bool:
        """Whether BM25's coverage makes any difference."""
        return self.coverage > 0 or self.agreement > 0

    def to_json(self) -> dict[str, float]:
        """As a JSON object."""
        return asdict(self)

    @staticmethod
    def from_json(record: Any) -> ProbabilityMap:
        """What `to_json` gave. Raises DamagedArtifact if it is something else, or not monotone."""
        return record_of(json.dumps(record), ProbabilityMap, "the map from scores to probabilities").check()

    def check(self) -> ProbabilityMap:
        """Itself. Raises DamagedArtifact if it is not monotone."""
        values = list(asdict(self).values())
        if not all(map(math.isfinite, values)) or min(values[1:]) < 0:
            raise DamagedArtifact(f"the map from scores to probabilities has {values}: expected finite weights from 0")
        return self


PRIOR = ProbabilityMap(bias=-0.81, score=0.0, lead=0.48, coverage=2.0, agreement=12.3)
PRIOR_WITHOUT_WORDS = ProbabilityMap(bias=-1.34, score=0.0, lead=0.86, coverage=0.0, agreement=0.0)
"""The maps without judged queries: of other collections (docs/probability.md), leads in units of `spread`."""


def prior(spread: float) -> tuple[ProbabilityMap, ProbabilityMap]:
    """The map, and the one without words, of a student whose best scores are `spread` apart: the mean over queries of
    the standard deviation of the 100 best scores, by which a lead means the same for every student."""
    unit = max(spread, 1e-9)
    return replace(PRIOR, lead=PRIOR.lead / unit), replace(PRIOR_WITHOUT_WORDS, lead=PRIOR_WITHOUT_WORDS.lead / unit)


@dataclass(frozen=True)
class Probabilities:
    """What turns the hits of a search into probabilities: the map, and BM25 for the coverage that it was fitted with
    (None: without it). `estimate`: not fitted on judged queries of this corpus, but the prior."""

    map: ProbabilityMap
    lexical: LexicalIndex | None
    estimate: bool

    def of(self, query_texts: Sequence[str], hits: Hits) -> Values:
        """probabilities_Qk. `hits` must be `hits_needed` of each query: the first's lead is its gap to the second."""
        if self.lexical is None:
            return self.map.of(hits.scores_Qk, np.zeros(hits.rows_Qk.shape), np.zeros(len(query_texts)))
        coverage_Qk = self.lexical.coverage_of(query_texts, hits.rows_Qk)
        return self.map.of(hits.scores_Qk, coverage_Qk, self.lexical.best_coverage(query_texts))


def hits_needed(k: int) -> int:
    """How many hits to search for if k are shown."""
    return max(k, 2) if k > 0 else k


def hit_features(scores_Qk: ArrayLike, coverage_Qk: ArrayLike, best_Q: ArrayLike) -> Values:
    """features_QkF: score, lead, coverage, agreement of each hit, as 64-bit numbers. A lead over nobody is 0."""
    scores, coverage = np.asarray(scores_Qk, dtype=np.float64), np.asarray(coverage_Qk, dtype=np.float64)
    lead = np.zeros_like(scores)
    if scores.shape[1] > 1:
        ordered = np.sort(scores, axis=1)
        best, second = ordered[:, -1:], ordered[:, -2:-1]
        first = np.arange(scores.shape[1]) == scores.argmax(axis=1)[:, None]
        with np.errstate(invalid="ignore"):
            lead = scores - np.where(first, second, best)
        lead[~np.isfinite(lead)] = 0.0  # the other is padding
    return np.stack([scores, lead, coverage, coverage - np.asarray(best_Q)[:, None]], axis=-1)


def fit_map(features_NF: Values, relevant_N: NDArray[np.bool_]) -> ProbabilityMap:
    """The most probable map, weights from 0 (L-BFGS-B), given hits and whether they are relevant.

    Before any hit is seen, weights of features with standard deviation 1 are taken to be normal with variance 1, which
    hundreds of hits outweigh. Raises RequestError if all hits are relevant or none is: then no map can be fitted.
    """
    from scipy.optimize import minimize

    if not 0 < relevant_N.sum() < len(relevant_N):
        raise RequestError(f"{int(relevant_N.sum())} of {len(relevant_N)} hits are relevant: expected some and not all")
    mean_F, scale_F = features_NF.mean(axis=0), features_NF.std(axis=0)
    scale_F[scale_F < 1e-9] = 1.0
    x_NF, sign_N = (features_NF - mean_F) / scale_F, np.where(relevant_N, 1.0, -1.0)

    def loss(parameters: Values) -> tuple[float, Values]:
        margins_N = sign_N * (parameters[0] + x_NF @ parameters[1:])
        pull_N = -sign_N * _logistic(-margins_N) / len(sign_N)
        ridge_F = parameters[1:] / len(sign_N)
        gradient = np.concatenate([[pull_N.sum()], pull_N @ x_NF + ridge_F])
        return float(np.logaddexp(0, -margins_N).mean() + parameters[1:] @ ridge_F / 2), gradient

    start = np.zeros(1 + x_NF.shape[1])
    bounds = [(None, None), *[(0, None)] * x_NF.shape[1]]
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    weights_F = found[1:] / scale_F
    return ProbabilityMap(float(found[0] - weights_F @ mean_F), *map(float, weights_F))


def _logistic(logits: Values) -> Values:
    from scipy.special import expit

    return np.asarray(expit(logits))
