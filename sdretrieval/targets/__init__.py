"""Raw teacher scores -> calibrated, mixed, tempered, weighted distributions. Pure functions over ragged lists."""

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
from sdretrieval.targets.confidence import corpus_confidence
from sdretrieval.targets.false_negatives import FalseNegativeReport, Rule, false_negative_report, hard_mask
from sdretrieval.targets.mix import mix, mix_matrices, normalised
from sdretrieval.targets.shuffle import shuffled_columns, shuffled_within_lists
from sdretrieval.targets.temperature import fit_temperature, perplexity, tempered_log_softmax

__all__ = [
    "Calibration",
    "FalseNegativeReport",
    "Histogram",
    "Rule",
    "Statistics",
    "Targets",
    "apply",
    "build_targets",
    "calibrate",
    "check_finite",
    "corpus_confidence",
    "corpus_statistics",
    "false_negative_report",
    "fit_temperature",
    "hard_mask",
    "list_statistics",
    "mix",
    "mix_matrices",
    "normalised",
    "perplexity",
    "shuffled_columns",
    "shuffled_within_lists",
    "statistics_for",
    "tempered_log_softmax",
    "top_statistics",
]
