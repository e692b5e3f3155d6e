"""Columns of a PDF that are drawn row by row: line 1 of the left one, line 1 of the right one, and so on.

They are found where many rows have a string that begins at the same place, with a gap before it, and marked in the
text. Then they are read one after the other, if they read as prose: lines of even length that go on from one to the
next. A table does not; where only one of the two holds, nobody knows.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from statistics import median
from typing import NamedTuple

LEAST_ROWS = 8
"""So many rows with all columns are needed to tell columns from chance."""
LEAST_GLYPHS = 20
"""The usual line of a column of prose is longer; shorter ones are cells."""
ALIGNED = 1.5
"""Points that the beginnings of a column's lines may lie apart."""
MOST_ALIGNED = 0.7
"""A column begins on so large a share of the rows on which the most frequent one begins, with a gap before it."""
MOST_ROWS = 0.5
"""So many of the rows from the first with several columns to the last have several."""
GUTTER = 0.4
"""Of the font's size: the narrowest gap between columns. Spaces of justified text are as wide, but not aligned."""
ON_THE_LINE = 0.8
"""Of the font's size: strings within this height are a row, as in pypdf."""
NEXT_LINE = 1.5
"""Of the usual step from row to row: rows farther away belong to the columns no more."""
EVEN, RATHER_EVEN = 0.8, 0.6
"""The median length of a column's lines as a share of the longest ones (the 9th decile): of prose, and perhaps."""
GOES_ON, RATHER_GOES_ON = 0.4, 0.25
"""The share of lines that go on with a small letter where the line before has ended no sentence, likewise."""
ALL = 15
MARKS = "".join(chr(0xFDD0 + column) for column in range(ALL + 1))
"""Noncharacters, which Unicode sets aside for a program's own use: a column each, and the whole width."""
MARK = re.compile(f"([{MARKS}])")
RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdcf\ufdf0-\ufefc]")
"""Where pypdf turns text around, the marks end up elsewhere."""


class Shown(NamedTuple):
    """A string on a page, in points along the line and across it."""

    at: int
    """Which of the page's operations shows it."""
    start: float
    height: float
    end: float
    size: float
    glyphs: int


Row = list[Shown]


def mark_of(column: int) -> str:
    """The mark before the text of a column; `ALL` is the whole width."""
    return MARKS[column]


def columns_of(shown: Sequence[Shown]) -> list[tuple[int, int]]:
    """The operations after which the text of another column begins, each with that column. Empty if there are none
    that are drawn row by row."""
    rows = _rows(shown)
    borders = _borders(rows)
    if not borders or len(borders) >= ALL:
        return []
    marks, column, after = list[tuple[int, int]](), ALL, 0
    inside = _inside(rows, borders)
    if not inside:
        return []
    for at, row in enumerate(rows):
        for piece in row:
            here = _column(piece, borders) if at in inside else ALL
            if here != column:
                marks.append((after, here))
            column, after = here, piece.at + 1
    return [*marks, (after, ALL)]


def without_marks(text: str) -> tuple[str, bool]:
    """The text with columns one after the other where they are prose, and whether some of it may be mixed."""
    if not MARK.search(text):
        return text, False
    parts, wide = MARK.split(text), MARKS[ALL]
    marked = list(zip([wide, *parts[1::2]], parts[::2], strict=True))
    columns: dict[str, list[str]] = {}
    for mark, part in marked:
        if mark != wide:
            columns.setdefault(mark, []).extend(line for line in part.split("\n") if line.strip())
    prose = _are_prose(list(columns.values())) if not RIGHT_TO_LEFT.search(text) else None
    if not prose:
        return MARK.sub(" ", text), prose is None
    read = list[str]()
    for is_wide, run in groupby(marked, key=lambda piece: piece[0] == wide):
        pieces = list(run)
        # sorted keeps the order within a column
        read += [part.strip() for _, part in (pieces if is_wide else sorted(pieces, key=lambda piece: piece[0]))]
    return "\n".join(part for part in read if part), False


def _rows(shown: Sequence[Shown]) -> list[Row]:
    rows = list[Row]()
    for piece in shown:
        if piece.glyphs and rows and abs(piece.height - rows[-1][0].height) < ON_THE_LINE * piece.size:
            rows[-1].append(piece)
        elif piece.glyphs:
            rows.append([piece])
    return rows


