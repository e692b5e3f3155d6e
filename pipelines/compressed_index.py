"""A student for the index that will serve: does it pay to train with the compressed index, or with the exact one?

    python -m pipelines.compressed_index [configs/compressed-index.yaml] [KEY=VALUE ...]

The config is run once with exact search and once with each compressed index: candidates are mined from it, and dev, the
gate and the report measure with it. Then both students are searched through the same compressed index.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

from sdretrieval import load_config, run_config
from sdretrieval.cli.evaluate import evaluate_models
from sdretrieval.cli.logs import quiet_libraries, start_logging
from sdretrieval.config import read_index_section

RECIPES = {"pq16": "{kind: pq, bytes: 16}", "pq32": "{kind: pq, bytes: 32}"}


def main(
    path: str = "configs/compressed-index.yaml", *overrides: str, recipes: dict[str, str] | None = None
) -> list[Sequence[str]]:
    """Train with each index, search with each, compare; the rows of the table."""
    recipes = RECIPES if recipes is None else recipes
    config = load_config(path, overrides)
    names = {"exact": f"{config.name}-exact", **{name: f"{config.name}-{name}" for name in recipes}}
    for name, run in names.items():
        index = recipes.get(name, "{kind: exact}")
        run_config(load_config(path, [*overrides, f"name={run}", f"index={index}"]))

    rows: list[Sequence[str]] = []
    for name, recipe in {"exact": "{kind: exact}", **recipes}.items():
        found = evaluate_models(
            names[name], config.corpus.source, against=list(dict.fromkeys([names["exact"], config.student.model])),
            split=config.evaluate.split, max_tokens=config.student.max_tokens, index=read_index_section(recipe),
        )  # fmt: skip
        measure = config.evaluate.measures[0]
        means = {system: f"{values[measure]:.4f}" for system, values in found["measures"].items()}
        test = next((test for test in found["tests"] if test["b"] == names["exact"]), None)
        gain = "" if test is None else _told(test)
        rows.append((name, means[config.student.model], means[names["exact"]], means[names[name]], gain))
    print(f"{'searched through':18} {'base':>8} {'trained with exact':>20} {'trained with it':>16}   difference")
    for searched, base, exact, own, gain in rows:
        print(f"{searched:18} {base:>8} {exact:>20} {own:>16}   {gain}")
    return rows


def _told(test: dict[str, Any]) -> str:
    low, high = test["interval95"]
    return f"{test['difference']:+.4f} ({low:+.4f} to {high:+.4f}: {test['verdict']})"


if __name__ == "__main__":
    quiet_libraries()
    start_logging(verbose=False)
    main(*sys.argv[1:])
