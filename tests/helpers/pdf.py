"""Small PDFs made by hand, so that a test knows every line that stands on a page."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import zip_longest
from typing import Any

from pypdf import PdfReader, PdfWriter
from pypdf.generic import (
    ArrayObject,
    DictionaryObject,
    IndirectObject,
    NameObject,
    NumberObject,
    StreamObject,
    TextStringObject,
)

HELVETICA = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"


def pdf(pages: Sequence[Sequence[str]], font: str = HELVETICA) -> bytes:
    """A PDF with the given lines on its pages; a page without lines holds nothing. A line in angle brackets is given
    as the numbers of its glyphs, and one in square brackets as pieces with the gaps between them."""
    shown = ("".join(f"{operand(line)} 0 -14 Td\n" for line in lines) for lines in pages)
    return drawn([f"BT /F1 11 Tf 50 800 Td\n{lines}ET" if lines else "" for lines in shown], font)


def drawn(contents: Sequence[str], font: str = HELVETICA) -> bytes:
    """A PDF whose pages draw what these operations say."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", "", font]
    for content in contents:
        objects.append(f"<< /Length {len(content.encode('latin-1'))} >>\nstream\n{content}\nendstream")
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents {len(objects)} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>"
        )
    kids = " ".join(f"{number} 0 R" for number in range(5, len(objects) + 1, 2))
    objects[1] = f"<< /Type /Pages /Kids [{kids}] /Count {len(contents)} >>"
    return _file(objects)


def in_rows(columns: Sequence[Sequence[str]], first: int = 700) -> str:
    """Operations that draw columns row by row, each from left to right, from a height on."""
    width = 510 // len(columns)
    return "".join(
        f"1 0 0 1 {50 + width * column} {first - 12 * row} Tm {operand(line)} "
        for row, lines in enumerate(zip_longest(*columns, fillvalue=""))
        for column, line in enumerate(lines)
        if line
    )


def perhaps_in_columns() -> bytes:
    """A PDF with lines that are as even as prose, in two columns, but do not go on from one to the next."""
    lines = [f"Line {number} is a sentence of its own." for number in range(10)]
    return drawn([f"BT /F1 10 Tf {in_rows([lines, lines])} ET"])


def with_outline(data: bytes, titles: Sequence[tuple[str, int, int]], name: str = "") -> bytes:
    """The PDF with an outline of (title, page, level from 1) and, in its metadata, a name."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    parents: list[IndirectObject | None] = [None]
    for title, page, level in titles:
        del parents[level:]
        parents.append(writer.add_outline_item(title=title, page_number=page, parent=parents[-1]))
    if name:
        writer.add_metadata({"/Title": name})
    return _written(writer)


def encrypted(data: bytes, password: str) -> bytes:
    """The PDF, locked."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    return _written(writer)


def with_wide_code_32(data: bytes) -> bytes:
    """The PDF with the widths and the map of a font of TeX: code 32 is a wide sign that no line holds."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    cmap = StreamObject()
    cmap.set_data(b"1 beginbfrange\n<21> <7E> <0021>\nendbfrange")
    for page in writer.pages:
        font: Any = page["/Resources"]
        font = font["/Font"]["/F1"]
        font[NameObject("/FirstChar")] = NumberObject(32)
        font[NameObject("/Widths")] = ArrayObject(NumberObject(width) for width in [900, *[500] * 94])
        font[NameObject("/ToUnicode")] = writer._add_object(cmap)
    return _written(writer)


def with_form(data: bytes, fields: dict[str, str]) -> bytes:
    """The PDF with text fields and what was typed into them."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    added = ArrayObject()
    for name, value in fields.items():
        field = {"/T": TextStringObject(name), "/V": TextStringObject(value), "/FT": NameObject("/Tx")}
        added.append(writer._add_object(DictionaryObject({NameObject(key): entry for key, entry in field.items()})))
    writer.root_object[NameObject("/AcroForm")] = DictionaryObject({NameObject("/Fields"): added})
    return _written(writer)


def with_picture(data: bytes, page: int) -> bytes:
    """The PDF with a picture of one grey point in the resources of a page."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    picture = StreamObject()
    picture.set_data(b"\x80")
    for key, value in {"/Subtype": "/Image", "/ColorSpace": "/DeviceGray"}.items():
        picture[NameObject(key)] = NameObject(value)
    for key in ("/Width", "/Height"):
        picture[NameObject(key)] = NumberObject(1)
    picture[NameObject("/BitsPerComponent")] = NumberObject(8)
    resources: Any = writer.pages[page]["/Resources"]
    resources[NameObject("/XObject")] = DictionaryObject({NameObject("/I"): writer._add_object(picture)})
    return _written(writer)


def in_a_form(data: bytes) -> bytes:
    """The PDF with what its pages draw as forms on these pages."""
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(data)))
    for page in writer.pages:
        form = StreamObject()
        form.set_data(page["/Contents"].get_object().get_data())  # type: ignore[attr-defined]
        form[NameObject("/Subtype")], form[NameObject("/Resources")] = NameObject("/Form"), page["/Resources"]
        shown = StreamObject()
        shown.set_data(b"/Fm Do")
        page[NameObject("/Contents")] = writer._add_object(shown)
        forms = DictionaryObject({NameObject("/Fm"): writer._add_object(form)})
        page[NameObject("/Resources")] = DictionaryObject({NameObject("/XObject"): forms})
    return _written(writer)


def _written(writer: PdfWriter) -> bytes:
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


def operand(line: str) -> str:
    """What shows a line."""
    if line[:1] == "<":
        return f"{line} Tj"
    if line[:1] == "[":
        return f"{line} TJ"
    escaped = line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return f"({escaped}) Tj"


def _file(objects: Sequence[str]) -> bytes:
    data, places = b"%PDF-1.4\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode("latin-1")
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    size = len(objects) + 1
    end = f"xref\n0 {size}\n0000000000 65535 f \n{table}trailer\n<< /Size {size} /Root 1 0 R >>\n"
    return data + f"{end}startxref\n{len(data)}\n%%EOF\n".encode("latin-1")
