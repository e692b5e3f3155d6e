"""Stage final/probability: from a hit's score to the probability that it is relevant, fitted on dev.

A document that nobody has judged counts as not relevant, as in all measures: where judgements are sparse, probabilities
are rather too low. Without enough judged dev queries, the map is what other collections taught: an estimate.

Legend: Q queries of a split, k hits a query, N hits of all queries.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import RequestError
from sdretrieval.evaluation import brier_score, expected_calibration_error, nauc, reliability, risk_coverage
from sdretrieval.evaluation.gate import ENOUGH
from sdretrieval.files import write_json
from sdretrieval.indexes.hits import PADDING_ROW, Hits, ordered
from sdretrieval.indexes.probability import ProbabilityMap, fit_map, hit_features, prior
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.ragged import Array
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.evaluate import System, read_measured
from sdretrieval.stages.index import open_index
from sdretrieval.stages.lexical import Lexical
from sdretrieval.stages.run import Run
from sdretrieval.stages.search import dense_hits, lexical_hits, lexical_query_removed
from sdretrieval.store import Work
from sdretrieval.store.run_folder import PROBABILITY
from sdretrieval.store.runner import Artifact

logger = logging.getLogger("sdretrieval")

DEPTH = 10
"""Hits of a query that the map is fitted on: those that `search` shows."""
SPREAD_OVER = 100
FOLDS = 5
"""Parts of dev, each of which is measured by a map that the others fitted."""


class JudgedHits(NamedTuple):
    """The best k hits of each query: scores (minus infinity: no hit), coverage, the corpus' best coverage, and whether
    a judgement calls the hits relevant."""

    scores_Qk: Array
    coverage_Qk: Array
    best_Q: Array
    relevant_Qk: NDArray[np.bool_]

    @property
    def features_QkF(self) -> Array:
        """What the map knows of each hit."""
        return hit_features(self.scores_Qk, self.coverage_Qk, self.best_Q)

    def by(self, map_: ProbabilityMap) -> Array:
        """probabilities_Qk."""
        return map_.of(self.scores_Qk, self.coverage_Qk, self.best_Q)

    def without_words(self) -> JudgedHits:
        """The same, their coverage unknown."""
        return self._replace(coverage_Qk=np.zeros_like(self.coverage_Qk), best_Q=np.zeros_like(self.best_Q))


def fit_probabilities(
    run: Run, collection: Collection, lexical: Lexical, vectors: Vectors, index: Artifact, measured: System
) -> Artifact:
    """`probability.json` of the student of `vectors`, measured as the system `measured`: the map fitted on dev, and how
    true its probabilities come on dev (each fold by a map of the other folds) and on the report's split."""
    measure = run.measures[0]

    def build(work: Work) -> None:
        opened = open_index(run, index)
        dev = judged_hits(collection, "dev", lexical, vectors, opened)
        synthetic, split = bool(collection.notes["estimate"]), run.config.evaluate.split
        honest = None if synthetic else cross_fitted(dev, run.config.seed)
        maps = prior(spread_of(collection, vectors, opened)) if honest is None else (fit(dev), fit(dev.without_words()))
        record: dict[str, Any] = {"estimate": honest is None, "queries": len(dev.scores_Qk), "measure": measure}
        record |= {"map": maps[0].to_json(), "without_words": maps[1].to_json(), "figures": {}}
        if honest is not None:
            quality = read_measured(measured.runs["dev"]).of(measure)
            record["figures"]["dev"] = figures(dev, honest, _by_row(collection, "dev", quality))
        if split != "dev":
            hits = judged_hits(collection, split, lexical, vectors, opened)
            quality = read_measured(measured.runs[split]).of(measure)
            record["figures"][split] = figures(hits, hits.by(maps[0]), _by_row(collection, split, quality))
        write_json(work.folder / PROBABILITY, record)
        work.counts["queries"] = sum(len(collection.rows_of(one)) for one in {"dev", split})

    inputs = [vectors, index, lexical, collection.judged, *measured.runs.values()]
    identity = {"split": run.config.evaluate.split, "seed": run.config.seed, "measure": measure}
    return run.runner.stage("final/probability", 5, identity, inputs, build)


def spread_of(collection: Collection, vectors: Vectors, index: VectorIndex) -> float:
    """The mean over dev queries of the standard deviation of the student's `SPREAD_OVER` best scores."""
    scores_Qk = dense_hits(collection, "dev", vectors, index, SPREAD_OVER).scores_Qk
    return float(np.mean([row[np.isfinite(row)].std(dtype=np.float64) for row in scores_Qk]))


