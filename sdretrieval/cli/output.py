"""What commands write: to stdout a table for people, or one JSON document for machines and nothing else."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdretrieval.errors import RequestError

WIDTH_OFF_A_TERMINAL = 160
"""Of tables written to a file or a pipe."""
TEST_COLUMNS = ("difference", "95 % interval", "p (Holm)", "verdict")


def print_json(record: Any) -> None:
    """One document, indented, numbers as they are."""
    sys.stdout.write(json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def say(*lines: str) -> None:
    """Plain lines."""
    for line in lines:
        sys.stdout.write(line + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()) -> None:
    """A table whose columns named in `right` are aligned to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    aligned = set(right)
    for column in columns:
        table.add_column(column, justify="right" if column in aligned else "left", overflow="fold")
    for row in rows:
        table.add_row(*row)
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, width=WIDTH_OFF_A_TERMINAL)
    console.print(table)


def paired_cells(row: Mapping[str, Any]) -> list[str]:
    """Difference, interval, p and verdict of a paired test, as `TEST_COLUMNS`; empty if there is none."""
    from sdretrieval.report.page import p_value, signed, span

    if "difference" not in row:
        return ["", "", "", ""]
    return [signed(row["difference"]), span(row["interval95"]), p_value(row.get("p_holm", row["p"])), row["verdict"]]


def excerpt(text: str, length: int) -> str:
    """The beginning of a text on one line, at most `length` characters."""
    flat = " ".join(text.split())
    return flat if len(flat) <= length else flat[: length - 1].rstrip() + "…"


def check_writable(option: str, file: str | Path | None) -> None:
    """Raise RequestError if no file can be written there: checked first, or it would cost the work its result."""
    if file is None:
        return
    if Path(file).is_dir():
        raise RequestError(f"{option} {file}: that is a folder; name a file in it")
    if not Path(file).parent.is_dir():
        raise RequestError(f"{option} {file}: there is no folder {Path(file).parent}; make it first")


@contextlib.contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Whatever libraries print while they work goes to stderr: stdout is for the answer alone."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
