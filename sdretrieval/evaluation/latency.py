"""How long one call takes, as a user waits for it: one input at a time, after a warm-up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from sdretrieval.errors import RequestError

Input = TypeVar("Input")


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a call: the median, the 95th percentile, and the number of calls timed."""

    p50_ms: float
    p95_ms: float
    n: int


def latency(call: Callable[[Input], Any], inputs: Sequence[Input], repeats: int = 3) -> Latency:
    """Time `call` on each of `inputs`, `repeats` rounds over all of them; one untimed call warms up.

    Raises RequestError if there is no input or no round.
    """
    if not inputs or repeats < 1:
        raise RequestError(f"{len(inputs)} inputs, {repeats} rounds: expected at least one of each to time a call")
    call(inputs[0])
    milliseconds = []
    for item in list(inputs) * repeats:
        started = time.perf_counter()
        call(item)
        milliseconds.append((time.perf_counter() - started) * 1000.0)
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return Latency(float(p50), float(p95), len(milliseconds))
