"""Threads and tokens of a batch with which this machine encodes fastest: tried in a few seconds, never assumed.

In a container that may use fewer cores than it sees, as many threads as cores wait for each other; how many tokens suit
a batch depends on caches, or on how wide a GPU is.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import NamedTuple

from sdretrieval.encode.batches import usual_batch_tokens
from sdretrieval.encode.student import Student
from sdretrieval.planner.speeds import Speeds, shape
from sdretrieval.planner.trials import encode_trial
from sdretrieval.ragged import Array

logger = logging.getLogger("sdretrieval")

WORTH = 1.08
"""Ratio of speeds from which the usual is left: below it, noise would decide."""
TIMES = (0.5, 1, 2, 4)
"""Of the usual tokens of a batch."""
TRIED_TOKENS, ROUNDS = 4096, 2
"""Of each setting: all of them are to be tried in some seconds."""
THREADS_VARIABLE = "OMP_NUM_THREADS"
"""Where the user says how many, nothing is tried."""


class Tuning(NamedTuple):
    """What to work with."""

    threads: int
    batch_tokens: int


def tuned(student: Student, sequences: Sequence[Array], speeds: Speeds, batch_tokens: int | None) -> Tuning:
    """The fastest of some; `batch_tokens`: what the config asks for, None where it leaves that open.

    Vectors from batches of another size are equal up to rounding. The thread count is set for the process.
    """
    import torch

    seen, usual = torch.get_num_threads(), usual_batch_tokens(student.model.device.type)
    fixed = THREADS_VARIABLE in os.environ or student.model.device.type != "cpu"
    mean = shape(sum(map(len, sequences)) / max(len(sequences), 1))
    counts = [seen] if fixed else [count for count in (seen, seen // 2, seen // 4) if count >= 1]
    batches = [batch_tokens or usual]
    if batch_tokens is None:
        batches += [round(usual * times) for times in TIMES if times != 1]
    if len(counts) == len(batches) == 1:
        return Tuning(seen, batches[0])

    def seconds(threads: int, tokens: int) -> float:
        torch.set_num_threads(threads)
        figures = encode_trial(student, sequences, tokens, "float32", max(TRIED_TOKENS, tokens), ROUNDS)
        return figures["seconds_per_token"]

    def trial() -> dict[str, float]:
        threads = _fastest({count: seconds(count, batches[0]) for count in counts})
        tokens = _fastest({size: seconds(threads, size) for size in batches})
        return {"threads": threads, "batch_tokens": tokens}

    try:
        work = f"threads of {counts} and tokens a batch of {batches}, windows of about {mean} tokens"
        found = speeds.of(work, trial, student.digest)
    finally:
        torch.set_num_threads(seen)
    chosen = Tuning(int(found["threads"]), int(found["batch_tokens"]))
    if chosen != (seen, batches[0]):
        logger.info(
            "this machine encodes fastest with %d thread%s and %d tokens a batch (OMP_NUM_THREADS and "
            "student.batch_tokens say otherwise)", chosen.threads, "s" * (chosen.threads != 1), chosen.batch_tokens,
        )  # fmt: skip
    torch.set_num_threads(chosen.threads)
    return chosen


def _fastest(seconds: dict[int, float]) -> int:
    """The fastest, or the first, the usual, where that is nearly as fast."""
    usual = next(iter(seconds))
    best = min(seconds, key=lambda one: seconds[one])
    return best if seconds[usual] >= WORTH * seconds[best] else usual
