"""Hybrid search by z-scores, as it was mixed until the absolute scale took its place: a side of comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sdretrieval.errors import RequestError
from sdretrieval.evaluation import Run
from sdretrieval.evaluation.fusion import ordered, top_of


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
    return ordered(mixed)


def _z_scores(hits: Mapping[str, float], depth: int) -> dict[str, float]:
    top = top_of(hits, depth)
    if not top:
        return {}
    scores = np.fromiter(top.values(), np.float64, len(top))
    deviation = scores.std()
    # Equal scores can differ in the last digits; dividing by such a deviation would turn rounding into evidence.
    varies = deviation > 1e-9 * max(1.0, float(np.abs(scores).max()))
    z = (scores - scores.mean()) / deviation if varies else np.zeros_like(scores)
    return dict(zip(top, z.tolist(), strict=True))
