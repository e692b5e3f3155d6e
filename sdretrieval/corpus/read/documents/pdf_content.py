"""What a page of a PDF draws, mended before pypdf reads it.

pypdf takes neither character spacing (Tc) nor word spacing (Tw) for gaps between words, and does not count Tw in a
string's width. It reads in the order of drawing, so that columns drawn row by row are read across. Here the spacing
becomes offsets within the strings, which pypdf understands, and marks tell columns that may be drawn so apart.
The operators are those of ISO 32000-2, 8.4 and 9.3 to 9.4.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sdretrieval.corpus.read.documents.pdf_columns import Shown, columns_of, mark_of

Matrix = tuple[float, float, float, float, float, float]
Operation = tuple[Any, bytes]
IDENTITY: Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)
GAP = 0.15
"""Of the font's size: character spacing as wide as this between two letters parts words."""
CLOSED = 0.05
"""Of the font's size: a space that negative spacing makes narrower than this parts nothing."""
SAME = 0.02
"""Of the font's size: spacing so near to that of a space is meant as one."""
USUAL_WIDTH = 400
"""Of a glyph whose width a font does not give, in thousandths of its size: rather too narrow than too wide."""
JUMP = -1000.0
"""An offset of at least the font's size, in thousandths of it; negative ones move to the right."""
WIDE_GAP = re.compile(rb"( {3,})")
SPACINGS = {b"Tc": "character_spacing", b"Tw": "word_spacing", b"TL": "leading"}
SHOWS = (b"Tj", b"TJ")


class Font(NamedTuple):
    """What is needed of a font of the page."""

    is_simple: bool
    """Whether a glyph is a byte."""
    first: int
    widths: Sequence[float]

    def width(self, text: bytes) -> float:
        """In thousandths of the font's size."""
        if not self.is_simple:
            return USUAL_WIDTH * self.glyphs(text)
        places = (byte - self.first for byte in text)
        return sum(self.widths[at] if 0 <= at < len(self.widths) else USUAL_WIDTH for at in places)

    def glyphs(self, text: bytes) -> int:
        """How many glyphs a string shows."""
        return len(text) if self.is_simple else len(text) // 2


UNKNOWN = Font(False, 0, ())


@dataclass
class Pen:
    """The state of a page in which the next string is shown."""

    fonts: dict[str, Font]
    matrix: Matrix = IDENTITY
    line: Matrix = IDENTITY
    """Where the line of text begins."""
    advance: float = 0.0
    """What was shown since."""
    font: Font = UNKNOWN
    size: float = 0.0
    character_spacing: float = 0.0
    word_spacing: float = 0.0
    leading: float = 0.0
    saved: list[tuple[Any, ...]] = field(default_factory=list)

    def apply(self, operands: Any, operator: bytes) -> None:
        """Change the state as an operator that shows nothing does."""
        if operator in SPACINGS:
            setattr(self, SPACINGS[operator], float(operands[0]))
        elif operator == b"Tf":
            self.font, self.size = self.fonts.get(operands[0], UNKNOWN), float(operands[1])
        elif operator in (b"Td", b"TD"):
            right, up = map(float, operands)
            self.leading = -up if operator == b"TD" else self.leading
            self._start((1.0, 0.0, 0.0, 1.0, right, up), self.line)
        elif operator == b"T*":
            self._start((1.0, 0.0, 0.0, 1.0, 0.0, -self.leading), self.line)
        elif operator == b"Tm":
            self._start(_matrix(operands), IDENTITY)
        elif operator == b"BT":
            self._start(IDENTITY, IDENTITY)
        elif operator == b"cm":
            self.matrix = product(_matrix(operands), self.matrix)
        elif operator == b"q":
            spacing = (self.character_spacing, self.word_spacing, self.leading)
            self.saved.append((self.matrix, self.font, self.size, *spacing))
        elif operator == b"Q" and self.saved:
            self.matrix, self.font, self.size, *spacings = self.saved.pop()
            self.character_spacing, self.word_spacing, self.leading = spacings

    def show(self, parts: Sequence[Any], at: int) -> Shown:
        """Where the strings of operation `at` are, with the line's direction to the right. Moves on behind them."""
        text = b"".join(part for part in parts if isinstance(part, bytes))
        offsets = sum(float(part) for part in parts if not isinstance(part, str | bytes))
        glyphs = self.font.glyphs(text)
        width = (self.font.width(text) - offsets) * self.size / 1000 + self.character_spacing * glyphs
        width += self.word_spacing * text.count(b" ") if self.font.is_simple else 0.0
        a, b, c, d, e, f = product(self.line, self.matrix)
        scale = math.hypot(a, b) or 1.0
        along, across = (e * a + f * b) / scale, (f * a - e * b) / scale
        start, self.advance = self.advance, self.advance + width
        size = abs(self.size) * math.hypot(c, d)
        visible = glyphs if text.strip() else 0
        return Shown(at, along + start * scale, across, along + self.advance * scale, size, visible)

    def _start(self, matrix: Matrix, of: Matrix) -> None:
        self.line, self.advance = product(matrix, of), 0.0


