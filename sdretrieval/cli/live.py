"""A terminal's live table: the stage that is being made, how far it is, what the run will still take, its memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sdretrieval.formatting import printable, readable_bytes, readable_seconds
from sdretrieval.progress import can_draw, run_progress
from sdretrieval.store.memory import resident_bytes

if TYPE_CHECKING:
    from rich.console import RenderableType

REFRESHES_PER_SECOND = 2
BAR = 24
"""Columns of the bar: with the longest address and count the table is less than 100 wide."""


@contextmanager
def live_table() -> Iterator[None]:
    """While a command makes stages: one table at the bottom of the terminal, log lines above it. Elsewhere nothing.

    It is gone at the end. What libraries print meanwhile comes above it, too.
    """
    if not can_draw():
        yield
        return
    from rich.console import Console
    from rich.live import Live

    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    run_progress.drawn = True
    try:
        with Live(
            get_renderable=_table, console=console, refresh_per_second=REFRESHES_PER_SECOND, transient=True
        ):  # fmt: skip
            yield
    finally:
        run_progress.drawn = False


def _table() -> RenderableType:
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    work, stage = run_progress.work, run_progress.stage
    if work is None and not stage:
        return Text("")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column, side in (("stage", "left"), ("progress", "left"), ("", "left"), ("left", "right"), ("memory", "right")):
        table.add_column(column, justify="right" if side == "right" else "left", header_style="dim")
    left = None if work is None else work.seconds_left()
    bar = "" if work is None or not work.total else ProgressBar(work.total, work.done, width=BAR)
    count = f"{run_progress.elapsed:.0f} s" if work is None else work.count()
    name = stage or (work.description if work is not None else "")
    seconds = "" if left is None else readable_seconds(left)
    table.add_row(Text(printable(name)), bar, Text(count), seconds, readable_bytes(resident_bytes()))
    lines = [run_progress.line()]
    if work is not None and stage:
        figures = {**work.figures, **(run_progress.figures if work.figures else {})}
        said = ", ".join(f"{name} {value}" for name, value in figures.items())
        lines.insert(0, f"{work.description}: {said}" if said else work.description)
    return Group(table, *(Text(printable(line), overflow="ellipsis", no_wrap=True) for line in lines if line))
