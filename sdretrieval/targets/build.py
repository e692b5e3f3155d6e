"""The Targets artifact: what the student is taught, and how much each query counts.

Legend: Q queries, T candidates in all lists together.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import DamagedArtifact, RequestError, WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.calibrate import Statistics, calibrate, check_same_lists, corpus_statistics, reduced
from sdretrieval.targets.false_negatives import (
    FalseNegativeReport,
    Rule,
    Suspicion,
    false_negative_report,
    hard_mask,
    thresholds,
)
from sdretrieval.targets.temperature import clip_spread, entropy, fit_temperature, tempered_log_softmax

logger = logging.getLogger("sdretrieval")

TENSORS, CARD = "targets.safetensors", "targets.json"
BINS = 20


class Histogram(NamedTuple):
    """`counts` lists with an entropy (nats) between neighbouring `edges` (one more than counts)."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Targets:
    """Listwise targets, one list a query.

    `log_probs` float32: log-sum-exp 0 in each list; -inf = excluded, the student's softmax leaves it out too. A list
    without any candidate is possible and has weight 0.
    `hard_negative` bool: may serve as a negative in the hard-label term. `suspicion`: which documents beyond a list may
    not, as the same rule judges them by their score.
    `weight_Q` float32: the query's weight in the loss.
    `temperature`: what the scores were divided by.
    `entropy_histogram`: of the lists, for the report.
    """

    log_probs: Ragged
    hard_negative: Ragged
    suspicion: Suspicion
    weight_Q: NDArray[np.float32]
    temperature: float
    entropy_histogram: Histogram

    def __post_init__(self) -> None:
        check_same_lists("hard_negative", self.hard_negative, "log_probs", self.log_probs)
        if len(self.weight_Q) != len(self.log_probs):
            raise WorkError(f"targets: {len(self.weight_Q)} weights for {len(self.log_probs)} lists")

    def __len__(self) -> int:
        return len(self.log_probs)

    def save(self, folder: Path) -> None:
        """Write `targets.safetensors` and `targets.json` into `folder` (made if it is missing)."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            "log_probs": self.log_probs.values_T,
            "hard_negative": self.hard_negative.values_T,
            "offsets": self.log_probs.offsets,
            "suspect_above": self.suspicion.threshold_Q,
            "suspect_centre": self.suspicion.statistics.centre_Q,
            "suspect_scale": self.suspicion.statistics.scale_Q,
            "weight": self.weight_Q,
        }
        save_file({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, folder / TENSORS)
        card = {
            "schema": 1,
            "queries": len(self),
            "candidates": len(self.log_probs.values_T),
            "temperature": self.temperature,
            "suspect_form": self.suspicion.statistics.form,
            "entropy_histogram": self.entropy_histogram._asdict(),
        }
        (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf8")

    @staticmethod
    def load(folder: Path) -> Targets:
        """Read what `save` wrote. Raises DamagedArtifact if the two files disagree."""
        from safetensors.numpy import load_file

        card = json.loads((folder / CARD).read_text(encoding="utf8"))
        tensors = load_file(folder / TENSORS)
        queries, candidates = len(tensors["weight"]), len(tensors["log_probs"])
        if (queries, candidates) != (card["queries"], card["candidates"]):
            raise DamagedArtifact(
                f"{folder / TENSORS} holds {queries} queries and {candidates} candidates, {CARD} says "
                f"{card['queries']} and {card['candidates']}; delete the folder and make the targets again"
            )
        histogram = card["entropy_histogram"]
        scale = Statistics(tensors["suspect_centre"], tensors["suspect_scale"], card["suspect_form"])
        return Targets(
            log_probs=Ragged(tensors["log_probs"], tensors["offsets"]),
            hard_negative=Ragged(tensors["hard_negative"], tensors["offsets"]),
            suspicion=Suspicion(tensors["suspect_above"], scale),
            weight_Q=tensors["weight"],
            temperature=float(card["temperature"]),
            entropy_histogram=Histogram(tuple(histogram["edges"]), tuple(histogram["counts"])),
        )


def build_targets(
    mixed: Ragged,
    positive: Ragged,
    *,
    temperature: float | Literal["auto"] = "auto",
    target_perplexity: float = 3.0,
    rule: Rule = "none",
    margin: float = 0.05,
    percent: float = 95.0,
    teacher_raw: Ragged | None = None,
    excluded: Ragged | None = None,
    confirmed: Ragged | None = None,
    clip: bool = False,
) -> tuple[Targets, FalseNegativeReport]:
    """Targets of calibrated and mixed scores, and what the false-negative rule removed from the hard-label term.

    `mixed`: the teacher's calibrated scores. `positive` bool: known positives.
    `temperature`: a number, or `auto` = `fit_temperature` to `target_perplexity` (unused otherwise).
    `rule`, `margin`, `percent`: see `hard_mask`.
    `teacher_raw`: one teacher's raw scores, or the mix of members each calibrated over the corpus. If given it is
    min-max calibrated over the corpus and the rule judges on that 0..1 scale (a margin of 0.05 is then a twentieth of
    the teacher's range); otherwise the rule judges on `mixed`. `percent_of_positive` needs it: a share of a z-score
    means nothing.
    `excluded` bool: candidates that leave the teacher's and the student's softmax and the hard-label term.
    `confirmed` bool: candidates that a person found not relevant; no rule takes them out of the hard-label term.
    `clip`: scores too far below a list's best for float32 are raised (`clip_spread`) instead of refused.
    Every query weighs 1, one without any candidate 0.

    Raises RequestError if `teacher_raw` is needed and missing, and what the functions named here raise.
    """
    check_same_lists("positive", positive, "mixed", mixed)
    if teacher_raw is not None:
        check_same_lists("teacher_raw", teacher_raw, "mixed", mixed)
    elif rule == "percent_of_positive":
        raise RequestError(
            "false_negatives.rule percent_of_positive needs scores on the corpus' scale (teacher_raw); per-query "
            "scores have none"
        )
    scores = mixed
    if excluded is not None:
        check_same_lists("excluded", excluded, "mixed", mixed)
        scores = mixed.with_values(np.where(excluded.values_T, -np.inf, mixed.values_T))
    heat = fit_temperature(scores, target_perplexity) if temperature == "auto" else float(temperature)
    if clip:
        scores, clipped = clip_spread(scores, heat)
        if clipped:
            logger.warning(
                "%d of %d lists hold scores over 100 temperatures below their best: the teacher hardly tells that "
                "query's best documents apart, and the others get no probability at all", clipped, len(scores),
            )  # fmt: skip
    log_probs = tempered_log_softmax(scores, heat)
    on_scale, scale = mixed, Statistics(np.zeros(len(mixed)), np.ones(len(mixed)))
    if teacher_raw is not None:  # what stands in for missing pairs does not decide what is usual
        known = teacher_raw if excluded is None else teacher_raw.only(~excluded.values_T)
        scale = corpus_statistics(known)
        on_scale = calibrate(teacher_raw, scale)
    # A positive that the teacher did not score is no measure of the others; it is no negative either.
    scored = positive if excluded is None else positive.with_values(positive.values_T & ~excluded.values_T)
    mask = hard_mask(rule, on_scale, scored, margin, percent, confirmed)
    suspicion = Suspicion(thresholds(rule, on_scale, scored, margin, percent), scale)
    included_T = ~np.isneginf(log_probs.values_T)
    weight_Q = (reduced(np.add, included_T, mixed, 0.0) > 0).astype(np.float32)
    negative = mask.with_values(mask.values_T & included_T & ~positive.values_T)
    # A uniform list's entropy can exceed log K by rounding and would fall out of the last bin.
    highest = float(np.log(max(int(log_probs.lengths.max(initial=0)), 2)))
    counts, edges = np.histogram(np.minimum(entropy(log_probs), highest), bins=BINS, range=(0.0, highest))
    histogram = Histogram(tuple(float(edge) for edge in edges), tuple(int(count) for count in counts))
    targets = Targets(log_probs, negative, suspicion, weight_Q, heat, histogram)
    return targets, false_negative_report(rule, on_scale, scored, margin, percent, confirmed)
