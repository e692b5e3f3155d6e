"""Queries that were made from documents: how many of each kind, what was dropped, and how true the estimates were."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from sdretrieval.evaluation import Measured
from sdretrieval.evaluation.prediction import predict, unlike
from sdretrieval.report.figures import BASE, Figures
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.probe import by_kind
from sdretrieval.stages.results import Results
from sdretrieval.synthetic_queries import QueryTally
from sdretrieval.synthetic_queries.make import is_synthetic
from sdretrieval.synthetic_queries.trust import doubts, true_gain

HYBRID_WEIGHT = 0.5
"""Of BM25 in hybrid search: `EVIDENCE` is the ratio of the two."""


def synthetic_queries(collection: Collection) -> dict[str, Any]:
    """By split: queries `wanted` and `kept`; by kind what was made, kept and dropped, why; examples. Empty if no
    query was made from a document."""
    return {split: _of(collection, split, collection.tally(split)) for split in collection.kept}


def _of(collection: Collection, split: str, tally: QueryTally) -> dict[str, Any]:
    kept = Counter(collection.generated[split][query].kind for query in collection.kept[split])
    record = tally.to_json()
    return {
        "wanted": collection.wanted(split),
        "kept": sum(kept.values()),
        "kinds": {
            kind: {"made": made, "kept": kept[kind], "dropped": record["dropped"].get(kind, {})}
            for kind, made in record["made"].items()
        },
        "examples": record["examples"],
    }


def is_made(collection: Collection, split: str) -> bool:
    """Whether the queries of a split were made from documents."""
    return any(is_synthetic(query) for query in collection.corpus.qrels[split])


def estimate_against_truth(collection: Collection, figures: Figures, split: str, measure: str) -> dict[str, Any] | None:
    """Each system's difference to the base on generated dev queries beside that on the judged queries of `split`.

    `agreement`: Kendall's tau-b of the systems' order, 1 = the same, -1 = reversed; None for fewer than three systems.
    None altogether if either side is not of its kind: dev is judged, or `split` was made from documents too.
    """
    if not is_made(collection, "dev") or is_made(collection, split):
        return None
    rows = [
        {"system": name, "estimated": _gain(figures.dev, name, measure), "true": _gain(figures.test, name, measure)}
        for name in figures.test
        if name != BASE
    ]
    return {"measure": measure, "rows": rows, "agreement": _tau(rows)}


def trust(results: Results, figures: Figures, measure: str) -> dict[str, Any] | None:
    """How far the estimate on synthetic dev queries may be trusted; None if dev is judged.

    `overlap`: how many of a query's words its document holds, and why. `realism`: by kind how well a classifier tells
    synthetic queries from real ones. `by_kind`: the estimated gain of the final student. `true_gain`: the interval that
    should hold the true one, None for another measure than nDCG@10. `doubts`: why it is not to be trusted. `hybrid`:
    what hybrid search is predicted to gain over the base alone, from queries that people asked; None without any.
    """
    collection = results.base.collection
    kinds, seen = collection.kinds("dev"), collection.signals
    if kinds is None:
        return None
    base, final = (figures.dev[name].of(measure) for name in (BASE, "final"))
    gains = by_kind(base, final, kinds)
    return {
        "overlap": collection.overlap,
        "realism": collection.realism,
        "by_kind": gains,
        "true_gain": list(true_gain(_gain(figures.dev, "final", measure))) if measure == "nDCG@10" else None,
        "doubts": list(doubts(collection.realism, gains)),
        "hybrid": predict(seen, HYBRID_WEIGHT).record() | {"doubts": list(unlike(seen))} if seen else None,
    }


def _gain(measured: Mapping[str, Measured], name: str, measure: str) -> float:
    return measured[name].mean(measure) - measured[BASE].mean(measure)


def _tau(rows: list[dict[str, Any]]) -> float | None:
    from scipy.stats import kendalltau

    if len(rows) < 3:
        return None
    tau = float(kendalltau([row["estimated"] for row in rows], [row["true"] for row in rows]).statistic)
    return None if tau != tau else round(tau, 3)  # NaN if one side knows no order
