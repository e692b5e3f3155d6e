"""What was measured, and every comparison that the report makes of it, all in one Holm family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sdretrieval.evaluation import Measured, family, over_seeds, paired_test
from sdretrieval.stages.evaluate import read_measured
from sdretrieval.stages.results import Results

BASE = "student_0"
ALWAYS_AGAINST = (BASE, "hybrid_0", "hard_labels", "shuffled_teacher")

Pair = tuple[str, str]


@dataclass(frozen=True)
class Figures:
    """Per-query measures of every system on dev and on the report's split, averaged over the seeds that have it.

    `compared`: by (a, b) the paired test of a against b, p adjusted by Holm over all of these. `spread`: by system and
    measure the standard deviation of the seeds' means on the report's split, of systems that several seeds have.
    """

    test: dict[str, Measured]
    dev: dict[str, Measured]
    compared: dict[Pair, dict[str, Any]]
    spread: dict[str, dict[str, float]] = field(default_factory=dict)


def figures_of(results: Results) -> Figures:
    """Read what the evaluate stages wrote, and compare."""
    config = results.run.config
    by_seed_test, by_seed_dev = (
        {name: [read_measured(one.runs[split]) for one in systems] for name, systems in results.by_name.items()}
        for split in (config.evaluate.split, "dev")
    )
    test, dev = ({name: averaged(seeds) for name, seeds in one.items()} for one in (by_seed_test, by_seed_dev))
    spread = {
        name: {measure: over_seeds([one.of(measure) for one in seeds]).spread for measure in seeds[0].per_query}
        for name, seeds in by_seed_test.items()
        if len(seeds) > 1
    }
    return Figures(test, dev, compared(test, config.evaluate.measures[0], config.seed), spread)


def averaged(seeds: Sequence[Measured]) -> Measured:
    """Each query's measures, averaged over the seeds: tests are over queries, on these averages."""
    if len(seeds) == 1:
        return seeds[0]
    names = seeds[0].per_query
    return Measured({name: over_seeds([one.of(name) for one in seeds]).per_query for name in names})


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
