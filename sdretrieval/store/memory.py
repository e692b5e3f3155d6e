"""The most memory that a piece of work held: its own peak if the system can forget earlier ones (Linux), else that
of the process up to the end of this work."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STATUS, FORGET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass(eq=False)
class Peak:
    """Bytes resident at most; `own` says whether that is the work's own peak and not an earlier one of the process."""

    rss_bytes: int = 0
    own: bool = False

    def note(self) -> None:
        """Take in what the process held since the last reset."""
        self.rss_bytes = max(self.rss_bytes, peak_rss_bytes())


_open: list[Peak] = []
"""Of works that are going on, the innermost last: a reset for an inner one must not lose what an outer one held."""


@contextmanager
def peak_of_work() -> Iterator[Peak]:
    """The peak of what is done inside; it is complete when this ends. Work inside work counts for both.

    It begins with what is in use: memory that earlier work freed goes back to the system first.
    """
    give_back_freed()
    for outer in _open:
        outer.note()
    peak = Peak(own=_forgotten())
    _open.append(peak)
    try:
        yield peak
    finally:
        for one in _open:
            one.note()
        _open.remove(peak)


def give_back_freed() -> None:
    """Give the system what is freed but kept by glibc's allocator, which keeps nearly a GiB after encoding 4,000
    documents: the next work's large buffers do not fit its holes and come on top. Elsewhere nothing happens."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:  # other libraries of C have no such function
        trim(0)


def resident_bytes() -> int:
    """Resident memory of this process now; if the system does not say, the most that it was."""
    return _status_bytes("VmRSS:") or peak_rss_bytes()


def peak_rss_bytes() -> int:
    """Most resident memory of this process, since the last reset if there was one."""
    # Not ru_maxrss if this is to be had: it holds what the process that started this one held at that moment.
    if (high := _status_bytes("VmHWM:")) is not None:
        return high
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def _status_bytes(name: str) -> int | None:
    """A line of the system's account of this process, in bytes."""
    try:
        lines = STATUS.read_text(encoding="utf8").splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), None)


def _forgotten() -> bool:
    """Make the peak what is resident now (`man 5 proc`, clear_refs); False if the system cannot."""
    if _status_bytes("VmHWM:") is None:
        return False
    try:
        FORGET.write_text("5", encoding="utf8")
    except OSError:
        return False
    return True
