"""Which labels are wrong, and which queries are worth a label? What a teacher's scores tell, without any training.

    python -m benchmarks.doubts DATA --vectors FOLDER [--collections a,b]

DATA, FOLDER, train queries, teacher and wrong labels as of `benchmarks.label_noise`. Labels are ordered by the
teacher's and by the base's probability of them, by how far they are behind the best score, and by their rank: AUROC of
wrong against right, and how many of the first `SHOWN` are wrong. A tenth of the queries is picked for labelling, and a
person is shown the first documents of base and teacher.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from benchmarks.label_noise import COLLECTIONS, NOISES, SEED, Case, agreement, corrupted, divergence, load
from benchmarks.probabilities import auroc
from sdretrieval.ragged import Array

SHOWN = 50


def orders_of_labels(scores_QN: Array, labels: list[Array]) -> dict[str, Array]:
    """How much each query's label is doubted (Q,), by each measure."""
    own_Q = np.asarray([scores_N[of].max() for scores_N, of in zip(scores_QN, labels, strict=True)])
    log_sum_Q = np.asarray(torch.logsumexp(torch.from_numpy(scores_QN), 1))
    return {
        "behind the best": scores_QN.max(1) - own_Q,
        "probability": log_sum_Q - own_Q,
        "rank": (scores_QN > own_Q[:, None]).sum(1).astype(np.float64),
    }


def wrong_labels(case: Case) -> str:
    """A table: AUROC and wrong ones among the first, by noise."""
    lines = ["| doubted by | " + " | ".join(f"{kind} {share:g}" for kind, share in NOISES[1:]) + " |"]
    lines.append("|---" * len(NOISES) + "|")
    cells: dict[str, list[str]] = {}
    for kind, share in NOISES[1:]:
        labels, wrong_Q = corrupted(case, kind, share, SEED)
        for name, logits_QN in (("teacher", case.teacher_QN), ("base", case.base_QN)):
            for measure, doubt_Q in orders_of_labels(logits_QN.numpy(), labels).items():
                first = np.argsort(-doubt_Q, kind="stable")[:SHOWN]
                text = f"{auroc(doubt_Q, wrong_Q):.2f}, {wrong_Q[first].mean():.0%}"
                cells.setdefault(f"{name}, {measure}", []).append(text)
    return "\n".join([*lines, *(f"| {name} | {' | '.join(row)} |" for name, row in cells.items())])


def worth_labelling(case: Case) -> str:
    """A table: of the queries that each order picks, whose first document is right, and marks a query."""
    firsts = [logits_QN.argmax(1).numpy() for logits_QN in (case.base_QN, case.teacher_QN)]
    every, teacher_QN = np.arange(len(case.labels)), case.teacher_QN.numpy()
    gap_Q = teacher_QN[every, firsts[1]] - teacher_QN[every, firsts[0]]
    orders = {
        "random": np.random.default_rng(SEED).random(len(every)),
        "the teacher is least sure": np.asarray(case.teacher_QN.softmax(1).max(1).values),
        "fewest of the ten best shared": agreement(case),
        "divergence of the distributions": -divergence(case),
        "divergence, first documents differ": -divergence(case) - (gap_Q > 0),
        "base's first behind the teacher's": -gap_Q,
    }
    right = [np.asarray([d in of for d, of in zip(first, case.labels, strict=True)]) for first in firsts]
    lines = [
        "| picked by | base right | teacher right | only the teacher | neither | marks a query |",
        "|---" * 6 + "|",
    ]
    for name, order_Q in orders.items():
        of = np.argsort(order_Q, kind="stable")[: len(every) // 10]
        base, teacher = right[0][of], right[1][of]
        figures = [base.mean(), teacher.mean(), (teacher & ~base).mean(), (~teacher & ~base).mean()]
        shares = " | ".join(f"{share:.0%}" for share in figures)
        lines.append(f"| {name} | {shares} | {1 + (gap_Q[of] > 0).mean():.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--collections", default=COLLECTIONS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    for name in asked.collections.split(","):
        case = load(asked.data / name, asked.vectors)
        print(
            f"\n{name}: {len(case.labels)} train queries\n\n{wrong_labels(case)}\n\n{worth_labelling(case)}", flush=True
        )


if __name__ == "__main__":
    main()