def _borders(rows: Sequence[Row]) -> list[float]:
    """Where the second column begins, and those after it."""
    starts = Counter[int]()
    for row in rows:
        starts.update({round(piece.start) for piece in _after_gaps(row)})
    places = {at: starts[at - 1] + starts[at] + starts[at + 1] for at in starts}
    enough = max(LEAST_ROWS, MOST_ALIGNED * max(places.values(), default=0))
    borders = list[float]()
    for at in sorted(places, key=lambda at: (-places[at], at)):
        if places[at] >= enough and all(abs(at - border) > 2 * ALIGNED for border in borders):
            borders.append(at)
    borders.sort()
    parted = [row for row in rows if _is_parted(row, borders)]
    for column in range(len(borders) + 1):
        glyphs = (sum(p.glyphs for p in row if _column(p, borders) == column) for row in parted)
        if median([count for count in glyphs if count] or [0]) < LEAST_GLYPHS:
            return []
    return borders


def _after_gaps(row: Row) -> Iterator[Shown]:
    """The pieces that a gap and more than a bullet or a number precede, and that more than such follows."""
    pieces = sorted(row, key=lambda piece: piece.start)
    before = 0
    for (left, piece), after in zip(pairwise(pieces), _sums(pieces), strict=False):
        before += left.glyphs
        if piece.start - left.end >= GUTTER * piece.size and min(before, after) >= LEAST_GLYPHS / 2:
            yield piece


def _sums(pieces: Row) -> Iterator[int]:
    """The glyphs from the second piece on, from the third on, and so on."""
    rest = sum(piece.glyphs for piece in pieces)
    for piece in pieces:
        rest -= piece.glyphs
        yield rest


def _is_parted(row: Row, borders: Sequence[float]) -> bool:
    return any(abs(piece.start - border) <= ALIGNED for piece in _after_gaps(row) for border in borders)


def _column(piece: Shown, borders: Sequence[float]) -> int:
    return sum(border - ALIGNED <= piece.start for border in borders)


def _inside(rows: Sequence[Row], borders: Sequence[float]) -> set[int]:
    """The rows of the columns: the first with several to the last, and those next to them, if none is as wide as the
    page."""
    several = [at for at, row in enumerate(rows) if _is_parted(row, borders)]
    if len(several) < MOST_ROWS * (several[-1] - several[0] + 1):
        return set()
    heights = [row[0].height for row in rows]
    steps = [abs(heights[at + 1] - heights[at]) for at in several if at + 1 < len(rows)]
    near = NEXT_LINE * median(steps or [0])
    first, last = several[0], several[-1]
    while first and abs(heights[first] - heights[first - 1]) <= near:
        first -= 1
    while last + 1 < len(rows) and abs(heights[last + 1] - heights[last]) <= near:
        last += 1
    return {at for at in range(first, last + 1) if not _is_wide(rows[at], borders)}


def _is_wide(row: Row, borders: Sequence[float]) -> bool:
    return any(
        piece.start < border - ALIGNED and piece.end > border + GUTTER * piece.size
        for piece in row
        for border in borders
        if not any(abs(other.start - border) <= ALIGNED for other in row)
    )


def _are_prose(columns: Sequence[Sequence[str]]) -> bool | None:
    """Whether the columns are prose to read one after the other, by their lines; None if that is unsure."""
    if len(columns) < 2 or min(map(len, columns)) < LEAST_ROWS:
        return False
    sure = [_like_prose(lines, EVEN, GOES_ON) for lines in columns]
    if all(map(all, sure)):
        return True
    rather = [_like_prose(lines, RATHER_EVEN, RATHER_GOES_ON) for lines in columns]
    unsure = all(map(all, rather)) or all(even for even, _ in sure) or all(goes_on for _, goes_on in sure)
    return None if unsure else False


def _like_prose(lines: Sequence[str], even: float, goes_on: float) -> tuple[bool, bool]:
    """Whether the lines are about as long, and whether most go on from the one before."""
    lengths = sorted(map(len, lines))
    usual = lengths[int(0.9 * (len(lengths) - 1))]
    following = sum(
        line.lstrip()[0].isalpha() and not line.lstrip()[0].isupper() and not re.search(r"[.!?:;]\W*$", before)
        for before, line in pairwise(lines)
    )
    return median(lengths) >= even * usual, following >= goes_on * (len(lines) - 1)
