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
from sdretrieval.encode.pace import THREADS_VARIABLE
from sdretrieval.encode.student import Student
from sdretrieval.formatting import quantity
from sdretrieval.planner.trials import Calibration, encode_trial, shape
from sdretrieval.ragged import Array

logger = logging.getLogger("sdretrieval")

WORTH = 1.08
"""Ratio of speeds from which the usual is left: below it, noise would decide."""
TIMES = (1, 0.5, 2, 4)
"""Of the usual tokens of a batch; the usual comes first."""
TRIED, ROUNDS = 2, 2
"""Usual batches of each setting: all of them are to be tried in some seconds."""
USABLE = 0.8
"""Share of a GPU's free memory that a batch may take: training, the index and other processes need the rest."""


class Tuning(NamedTuple):
    """What to work with."""

    threads: int
    batch_tokens: int


def tune(student: Student, windows: Sequence[Array], calibration: Calibration, batch_tokens: int | None) -> Tuning:
    """Choose threads and tokens of the student's batches, set the threads for this process, and say so in the log.

    `windows`: token ids of some of the run's; `batch_tokens`: what the config says, None if it leaves that open.
    Vectors from batches of another size are equal up to rounding.
    """
    import torch

    threads, usual = torch.get_num_threads(), usual_batch_tokens(student.model.device.type)
    threads_fixed = THREADS_VARIABLE in os.environ or student.model.device.type != "cpu"
    thread_counts = [threads] if threads_fixed else [count for count in (threads, threads // 2, threads // 4) if count]
    sizes = [batch_tokens] if batch_tokens else [round(usual * times) for times in TIMES]
    before = Tuning(threads, sizes[0])
    if len(thread_counts) == len(sizes) == 1:
        return before

    def seconds(setting: Tuning) -> float:
        """Of a token; infinite if the setting needs more memory than there is (torch raises RuntimeError then)."""
        torch.set_num_threads(setting.threads)
        try:
            figures = encode_trial(student, windows, setting.batch_tokens, "float32", TRIED, ROUNDS)
        except (MemoryError, RuntimeError) as problem:
            if setting == before:  # then the run itself could not encode
                raise
            logger.warning("tuning: batches of %d tokens cannot be tried: %s", setting.batch_tokens, problem)
            return float("inf")
        fits = setting == before or figures["device_bytes"] <= USABLE * free_device_bytes(student.model.device.type)
        return figures["seconds_per_token"] if fits else float("inf")

    def trial() -> dict[str, float]:
        by_threads = {one: seconds(one) for one in (Tuning(count, before.batch_tokens) for count in thread_counts)}
        threads = _fastest(by_threads).threads
        # The fastest of these is known already: timed once more, noise could make another batch look better.
        tried = {one: by_threads.get(one) or seconds(one) for one in (Tuning(threads, size) for size in sizes)}
        chosen = _fastest(tried)
        return {**chosen._asdict(), "times": by_threads[before] / tried[chosen]}

    mean = shape(sum(map(len, windows)) / max(len(windows), 1))
    work = f"threads of {thread_counts} and tokens a batch of {sizes}, windows of about {mean} tokens"
    try:
        figures = calibration.of(work, trial, student.digest)
    finally:
        torch.set_num_threads(threads)
    chosen = Tuning(int(figures["threads"]), int(figures["batch_tokens"]))
    if chosen == before:
        why = f"no other setting tried was {WORTH:g} times as fast"
    else:
        why = f"{figures['times']:.2f} times as fast as {_words(before)}"
    logger.info(
        "tuning: %s: %s; to choose otherwise, set %s and student.batch_tokens", _words(chosen), why, THREADS_VARIABLE
    )
    torch.set_num_threads(chosen.threads)
    return chosen


def free_device_bytes(device: str) -> float:
    """What the GPU has left for this process; infinite on a CPU, whose memory the trial's own peak does not fill."""
    if device != "cuda":
        return float("inf")
    import torch

    torch.cuda.empty_cache()  # what the trial had
    return float(torch.cuda.mem_get_info()[0])


def _words(setting: Tuning) -> str:
    return f"{quantity(setting.threads, 'threads')} and batches of {setting.batch_tokens:,} tokens"


def _fastest(seconds: dict[Tuning, float]) -> Tuning:
    """The fastest, or the first, the usual, if that is nearly as fast."""
    usual = next(iter(seconds))
    best = min(seconds, key=lambda one: seconds[one])
    return best if seconds[usual] >= WORTH * seconds[best] else usual
