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
    """A table whose columns named in `right` are aligned to the right. If it is wider than the terminal, headers go on
    a second line, then columns move closer, and only then do texts break."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, width=WIDTH_OFF_A_TERMINAL)
    heads, cells = [printable(column) for column in columns], [[printable(cell) for cell in row] for row in rows]
    gap, widths = _fitting(heads, cells, [column in set(right) for column in columns], console.width)
    # The box has a blank between columns, the rest of the gap is padding.
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, padding=(0, gap - gap // 2 - 1, 0, gap // 2))
    for column, head, width in zip(columns, heads, widths, strict=True):
        table.add_column(head, justify="right" if column in set(right) else "left", overflow="fold", width=width)
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _fitting(
    heads: Sequence[str], cells: Sequence[Sequence[str]], numbers: Sequence[bool], width: int
) -> tuple[int, list[int | None]]:
    """Blanks between columns, and the width of each, None for what the library takes: a table too wide for words.

    `numbers`: columns whose cells never break.
    """
    from rich.cells import cell_len

    def longest(texts: Iterable[str]) -> int:
        return max(map(cell_len, texts), default=0)

    columns = list(zip(*cells, strict=True)) or [()] * len(heads)
    head_words = [longest(head.split()) for head in heads]
    on_one_line = [longest([head, *column]) for head, column in zip(heads, columns, strict=True)]
    wide = [max(word, longest(column)) for word, column in zip(head_words, columns, strict=True)]
    for gap, widths in ((3, on_one_line), (3, wide), (2, wide), (1, wide)):
        if sum(widths) + gap * (len(heads) - 1) <= width:
            return gap, list(widths)
    cell_words = [longest(word for cell in column for word in cell.split()) for column in columns]
    least = [
        whole if number else max(in_head, in_cells)
        for whole, number, in_head, in_cells in zip(wide, numbers, head_words, cell_words, strict=True)
    ]
    for gap in (2, 1):
        spare = width - gap * (len(heads) - 1) - sum(least)
        if spare >= 0:
            return gap, list(_shared(least, wide, spare))
    return 2, [None] * len(heads)


def _shared(least: Sequence[int], most: Sequence[int], spare: int) -> list[int]:
    """Widths between `least` and `most` with `spare` more than `least`, which go where texts take most lines."""
    widths = list(least)
    wanting = [place for place in range(len(widths)) if widths[place] < most[place]]
    for _ in range(spare):
        if not wanting:
            break
        place = max(wanting, key=lambda place: most[place] / max(widths[place], 1))
        widths[place] += 1
        if widths[place] == most[place]:
            wanting.remove(place)
    return widths


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
