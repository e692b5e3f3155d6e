"""What was measured, and every comparison that the report makes of it, all in one Holm family."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import stdev
from typing import Any

from sdretrieval.evaluation import Measured, family, over_seeds, paired_test
from sdretrieval.stages.evaluate import SMALLER, read_measured
from sdretrieval.stages.results import Results

BASE = "student_0"
ALWAYS_AGAINST = (
    BASE, "half_0", "hybrid_0", "hybrid_dev", "hybrid_rrf", "hybrid_log_odds", "hard_labels", "shuffled_teacher",
)  # fmt: skip

Pair = tuple[str, str]


@dataclass(frozen=True)
class Figures:
    """Per-query measures of every system on dev and on the report's split, averaged over the seeds that have it.

    `compared`: by (a, b) the paired test of a against b, p adjusted by Holm over all of these. `by_seed`: of systems
    that several seeds have, each measure's mean on the report's split by seed; `spread`: their standard deviation.
    """

    test: dict[str, Measured]
    dev: dict[str, Measured]
    compared: dict[Pair, dict[str, Any]]
    by_seed: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)

    @property
    def spread(self) -> dict[str, dict[str, float]]:
        """By system and measure."""
        return {
            name: {measure: stdev(seeds.values()) for measure, seeds in measures.items()}
            for name, measures in self.by_seed.items()
        }


def figures_of(results: Results) -> Figures:
    """Read what the evaluate stages wrote, and compare."""
    config = results.run.config
    tests, devs = (
        {
            name: {one.mark.removeprefix("@") or str(config.seed): read_measured(one.runs[split]) for one in systems}
            for name, systems in results.by_name.items()
        }
        for split in (config.evaluate.split, "dev")
    )
    test, dev = ({name: averaged(list(seeds.values())) for name, seeds in one.items()} for one in (tests, devs))
    by_seed = {
        name: {measure: {seed: one.mean(measure) for seed, one in seeds.items()} for measure in test[name].per_query}
        for name, seeds in tests.items()
        if len(seeds) > 1
    }
    return Figures(test, dev, compared(test, config.evaluate.measures[0], config.seed), by_seed)


def averaged(seeds: Sequence[Measured]) -> Measured:
    """Each query's measures, averaged over the seeds: tests are over queries, on these averages."""
    if len(seeds) == 1:
        return seeds[0]
    names = seeds[0].per_query
    return Measured({name: over_seeds([one.of(name) for one in seeds]).per_query for name in names})


def final_pairs(systems: Mapping[str, Measured]) -> list[Pair]:
    """`report.json`'s tests: final against what it must beat, hybrid against hybrid, and smaller students against
    final."""
    smaller = [(name, "final") for name in systems if name.startswith(SMALLER)]
    final = [("final", other) for other in ALWAYS_AGAINST if other in systems]
    return [*final, ("hybrid_final", "hybrid_0"), *smaller]


def compared(systems: Mapping[str, Measured], measure: str, seed: int) -> dict[Pair, dict[str, Any]]:
    """The tests of `report.json` and those of the table (each system against the base) by `measure`.

    A pair that is in both is one comparison, and Holm's correction goes over all of them: the headline, the table
    and the tests say the same p.
    """
    pairs = dict.fromkeys([*final_pairs(systems), *((name, BASE) for name in systems if name != BASE)])
    tests = {(a, b): paired_test(systems[a].of(measure), systems[b].of(measure), seed) for a, b in pairs}
    return {(row["a"], row["b"]): row for row in family(tests, measure)}
