"""What is shown while long work runs: a progress bar with unit and estimate on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import TYPE_CHECKING, TypeVar

from sdretrieval.formatting import printable

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

logger = logging.getLogger("sdretrieval")
Item = TypeVar("Item")

LOG_EVERY_SECONDS = 30.0
"""Off a terminal: one log line at most this often, so that no long work is silent and no log is flooded."""


_interrupt_wanted = False  # module-wide, as a signal is process-wide


def want_interrupt(wanted: bool = True) -> None:
    """Note that the user wants the process to stop (or, with False, that a new request begins)."""
    global _interrupt_wanted
    _interrupt_wanted = wanted


def check_interrupt() -> None:
    """Raise KeyboardInterrupt if one is wanted and has not come through.

    Python raises it wherever it happens to be, and in a destructor or a library's callback it is swallowed: without
    this a run under load now and then went on to its end.
    """
    if _interrupt_wanted:
        raise KeyboardInterrupt


class Progress:
    """Counts units of work. Use as a context manager and call `advance(n)`.

    On a terminal it draws a rich bar (description, done/total, unit, rate, time left). Elsewhere it writes a log line
    every `LOG_EVERY_SECONDS` and stays silent for shorter work.
    """

    def __init__(self, description: str, total: int | None, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.done = self._resumed = 0
        self._started = self._last_log = time.monotonic()
        self._bar = _rich_bar(description, total, unit) if sys.stderr.isatty() else None

    def __enter__(self) -> Progress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def resume(self, amount: int) -> None:
        """`amount` units were done by an earlier run: they count as done, and not towards the speed."""
        self.done = self._resumed = amount
        if self._bar is not None:
            # A fresh start: rich's estimate looks at the speed since then, not at a jump at the beginning.
            self._bar.reset(self._bar.task_ids[0], completed=amount)

    def advance(self, amount: int = 1) -> None:
        """Report `amount` further units as done. Raises KeyboardInterrupt as `check_interrupt` does."""
        check_interrupt()
        self.done += amount
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=amount)
        elif time.monotonic() - self._last_log >= LOG_EVERY_SECONDS:
            self._last_log = time.monotonic()
            logger.info("%s", self._line())

    def _line(self) -> str:
        seconds = time.monotonic() - self._started
        if not self.total:
            return f"{self.description}: {self.done:,} {self.unit}, {seconds:.0f} s"
        left = seconds / max(self.done - self._resumed, 1) * max(self.total - self.done, 0)
        return (
            f"{self.description}: {self.done:,} of {self.total:,} {self.unit}, {seconds:.0f} s, about {left:.0f} s left"
        )


def track(items: Iterable[Item], description: str, unit: str, total: int | None = None) -> Iterator[Item]:
    """Yield `items`, showing progress as they are consumed."""
    size = len(items) if total is None and isinstance(items, Sized) else total
    with Progress(description, size, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def _rich_bar(description: str, total: int | None, unit: str) -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    bar = RichProgress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(printable(description), total=total)
    return bar
