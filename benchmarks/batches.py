"""How many documents a batch encodes when its queries are drawn at random, and when they share documents.

    python -m benchmarks.batches RUN [--generation 1]

Reads a run's mined lists: of the documents that the lists of a batch draw, the share that is distinct, over one pass of
all training queries. Each distinct document is encoded once.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Array
from sdretrieval.run.artifacts import find_run
from sdretrieval.run.commands.lineage import lineage
from sdretrieval.run.store import Store
from sdretrieval.training.schedule import sampled_entries, topic_order, visiting_order

SHAPES = ((24, 6), (52, 2), (16, 10))
SEED = 13


def distinct_share(candidates: Candidates, order: Array, queries: int, drawn: int) -> float:
    """Over the whole batches of `order`, distinct documents over drawn ones."""
    shares = []
    for start in range(0, len(order) - queries + 1, queries):
        rows = np.concatenate([_drawn(candidates, int(position), drawn) for position in order[start : start + queries]])
        shares.append(len(np.unique(rows)) / len(rows))
    return float(np.mean(shares))


def _drawn(candidates: Candidates, position: int, wanted: int) -> Array:
    """The documents that a query's first visit brings."""
    rows, positives = candidates.rows[position], np.flatnonzero(candidates.positive[position])
    key = (SEED, int(candidates.query_rows_Q[position]), 0)
    return rows[sampled_entries(len(rows), wanted, positives[:wanted], key)]


def table(candidates: Candidates) -> str:
    """A line for each shape of a batch."""
    count = len(candidates)
    lines = ["| queries x candidates of a batch | at random | by topic |", "|---|---|---|"]
    for queries, drawn in SHAPES:
        orders = visiting_order(count, count, SEED)[0], topic_order(candidates.rows, count, SEED, queries)[0]
        shares = [f"{distinct_share(candidates, order, queries, drawn):.3f}" for order in orders]
        lines.append(f"| {queries} x {drawn} | {' | '.join(shares)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--generation", type=int, default=1)
    asked = parser.parse_args(arguments)
    folder = find_run(asked.run)
    keys = {stage["stage"]: stage["key"] for stage in lineage(str(folder))["stages"]}
    candidates = Candidates.load(Store(folder.parent / "store").path_of(keys[f"{asked.generation}/mine"]))
    print(f"{len(candidates):,} training queries\n\n{table(candidates)}")


if __name__ == "__main__":
    main()
