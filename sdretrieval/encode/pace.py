"""Work that goes far slower than this machine does it: said, and the number of threads chosen again. And memory that
was freed on the way goes back to the system.

If another process uses the same cores, threads wait for each other after every operation: with two threads on a busy
core training took eight times as long as with one.
"""

from __future__ import annotations

import logging
import os
import statistics
import time
from collections.abc import Callable
from types import TracebackType

from sdretrieval.formatting import quantity
from sdretrieval.store.memory import give_back_freed

logger = logging.getLogger("sdretrieval")

THREADS_VARIABLE = "OMP_NUM_THREADS"
"""If the user has set it, no other number of threads is tried."""
SLOW = 2.5
"""Times as long as expected: what texts of other lengths take is well below."""
WORTH = 1.15
"""Ratio of speeds from which fewer threads are kept: below it, noise would decide."""
LOOK_SECONDS, FIRST_LOOKS, PATIENCE = 2.0, 3, 2
"""Work is looked at after so many seconds of it. The first looks say what to expect; so many slow ones in a row count:
one may be a machine that slept."""


class Pace:
    """Watches the seconds that a unit of `what` takes. Use as a context manager and call `step(amount)` between two
    batches or updates, where the number of threads may change: results stay equal up to rounding.

    `expected`: seconds of a unit as the planner measured them on this machine; else the first units say. If the work
    becomes `SLOW` times as slow, a warning says so. On a CPU fewer threads are tried, each on the next units, and the
    fastest go on to the end of this work, when the earlier number comes back. Threads that the user chose stay.
    """

    def __init__(
        self, what: str, device: str, expected: float | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._what, self._device, self._expected, self._clock = what, device, expected, clock
        self._first: list[float] = []
        self._looks = self._slow = 0
        self._amount, self._since = 0.0, clock()
        self._to_try: list[int] = []
        self._tried: dict[int, float] = {}
        self._threads = _threads()

    def __enter__(self) -> Pace:
        self._threads, self._since = _threads(), self._clock()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if _threads() != self._threads:
            _set_threads(self._threads)

    def step(self, amount: float = 1) -> None:
        """So much more is done."""
        self._amount += amount
        now = self._clock()
        if now - self._since < LOOK_SECONDS or not self._amount:
            return
        seconds = (now - self._since) / self._amount
        # Batches of ever other shapes leave holes in memory: in the demo's training 0.9 GB of them after 50 updates.
        give_back_freed()
        self._amount, self._since, self._looks = 0.0, self._clock(), self._looks + 1
        if self._tried:
            self._try_next(seconds)
        elif self._looks > 1:  # the first look holds what is only done once
            self._judge(seconds)

    def _judge(self, seconds: float) -> None:
        if len(self._first) < FIRST_LOOKS:
            self._first.append(seconds)
        usual = statistics.median(self._first)
        expected = min(usual, self._expected or usual)
        self._slow = self._slow + 1 if seconds > SLOW * expected else 0
        if self._slow < PATIENCE:
            return
        threads, fixed = _threads(), THREADS_VARIABLE in os.environ
        self._slow, self._first, self._expected = 0, [seconds], None  # said once, unless it becomes worse again
        against = "than this machine can" if expected < usual else "than at first"
        slower = f"{self._what}: {seconds / expected:.1f} times slower {against}, probably because of other processes"
        if self._device != "cpu":
            logger.warning("%s on this GPU or its machine (nvidia-smi and top show them)", slower)
        elif threads == 1:
            logger.warning("%s on this processor", slower)
        elif fixed:
            logger.warning("%s; threads then wait for each other: %s=1 may be faster", slower, THREADS_VARIABLE)
        else:
            logger.warning("%s; threads then wait for each other, so fewer than %d are tried", slower, threads)
            self._tried = {threads: seconds}
            self._to_try = [threads >> n for n in range(1, threads.bit_length())]
            _set_threads(self._to_try[0])

    def _try_next(self, seconds: float) -> None:
        self._tried[self._to_try.pop(0)] = seconds
        if self._to_try:
            _set_threads(self._to_try[0])
            return
        before, *_ = self._tried
        best = min(self._tried, key=lambda threads: self._tried[threads])
        ratio = self._tried[before] / self._tried[best]
        if ratio < WORTH:
            best = before
            logger.warning("%s: fewer threads are no faster; it goes on with %d", self._what, before)
        else:
            logger.warning(
                "%s: %s %s %.1f times as fast as %d here and now, so it goes on with that; while this machine is "
                "so busy, start with %s=%d",
                self._what, quantity(best, "threads"), "is" if best == 1 else "are", ratio, before,
                THREADS_VARIABLE, best,
            )  # fmt: skip
        self._first, self._tried = [self._tried[best]], {}
        _set_threads(best)


def _threads() -> int:
    import torch

    return torch.get_num_threads()


def _set_threads(count: int) -> None:
    import torch

    torch.set_num_threads(count)
