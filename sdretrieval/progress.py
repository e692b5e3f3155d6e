"""Where long work is: its units, the stage that it belongs to, and what is shown of both.

A command draws all of it as one table on a terminal (`sdretrieval.cli.live`). Without that, each piece of work draws a
bar on a terminal, and writes log lines elsewhere.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from sdretrieval.formatting import printable, rough_seconds

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


@dataclass
class RunProgress:
    """Where a run is: the stage that is being made, its place among all, and the work that is going on in it.

    `addresses`: of every stage in running order, as a dry run says. `seconds`: what is predicted of those that are yet
    to be made; None if nothing is. `figures`: what was measured last, by name. `works`: what is going on, the outermost
    first; what an interrupt ended stays, for the message. `drawn`: a table on the terminal shows all this.
    """

    addresses: list[str] = field(default_factory=list)
    seconds: Mapping[str, float] | None = None
    stage: str = ""
    place: int = 0
    figures: dict[str, str] = field(default_factory=dict)
    works: list[Progress] = field(default_factory=list)
    drawn: bool = False
    _began: float = 0.0

    def restart(self) -> None:
        """Another run, or another command, begins."""
        self.addresses, self.seconds, self.stage, self.place = [], None, "", 0
        self.figures.clear()
        self.works.clear()

    def expect(self, addresses: Sequence[str], seconds: Mapping[str, float] | None = None) -> None:
        """The stages of the run that begins, or goes on with better knowledge of what they take."""
        self.addresses, self.seconds = list(addresses), seconds
        self._find_place()

    def begin(self, address: str) -> None:
        """A stage is about to be made, or found; or something else of the run, such as its report. What no dry run
        knows beforehand, such as a merge, has no place of its own."""
        self.stage, self._began = address, time.monotonic()
        self.works.clear()
        self._find_place()

    def _find_place(self) -> None:
        if self.stage in self.addresses:
            self.place = self.addresses.index(self.stage) + 1

    @property
    def elapsed(self) -> float:
        """Seconds since the stage began."""
        return time.monotonic() - self._began

    @property
    def work(self) -> Progress | None:
        """What is going on, or was when it was interrupted: of works in each other the one that holds the others."""
        return next(iter(tuple(self.works)), None)

    def seconds_left(self) -> float | None:
        """Of the whole run, if it was predicted: of this stage by its own pace once that is known."""
        if self.seconds is None:
            return None
        now = self.work.seconds_left() if self.work is not None else None
        if now is None:
            now = max(self.seconds.get(self.stage, 0.0) - self.elapsed, 0.0)
        return now + sum(self.seconds.get(address, 0.0) for address in self.addresses[self.place :])

    def line(self) -> str:
        """`stage 14 of 30, about 6 min left`; nothing if no stage is expected."""
        if not self.place:
            return ""
        left = self.seconds_left()
        return f"stage {self.place} of {len(self.addresses)}" + (f", about {rough_seconds(left)} left" if left else "")

    def stopped_at(self) -> str:
        """` in 1/train (stage 14 of 30) at 20 of 60 updates`, for the message after an interrupt; may be nothing."""
        stage = f" in {self.stage}" if self.stage else ""
        of = f" (stage {self.place} of {len(self.addresses)})" if stage and self.stage in self.addresses else ""
        return stage + of + (f" at {self.work.count()}" if self.work is not None else "")


run_progress = RunProgress()
"""Of this process: it has one terminal, and runs one run at a time."""


def can_draw() -> bool:
    """Whether stderr is a terminal that can draw over what it showed."""
    return sys.stderr.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


class Progress:
    """Counts units of work. Use as a context manager and call `advance(n)`.

    `figures` of the work, such as the loss, are shown beside the count. Without a terminal that is a log line every
    `LOG_EVERY_SECONDS`; shorter work is silent.
    """

    def __init__(self, description: str, total: int | None, unit: str) -> None:
        self.description, self.total, self.unit = description, total, unit
        self.figures: dict[str, str] = {}
        self.done = self._resumed = 0
        self._started = self._last_log = time.monotonic()
        own_bar = can_draw() and not run_progress.drawn
        self._bar = _rich_bar(description, total, unit) if own_bar else None

    def __enter__(self) -> Progress:
        run_progress.works.append(self)
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
        if kind is not KeyboardInterrupt and self in run_progress.works:
            run_progress.works.remove(self)

    def resume(self, amount: int) -> None:
        """`amount` units were done by an earlier run: they count as done, and not towards the speed."""
        self.done = self._resumed = amount
        self._started = time.monotonic()
        if self._bar is not None:
            # A fresh start: rich's estimate looks at the speed since then, not at a jump at the beginning.
            self._bar.reset(self._bar.task_ids[0], completed=amount)

    def advance(self, amount: int = 1) -> None:
        """Report `amount` further units as done. Raises KeyboardInterrupt as `check_interrupt` does."""
        check_interrupt()
        self.done += amount
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=amount)
        elif not run_progress.drawn and time.monotonic() - self._last_log >= LOG_EVERY_SECONDS:
            self._last_log = time.monotonic()
            logger.info("%s", self._line())

    def count(self) -> str:
        """`1,000 of 4,000 windows`."""
        return f"{self.done:,} of {self.total:,} {self.unit}" if self.total else f"{self.done:,} {self.unit}"

    def seconds_left(self) -> float | None:
        """At the pace until now; None without a total, or before the first unit."""
        new = self.done - self._resumed
        if not self.total or not new:
            return None
        return (time.monotonic() - self._started) / new * max(self.total - self.done, 0)

    def _line(self) -> str:
        left = self.seconds_left()
        parts = [
            self.count(),
            f"{time.monotonic() - self._started:.0f} s",
            *([] if left is None else [f"about {left:.0f} s left"]),
            *(f"{name} {value}" for name, value in self.figures.items()),
        ]
        return f"{self.description}: {', '.join(parts)}"


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
