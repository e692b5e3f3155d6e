"""What a teacher that costs would spare if it stopped where the top of a list is settled, and what that would lose.

    python -m benchmarks.settled RUN [--generation 1]

Reads a finished run's lists and targets. A list would be scored four candidates at a time, known positives first and
the rest as the student ranks them, until the last four bring less than a share of the probability that the ones before
have; what then lacks a score would be left out of the target. Nothing is scored anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.finished import artifact_of, asked_run, stages_of
from sdretrieval.mining.candidates import Candidates
from sdretrieval.ragged import Array
from sdretrieval.targets.build import Targets

AT_A_TIME = 4
SHARES = (0.2, 0.05, 0.01, 0.001)
"""Scoring stops where the last four have less than this of what came before."""


@dataclass(frozen=True)
class Stopped:
    """Of all lists: pairs left out, mean and 95th percentile of the probability lost, lists whose best is lost."""

    pairs: float
    mean_lost: float
    often_lost: float
    best_lost: float


def stopped(candidates: Candidates, targets: Targets, share: float) -> Stopped:
    """What one share comes to."""
    scored, lost, best = 0, [], 0
    for list_ in range(len(candidates)):
        order = np.lexsort((-candidates.scores[list_], ~candidates.positive[list_]))
        probability = np.exp(targets.log_probs[list_])[order]
        kept = scored_until_settled(probability, share)
        scored += kept
        lost.append(float(probability[kept:].sum()))
        best += int(np.argmax(probability)) >= kept
    count = len(candidates)
    return Stopped(
        1 - scored / len(candidates.rows.values_T), float(np.mean(lost)), float(np.quantile(lost, 0.95)), best / count
    )


def scored_until_settled(probability: Array, share: float) -> int:
    """How many of a list, in the order of scoring, have a score when it is left."""
    for end in range(2 * AT_A_TIME, len(probability), AT_A_TIME):
        before, last = probability[: end - AT_A_TIME].sum(), probability[end - AT_A_TIME : end].sum()
        if last < share * before:
            return end
    return len(probability)


def table(candidates: Candidates, targets: Targets) -> str:
    """A line for each share."""
    lines = [
        "| stops below | pairs left out | probability lost, mean | 95th percentile | lists whose best is lost |",
        "|---|---|---|---|---|",
    ]
    for share in SHARES:
        found = stopped(candidates, targets, share)
        cells = (found.pairs, found.mean_lost, found.often_lost, found.best_lost)
        lines.append(f"| {share:g} | {' | '.join(f'{100 * cell:.1f} %' for cell in cells)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    folder, generation = asked_run(__doc__, arguments)
    stages = stages_of(folder)
    candidates = Candidates.load(artifact_of(folder, stages, f"{generation}/mine"))
    targets = Targets.load(artifact_of(folder, stages, f"{generation}/targets"))
    print(f"{len(candidates):,} lists of {len(candidates.rows.values_T):,} pairs\n\n{table(candidates, targets)}")


if __name__ == "__main__":
    main()
