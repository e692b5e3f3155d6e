"""Evaluation: BEIR's measures by query, paired tests and intervals, hybrid search, calibration, abstention, latency."""

from sdretrieval.evaluation.abstention import Answered, nauc, risk_coverage
from sdretrieval.evaluation.calibration import Bin, brier_score, expected_calibration_error, reliability
from sdretrieval.evaluation.fusion import absolute, log_odds, reciprocal_ranks
from sdretrieval.evaluation.latency import Latency, latency
from sdretrieval.evaluation.measures import Measure, Measured, evaluate
from sdretrieval.evaluation.overlap import BySeen, by_seen, queries_with_seen_positives
from sdretrieval.evaluation.runs import Run, encoded_ids, read_trec, run_from_hits, write_trec
from sdretrieval.evaluation.significance import (
    PairedTest,
    SeedAverage,
    detectable_gain,
    family,
    holm,
    interval,
    over_seeds,
    paired_differences,
    paired_test,
    verdict,
)

__all__ = [
    "Answered",
    "Bin",
    "BySeen",
    "Latency",
    "Measure",
    "Measured",
    "PairedTest",
    "Run",
    "SeedAverage",
    "absolute",
    "brier_score",
    "by_seen",
    "detectable_gain",
    "encoded_ids",
    "evaluate",
    "expected_calibration_error",
    "family",
    "holm",
    "interval",
    "latency",
    "log_odds",
    "nauc",
    "over_seeds",
    "paired_differences",
    "paired_test",
    "queries_with_seen_positives",
    "read_trec",
    "reciprocal_ranks",
    "reliability",
    "risk_coverage",
    "run_from_hits",
    "verdict",
    "write_trec",
]