def product(m: Matrix, n: Matrix) -> Matrix:
    """The matrix that does `m` first, then `n`."""
    return (
        m[0] * n[0] + m[1] * n[2],
        m[0] * n[1] + m[1] * n[3],
        m[2] * n[0] + m[3] * n[2],
        m[2] * n[1] + m[3] * n[3],
        m[4] * n[0] + m[5] * n[2] + n[4],
        m[4] * n[1] + m[5] * n[3] + n[5],
    )


def mend_content(page: Any) -> None:
    """Rewrite what a page and the forms on it draw. Raises whatever a broken page makes a parser raise; then the page,
    or the form, is as it was."""
    from pypdf.generic import ContentStream, NameObject

    content = ContentStream(page["/Contents"].get_object(), page.pdf, "bytes")
    resources = page["/Resources"].get_object()
    content.operations = _mended(content.operations, _fonts(resources))
    page[NameObject("/Contents")] = content
    _mend_forms(resources, page.pdf, set())


def _mend_forms(resources: Any, pdf: Any, seen: set[int]) -> None:
    from pypdf.generic import ContentStream

    for name, form in (resources["/XObject"].get_object() if "/XObject" in resources else {}).items():
        form = form.get_object()
        if form.get("/Subtype") != "/Form" or "/Resources" not in form or id(form) in seen:
            continue
        seen.add(id(form))
        own = form["/Resources"].get_object()
        if not isinstance(form, ContentStream):  # on an earlier page it may have been mended
            content = ContentStream(form, pdf, "bytes")
            content.update({key: form.raw_get(key) for key in form if key not in ("/Filter", "/DecodeParms")})
            content.operations = _mended(content.operations, _fonts(own))
            seen.add(id(content))
            resources["/XObject"].get_object()[name] = content
        _mend_forms(own, pdf, seen)


def _fonts(resources: Any) -> dict[str, Font]:
    fonts = {}
    for name, font in (resources["/Font"].get_object() if "/Font" in resources else {}).items():
        font = font.get_object()
        widths = font["/Widths"].get_object() if "/Widths" in font else ()
        simple = font.get("/Subtype") in ("/Type1", "/MMType1", "/TrueType")
        fonts[name] = Font(simple, int(font.get("/FirstChar", 0)), [float(width.get_object()) for width in widths])
    return fonts


def _mended(operations: Sequence[Operation], fonts: dict[str, Font]) -> list[Operation]:
    """The operations with spacing as offsets, and with marks where columns are drawn row by row."""
    from pypdf.generic import ArrayObject, TextStringObject

    operations = list(_spelt_out(operations))
    longest = _longest_strings(operations)
    pen, mended, shown = Pen(fonts), list[Operation](), list[Shown]()
    for at, (operands, operator) in enumerate(operations):
        if operator not in SHOWS or not operands:
            pen.apply(operands, operator)
            mended.append((operands, operator))
            continue
        for parts in _pieces(operands[0] if operator == b"TJ" else operands[:1], pen.font):
            shown.append(pen.show(parts, len(mended)))
            if pen.font.is_simple and pen.size and (pen.character_spacing or pen.word_spacing):
                parts = list(_with_gaps(parts, pen, longest[at]))
            mended.append(([ArrayObject(parts)], b"TJ"))
    for at, column in reversed(columns_of(shown)):
        mended.insert(at, ([TextStringObject(mark_of(column))], b"Tj"))
    return mended


