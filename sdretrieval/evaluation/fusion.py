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
    tops = {query: top_of(hits, depth) for query, hits in dense.items()}
    sigma = mean_spread(np.fromiter(top.values(), np.float64, len(top)) for top in tops.values())
    fused: Run = {}
    for query in dict.fromkeys([*dense, *lexical]):
        top, words = tops.get(query, {}), top_of(lexical.get(query, {}), depth)
        share = strength / norm[query] if norm.get(query, 0.0) > 0 else 0.0
        floors = min(top.values(), default=0.0), min(words.values()) if len(words) == depth else 0.0
        fused[query] = ordered(
            {d: top.get(d, floors[0]) / sigma + share * words.get(d, floors[1]) for d in {**top, **words}}
        )
    return fused


def reciprocal_ranks(runs: Sequence[Scores], depth: int = 100) -> Run:
    """Sum over `runs` of 1 / (60 + rank) for the documents of each one's top `depth` (Cormack et al. 2009)."""
    fused: Run = {}
    for query in dict.fromkeys(query for run in runs for query in run):
        total: dict[str, float] = {}
        for run in runs:
            for rank, document in enumerate(top_of(run.get(query, {}), depth), start=1):
                total[document] = total.get(document, 0.0) + 1 / (RANK_OFFSET + rank)
        fused[query] = ordered(total)
    return fused


def log_odds(runs: Sequence[Scores], depth: int = 100) -> Run:
    """Calibrated log-odds, as txtai fuses "Bayesian BM25" with vectors (neuml/txtai #1041, after Jeong 2026).

    Each run's top `depth` scores of a query become logits (x - median) / standard deviation, of which BM25's are those
    of a sigmoid. A document of every run gets their sum divided by the root of their number, one that a run lacks the
    mean over all runs, with 0 (even odds) for what is lacking.
    """
    fused: Run = {}
    for query in dict.fromkeys(query for run in runs for query in run):
        logits = [_logits(top_of(run.get(query, {}), depth)) for run in runs]
        found: dict[str, list[float]] = {}
        for one in logits:
            for document, logit in one.items():
                found.setdefault(document, []).append(logit)
        every = len(runs)
        fused[query] = ordered(
            {d: sum(of) / (np.sqrt(every) if len(of) == every else every) for d, of in found.items()}
        )
    return fused


def _logits(top: Mapping[str, float]) -> dict[str, float]:
    scores = np.fromiter(top.values(), np.float64, len(top))
    if not len(scores):
        return {}
    centre, deviation = float(np.median(scores)), float(scores.std())
    return {document: (score - centre) / (deviation or 1.0) for document, score in top.items()}


def top_of(hits: Mapping[str, float], depth: int) -> dict[str, float]:
    """The best `depth` hits, best first; equal scores by document id."""
    return dict(sorted(hits.items(), key=lambda hit: (-hit[1], hit[0]))[:depth])


def ordered(scores: Mapping[str, float]) -> dict[str, float]:
    """Best first; equal scores by document id."""
    return {document: float(score) for document, score in sorted(scores.items(), key=lambda hit: (-hit[1], hit[0]))}
