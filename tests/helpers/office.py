"""Word and PowerPoint files as python-docx and python-pptx write them, and changes to what is inside."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from typing import Any

import docx
import pptx
from docx.oxml import parse_xml

WORD = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
TITLE_SLIDE, TITLE_AND_CONTENT, BLANK = 0, 1, 6
"""Layouts of python-pptx's own template."""


def word_file(build: Callable[[Any], object]) -> bytes:
    """A .docx whose document `build` fills."""
    document = docx.Document()
    build(document)
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def raw(xml: str) -> Any:
    """An element of WordprocessingML that the library has no call for."""
    return parse_xml(xml.replace(">", f" {WORD}>", 1))


def presentation(build: Callable[[Any], object]) -> bytes:
    """A .pptx whose slides `build` makes."""
    made = pptx.Presentation()
    build(made)
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def with_parts(data: bytes, parts: dict[str, bytes]) -> bytes:
    """The file with these parts in place of its own, or beside them."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as before, zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as after:
        for name in before.namelist():
            if name not in parts:
                after.writestr(name, before.read(name))
        for name, part in parts.items():
            after.writestr(name, part)
    return written.getvalue()


def part_of(data: bytes, name: str) -> bytes:
    """One part, unpacked."""
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        return packed.read(name)
