"""What is shown of long work: one line a stage that was made, and while it runs a progress bar with unit and estimate
on a terminal, log lines elsewhere."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

logger = logging.getLogger("sdretrieval")
Item = TypeVar("Item")

LOG_EVERY_SECONDS = 30.0
"""Off a terminal: one log line at most this often, so that no long work is silent and no log is flooded."""

STAGE_COUNTS: dict[str, dict[str, str]] = {
    "corpus": {
        "documents": "{:,} documents", "train_queries": "{:,} train queries", "dev_queries": "{:,} dev queries",
    },
    "queries": {"train_kept": "{:,} synthetic train queries", "dev_kept": "{:,} synthetic dev queries"},
    "verdicts": {"relevant": "{:,} relevant", "refused": "{:,} not relevant", "idle": "{:,} without effect"},
    "tokens": {
        "document_tokens": "{:,} tokens of documents", "query_tokens": "{:,} of queries",
        "documents_reused": "{:,} documents reused",
    },
    "encode": {
        "document_windows": "{:,} windows of documents", "query_windows": "{:,} of queries",
        "document_windows_reused": "{:,} reused",
    },
    "refresh": {"documents_encoded": "{:,} documents encoded again"},
    "index": {"vectors": "{:,} vectors", "recall_at_100": "recall@100 {:.3f}"},
    "score": {"pairs": "{:,} scores", "newly_scored_pairs": "{:,} new", "missing_pairs": "{:,} missing"},
    "targets": {
        "lists": "{:,} lists", "temperature": "temperature {:.3g}", "silenced_queries": "{:,} queries left out",
    },
    "train": {"updates": "{:,} updates", "queries": "{:,} queries seen", "best_step": "best at update {:,}"},
    "merge": {"share": "{:.0%} of the new weights"},
    "precision": {"train": "train in {}", "encode": "encode in {}"},
    "gate": {"difference": "dev difference {:+.4f}"},
}  # fmt: skip
"""What the counts of a stage mean, in the order in which they are shown. Any other stage shows all its counts."""


def stage_line(address: str, counts: Mapping[str, Any], seconds: float, why: str = "") -> str:
    """A stage that was made: `1/mine   800 queries, 12,800 candidates   4.2 s`. `why`: why it was made again."""
    words = STAGE_COUNTS.get(address.split("/")[-1].split(":")[0])
    if words is None:
        parts = [
            f"{name} {value:.4f}" if isinstance(value, float)
            else f"{value:,} {name.replace('_', ' ')}" if type(value) is int
            else f"{name.replace('_', ' ')} {value}"
            for name, value in counts.items()
        ]  # fmt: skip
    else:
        said = [(counts[name], form) for name, form in words.items() if counts.get(name) is not None]
        parts = [form.format(value) for at, (value, form) in enumerate(said) if at == 0 or value != 0]
    took = f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
    what = ", ".join(parts) + (f" ({why})" if why else "")
    return f"{address:<28} {what:<54} {took:>8}"


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
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(description, total=total)
    return bar
