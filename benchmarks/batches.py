"""How many documents a batch encodes when its queries are drawn at random, and when they share documents.

    python -m benchmarks.batches RUN [--generation 1]

Reads a run's mined lists: of the documents that the lists of a batch draw, the share that is distinct, over one pass of
all training queries. Each distinct document is encoded once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.finished import artifact_of, asked_run, stages_of
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Array
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
    folder, generation = asked_run(__doc__, arguments)
    candidates = Candidates.load(artifact_of(folder, stages_of(folder), f"{generation}/mine"))
    print(f"{len(candidates):,} training queries\n\n{table(candidates)}")


if __name__ == "__main__":
    main()
