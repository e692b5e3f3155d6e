"""What was measured, and every comparison that the report makes of it, all in one Holm family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sdretrieval.evaluation import Measured, family, paired_test
from sdretrieval.stages.evaluate import read_measured
from sdretrieval.stages.results import Results

BASE = "student_0"
ALWAYS_AGAINST = (
    BASE, "hybrid_0", "hybrid_dev", "hybrid_rrf", "hybrid_log_odds", "hard_labels", "shuffled_teacher",
)  # fmt: skip

Pair = tuple[str, str]


@dataclass(frozen=True)
class Figures:
    """Per-query measures of every system on dev and on the report's split.

    `compared`: by (a, b) the paired test of a against b, p adjusted by Holm over all of these.
    """

    test: dict[str, Measured]
    dev: dict[str, Measured]
    compared: dict[Pair, dict[str, Any]]


def figures_of(results: Results) -> Figures:
    """Read what the evaluate stages wrote, and compare."""
    config = results.run.config
    test, dev = (
        {system.name: read_measured(system.runs[split]) for system in results.systems}
        for split in (config.evaluate.split, "dev")
    )
    return Figures(test, dev, compared(test, config.evaluate.measures[0], config.seed))


def final_pairs(systems: Mapping[str, Measured]) -> list[Pair]:
    """`report.json`'s tests: final against what it must beat, then hybrid against hybrid."""
    return [*(("final", other) for other in ALWAYS_AGAINST if other in systems), ("hybrid_final", "hybrid_0")]


def compared(systems: Mapping[str, Measured], measure: str, seed: int) -> dict[Pair, dict[str, Any]]:
    """The tests of `report.json` and those of the table (each system against the base) by `measure`.

    A pair that is in both is one comparison, and Holm's correction goes over all of them: the headline, the table
    and the tests say the same p.
    """
    pairs = dict.fromkeys([*final_pairs(systems), *((name, BASE) for name in systems if name != BASE)])
    tests = {(a, b): paired_test(systems[a].of(measure), systems[b].of(measure), seed) for a, b in pairs}
    return {(row["a"], row["b"]): row for row in family(tests, measure)}