def _spelt_out(operations: Sequence[Operation]) -> Iterator[Operation]:
    """The operations with those that move to the next line and show a string there as their parts."""
    for operands, operator in operations:
        if operator == b'"' and len(operands) >= 3:
            yield operands[:1], b"Tw"
            yield operands[1:2], b"Tc"
        if operator in (b"'", b'"') and operands:
            yield [], b"T*"
            yield operands[-1:], b"Tj"
        else:
            yield operands, operator


def _pieces(parts: Sequence[Any], font: Font) -> Iterator[list[Any]]:
    """The parts, cut where they jump: wide gaps within a string may part columns too."""
    from pypdf.generic import ByteStringObject

    piece = list[Any]()
    for part in parts:
        for bit in WIDE_GAP.split(part) if isinstance(part, bytes) and font.is_simple else [part]:
            if WIDE_GAP.fullmatch(bit) if isinstance(bit, bytes) else float(bit) <= JUMP:
                yield from (piece, [bit])
                piece = []
            elif bit != b"":
                piece.append(ByteStringObject(bit) if isinstance(bit, bytes) else bit)
    if piece:
        yield piece


def _longest_strings(operations: Sequence[Operation]) -> list[int]:
    """For each operation, the bytes of the longest string that is shown under the same character spacing."""
    longest, begun, most = list[int](), 0, 0
    for at, (operands, operator) in enumerate([*operations, ([], b"Tc")]):
        if operator in SHOWS and operands:
            parts = operands[0] if operator == b"TJ" else operands[:1]
            most = max([most, *(len(part) for part in parts if isinstance(part, bytes))])
        elif operator in (b"Tc", b"q", b"Q"):
            longest += [most] * (at - begun)
            begun, most = at, 0
    return longest


def _with_gaps(parts: Sequence[Any], pen: Pen, longest: int) -> Iterator[Any]:
    """The strings with offsets where word spacing is added, and where character spacing parts two words.

    Ghostscript draws the gap between two words as the spacing between the last letter of one and the first of the
    next, in a string of these alone. A longer one under the same spacing is letterspaced and stays whole, as do three
    letters, unless exactly a space parts them (`x 0 c` of "index 0 contains"). For small gaps within a word, it draws
    a space that negative word spacing takes back.
    """
    from pypdf.generic import ByteStringObject, FloatObject

    character, word, size = pen.character_spacing, pen.word_spacing, pen.size
    space = pen.font.width(b" ") * size / 1000 + word
    parted = longest == 2 and character >= GAP * size > 0
    parted |= longest == 3 and abs(character - space) <= SAME * size and character >= GAP * size
    closed = word < 0 < pen.font.width(b" ") and space + character < CLOSED * abs(size)
    gap = FloatObject(-1000 * character / size)
    for part in parts:
        if not isinstance(part, bytes):
            yield part
        elif parted:
            for at in range(len(part)):
                # pypdf counts the spacing in the width already: the second offset takes the first one back
                yield from (gap, FloatObject(-gap)) if at else ()
                yield ByteStringObject(part[at : at + 1])
        elif closed:
            for at, piece in enumerate(part.split(b" ")):
                if at:
                    yield FloatObject(-1000 * (space + character) / size)
                yield ByteStringObject(piece)
        elif word and b" " in part:
            # only the width of the whole is to be right; after a space, an offset adds no other
            before, _, last = part.rpartition(b" ")
            yield ByteStringObject(before + b" ")
            yield FloatObject(-1000 * word * part.count(b" ") / size)
            yield ByteStringObject(last)
        else:
            yield part


def _matrix(operands: Any) -> Matrix:
    a, b, c, d, e, f = map(float, operands)
    return a, b, c, d, e, f
