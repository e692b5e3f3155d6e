"""What commands write: to stdout a table for people, or one JSON document for machines and nothing else.

Texts and ids are of others: nothing in them may steer the terminal (`printable`).
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdretrieval.errors import RequestError
from sdretrieval.formatting import UNPRINTABLE, printable
from sdretrieval.store.disk import check_can_write

WIDTH_OFF_A_TERMINAL = 160
"""Of tables written to a file or a pipe."""


def replace_what_cannot_be_shown() -> None:
    """Output whose encoding lacks a character (PYTHONIOENCODING=ascii) gets a ? there, never an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "surrogateescape"):
            stream.reconfigure(errors="replace")


def print_json(record: Any) -> None:
    """One document, indented, numbers as they are; what cannot be shown is escaped, so that reading gives it back."""
    unicode = "utf" in (getattr(sys.stdout, "encoding", None) or "utf8").lower()
    text = json.dumps(record, indent=2, ensure_ascii=not unicode)
    sys.stdout.write(UNPRINTABLE.sub(_escaped, text) + "\n")


def _escaped(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


def say(*lines: str) -> None:
    """Plain lines."""
    for line in lines:
        sys.stdout.write(printable(line) + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[str] = ()) -> None:
    """A table whose columns named in `right` are aligned to the right."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    aligned = set(right)
    for column in columns:
        table.add_column(printable(column), justify="right" if column in aligned else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(printable, row))
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, width=WIDTH_OFF_A_TERMINAL)
    console.print(table)


def print_measures(
    names: Sequence[str], measures: Sequence[str],
    rows: Iterable[tuple[Sequence[str], Iterable[Any], Mapping[str, Any]]],
) -> None:  # fmt: skip
    """Rows of texts (under `names`), values (under `measures`, numbers or texts), and a paired test, {} if the row has
    none."""
    from sdretrieval.report.page import number, p_value, signed, span

    cells = []
    for texts, values, test in rows:
        tested = ["", "", "", ""]
        if "difference" in test:
            p = p_value(test.get("p_holm", test["p"]))
            tested = [signed(test["difference"]), span(test["interval95"]), p, test["verdict"]]
        cells.append([*texts, *(value if isinstance(value, str) else number(value) for value in values), *tested])
    columns = [*names, *measures, "difference", "95 % interval", "p (Holm)", "verdict"]
    print_table(columns, cells, right=[*measures, "difference", "p (Holm)"])


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
    if not Path(file).is_symlink() and (Path(file).is_file() or not Path(file).exists()):  # else written straight into
        check_can_write(Path(file), f"{option} {file}")


@contextlib.contextmanager
def stdout_kept_clean() -> Iterator[None]:
    """Whatever libraries print while they work goes to stderr: stdout is for the answer alone."""
    with contextlib.redirect_stdout(sys.stderr):
        yield
