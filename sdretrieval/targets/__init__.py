"""Raw teacher scores -> calibrated, mixed, tempered, weighted distributions. Pure functions over ragged lists."""

from sdretrieval.targets.agreement import agreement_weights, consensus_correlations, list_agreement
from sdretrieval.targets.build import Histogram, Targets, build_targets
from sdretrieval.targets.calibrate import (
    Calibration,
    Statistics,
    apply,
    calibrate,
    check_finite,
    corpus_statistics,
    list_statistics,
    statistics_for,
    top_statistics,
)
from sdretrieval.targets.confidence import (
    QueryWeightReport,
    WeightBy,
    corpus_confidence,
    list_confidence,
    query_trust,
    query_weights,
    ranked_weights,
)
from sdretrieval.targets.false_negatives import FalseNegativeReport, Rule, false_negative_report, hard_mask
from sdretrieval.targets.mix import mix, mix_matrices, normalised
from sdretrieval.targets.shuffle import shuffled_columns, shuffled_within_lists
from sdretrieval.targets.temperature import fit_temperature, perplexity, tempered_log_softmax

__all__ = [
    "Calibration",
    "FalseNegativeReport",
    "Histogram",
    "QueryWeightReport",
    "Rule",
    "Statistics",
    "Targets",
    "WeightBy",
    "agreement_weights",
    "apply",
    "build_targets",
    "calibrate",
    "check_finite",
    "consensus_correlations",
    "corpus_confidence",
    "corpus_statistics",
    "false_negative_report",
    "fit_temperature",
    "hard_mask",
    "list_agreement",
    "list_confidence",
    "list_statistics",
    "mix",
    "mix_matrices",
    "normalised",
    "perplexity",
    "query_trust",
    "query_weights",
    "ranked_weights",
    "shuffled_columns",
    "shuffled_within_lists",
    "statistics_for",
    "tempered_log_softmax",
    "top_statistics",
]
