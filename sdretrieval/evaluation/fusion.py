"""Hybrid search: a bi-encoder's run and BM25's, mixed.

`absolute` is how this project mixes. The others are what it is compared with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sdretrieval.errors import RequestError
from sdretrieval.evaluation.runs import Run
from sdretrieval.targets.calibrate import EVIDENCE, mean_spread

Scores = Mapping[str, Mapping[str, float]]
"""A run: query id -> document id -> score."""
RANK_OFFSET = 60
"""Of reciprocal rank fusion (Cormack et al. 2009)."""


def absolute(
    dense: Scores, lexical: Scores, norm: Mapping[str, float], strength: float = EVIDENCE, depth: int = 100
) -> Run:
    """score / sigma + `strength` x BM25 / norm: what the bi-encoder says, moved by the evidence that BM25 has.

    sigma is the mean over queries of the standard deviation of the bi-encoder's top `depth` scores, one number for the
    model. `norm`: by query id, the unit of BM25's scores (`LexicalIndex.norm`), which grows with the root of the number
    of words. Neither looks at how the query's other documents score, so where BM25 knows nothing it changes nothing,
    however sure or unsure the bi-encoder is.

    A document that is in the other run's top `depth` only gets the lowest score of this one's; if BM25 has found fewer
    than `depth`, the others share no word with the query, and have no evidence. The fused list holds every document
    of either top, best first (equal ones by document id).
    Raises RequestError for a strength below 0.
    """
    if not 0 <= strength < float("inf"):
        raise RequestError(f"strength is {strength}, expected 0 (the bi-encoder alone) or more")
    tops = {query: _top(hits, depth) for query, hits in dense.items()}
    sigma = mean_spread(np.fromiter(top.values(), np.float64, len(top)) for top in tops.values())
    fused: Run = {}
    for query in dict.fromkeys([*dense, *lexical]):
        top, words = tops.get(query, {}), _top(lexical.get(query, {}), depth)
        share = strength / norm[query] if norm.get(query, 0.0) > 0 else 0.0
        floors = min(top.values(), default=0.0), min(words.values()) if len(words) == depth else 0.0
        fused[query] = _ordered(
            {d: top.get(d, floors[0]) / sigma + share * words.get(d, floors[1]) for d in {**top, **words}}
        )
    return fused


def reciprocal_ranks(runs: Sequence[Scores], depth: int = 100) -> Run:
    """Sum over `runs` of 1 / (60 + rank) for the documents of each one's top `depth` (Cormack et al. 2009)."""
    fused: Run = {}
    for query in dict.fromkeys(query for run in runs for query in run):
        total: dict[str, float] = {}
        for run in runs:
            for rank, document in enumerate(_top(run.get(query, {}), depth), start=1):
                total[document] = total.get(document, 0.0) + 1 / (RANK_OFFSET + rank)
        fused[query] = _ordered(total)
    return fused


def log_odds(runs: Sequence[Scores], depth: int = 100) -> Run:
    """Calibrated log-odds, as txtai fuses "Bayesian BM25" with vectors (neuml/txtai #1041, after Jeong 2026).

    Each run's top `depth` scores of a query become logits (x - median) / standard deviation, of which BM25's are those
    of a sigmoid. A document of every run gets their sum divided by the root of their number, one that a run lacks the
    mean over all runs, with 0 (even odds) for what is lacking.
    """
    fused: Run = {}
    for query in dict.fromkeys(query for run in runs for query in run):
        logits = [_logits(_top(run.get(query, {}), depth)) for run in runs]
        found: dict[str, list[float]] = {}
        for one in logits:
            for document, logit in one.items():
                found.setdefault(document, []).append(logit)
        every = len(runs)
        fused[query] = _ordered(
            {d: sum(of) / (np.sqrt(every) if len(of) == every else every) for d, of in found.items()}
        )
    return fused


def _logits(top: Mapping[str, float]) -> dict[str, float]:
    scores = np.fromiter(top.values(), np.float64, len(top))
    if not len(scores):
        return {}
    centre, deviation = float(np.median(scores)), float(scores.std())
    return {document: (score - centre) / (deviation or 1.0) for document, score in top.items()}


def _top(hits: Mapping[str, float], depth: int) -> dict[str, float]:
    return dict(sorted(hits.items(), key=lambda hit: (-hit[1], hit[0]))[:depth])


def _ordered(scores: Mapping[str, float]) -> dict[str, float]:
    """Best first; equal scores by document id."""
    return {document: float(score) for document, score in sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))}


def fuse(runs: Sequence[Mapping[str, Mapping[str, float]]], weights: Sequence[float], depth: int = 100) -> Run:
    """Mix the z-scores of `runs` with `weights`.

    For each query, each run's scores are z-scored over its own top `depth`. A document that is in another run's
    top only gets this run's lowest z of the query: it is at most as good as the last one seen. A run whose scores do
    not vary over a query, or that has no hit for it, adds 0 to every document. The fused list holds every document of
    any top, best first (equal ones by document id). Weights are scaled to sum to 1.
    Raises RequestError if weights and runs do not match.
    """
    if not runs or len(runs) != len(weights):
        raise RequestError(f"{len(weights)} weights for {len(runs)} runs: give one weight for each of one or more runs")
    if min(weights) < 0 or sum(weights) <= 0:
        raise RequestError(f"weights {list(weights)}: expected none below 0 and at least one above 0")
    shares = [weight / sum(weights) for weight in weights]
    queries = dict.fromkeys(query for run in runs for query in run)
    return {query: _fused([_z_scores(run.get(query, {}), depth) for run in runs], shares) for query in queries}


def _fused(z_scores: Sequence[Mapping[str, float]], shares: Sequence[float]) -> dict[str, float]:
    lowest = [min(scores.values(), default=0.0) for scores in z_scores]
    documents = {document for scores in z_scores for document in scores}
    mixed = {
        document: sum(
            share * scores.get(document, absent) for share, scores, absent in zip(shares, z_scores, lowest, strict=True)
        )
        for document in documents
    }
    return _ordered(mixed)


def _z_scores(hits: Mapping[str, float], depth: int) -> dict[str, float]:
    top = _top(hits, depth)
    if not top:
        return {}
    scores = np.fromiter(top.values(), np.float64, len(top))
    deviation = scores.std()
    # Equal scores can differ in the last digits; dividing by such a deviation would turn rounding into evidence.
    varies = deviation > 1e-9 * max(1.0, float(np.abs(scores).max()))
    z = (scores - scores.mean()) / deviation if varies else np.zeros_like(scores)
    return dict(zip(top, z.tolist(), strict=True))