def judged_hits(
    collection: Collection, split: str, lexical: Lexical, vectors: Vectors, index: VectorIndex
) -> JudgedHits:
    """A split's hits as `search` would give them, but a query never meets its own document, and one that was made from
    a document meets that without its words."""
    corpus, rows_Q = collection.corpus, collection.rows_of(split)
    found = dense_hits(collection, split, vectors, index, DEPTH + 1)
    own_Qk = found.rows_Qk == collection.own_documents(rows_Q)[:, None]
    scores_Qk = np.where(own_Qk | (found.rows_Qk == PADDING_ROW), -np.inf, found.scores_Qk)
    hits = ordered(Hits(np.where(own_Qk, PADDING_ROW, found.rows_Qk), scores_Qk.astype(np.float32)), DEPTH)
    texts = corpus.query_texts(rows_Q.tolist())
    coverage_Qk, reach_Q = lexical.index.coverage_of(texts, hits.rows_Qk), lexical.index.reach(texts)
    without = lexical_query_removed(collection, split, lexical.index)
    by_words = lexical_hits(collection, split, lexical.index, 2)
    others_Qk = by_words.rows_Qk != collection.own_documents(rows_Q)[:, None]
    best_Q = np.where(others_Qk & (by_words.rows_Qk != PADDING_ROW), by_words.scores_Qk, 0.0).max(axis=1)
    relevant_Qk = np.zeros(hits.rows_Qk.shape, dtype=bool)
    for n, row in enumerate(rows_Q.tolist()):
        judged = corpus.qrels[split][corpus.query_ids[row]]
        positives = [corpus.document_row[d] for d, grade in judged.items() if grade > 0 and d in corpus.document_row]
        relevant_Qk[n] = np.isin(hits.rows_Qk[n], positives)
        if row in without.document:
            coverage_Qk[n, hits.rows_Qk[n] == without.document[row]] = without.score[row] / max(reach_Q[n], 1e-9)
    return JudgedHits(hits.scores_Qk, coverage_Qk, best_Q / np.maximum(reach_Q, 1e-9), relevant_Qk)


def _by_row(collection: Collection, split: str, quality: Mapping[str, float]) -> Array:
    ids = collection.corpus.query_ids
    return np.array([quality[ids[row]] for row in collection.rows_of(split)])


def fit(hits: JudgedHits) -> ProbabilityMap:
    """The map of these hits. Raises RequestError if all are relevant, or none."""
    known_Qk = np.isfinite(hits.scores_Qk)
    return fit_map(hits.features_QkF[known_Qk], hits.relevant_Qk[known_Qk])


def cross_fitted(hits: JudgedHits, seed: int) -> Array | None:
    """probabilities_Qk, each query's by a map fitted on the other folds; None if there are too few queries to fit one,
    or no relevant hit in the other folds."""
    if len(hits.scores_Qk) < ENOUGH:
        return None
    fold_Q = np.random.default_rng([seed, 5]).permutation(len(hits.scores_Qk)) % FOLDS
    probabilities_Qk = np.zeros(hits.scores_Qk.shape)
    for fold in range(FOLDS):
        inside = fold_Q == fold
        try:
            rest = fit(JudgedHits(*(part[~inside] for part in hits)))
        except RequestError:
            return None
        probabilities_Qk[inside] = JudgedHits(*(part[inside] for part in hits)).by(rest)
    return probabilities_Qk


def figures(hits: JudgedHits, probabilities_Qk: Array, quality_Q: Array) -> dict[str, Any]:
    """How true probabilities come, over all hits and over the first ones, beside the score itself cut to 0..1; and how
    well they tell which queries to answer: nAUC by the best hit's score, by its gap to the next, by its probability."""
    known_Qk = np.isfinite(hits.scores_Qk)
    naive_Qk = np.clip(np.where(known_Qk, hits.scores_Qk, 0), 0, 1)
    first_Q = known_Qk[:, 0]
    both = {"score": naive_Qk, "probability": probabilities_Qk}
    lead_Q = hits.features_QkF[:, 0, 1]
    best_Q = probabilities_Qk.max(axis=1)
    confidence = {"score": naive_Qk[:, 0], "gap": lead_Q, "probability": best_Q}
    return {
        "queries": len(quality_Q),
        "hits": int(known_Qk.sum()),
        "error": {
            name: expected_calibration_error(p[known_Qk], hits.relevant_Qk[known_Qk]) for name, p in both.items()
        },
        "brier": {name: brier_score(p[known_Qk], hits.relevant_Qk[known_Qk]) for name, p in both.items()},
        "first_error": {
            name: expected_calibration_error(p[first_Q, 0], hits.relevant_Qk[first_Q, 0]) for name, p in both.items()
        },
        "bins": [list(one) for one in reliability(probabilities_Qk[known_Qk], hits.relevant_Qk[known_Qk])],
        "nauc": {name: nauc(values, quality_Q) for name, values in confidence.items()},
        "answered": [list(point) for point in risk_coverage(best_Q, quality_Q)],
    }
