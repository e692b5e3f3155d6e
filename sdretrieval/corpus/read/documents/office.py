"""Word and PowerPoint files (.docx, .pptx) to blocks: text in reading order with its headings, tables row by row.

Such a file is a ZIP of XML parts, pictures and perhaps macros. Only the XML is unpacked, as far as a text needs it;
nothing of a file is ever run, and no link of it followed. mammoth turns Word's styles into HTML, python-pptx walks
through slides.
"""

from __future__ import annotations

import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from typing import Any

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed, Unread, load_parser, one_line, table_row
from sdretrieval.corpus.read.documents.html import parse_html
from sdretrieval.corpus.read.report import Trouble
from sdretrieval.formatting import readable_bytes

XML_AT_MOST = 1 << 26
"""Bytes of all XML parts of a file: some of a few MB unpack to gigabytes."""
ELEMENTS_AT_MOST = 500_000
"""In all parts. A thousand full pages have about as many; mammoth takes a minute for them, and 400 MB."""
BEFORE_2007 = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""Begins OLE files: Office's format until 2007, and the box around an encrypted file."""
ENCRYPTED = "EncryptedPackage".encode("utf-16-le")
DOCTYPE = re.compile(b"<\x00?!\x00?D\x00?O\x00?C\x00?T\x00?Y\x00?P\x00?E")
"""No Office program writes one; with it a file could declare entities that grow without end."""
TITLE_STYLE = """
p[style-name='Title'] => h1:fresh
p[style-name='HTML Preformatted'] => pre:separator('\\n')
"""
STYLES = TITLE_STYLE + "\n".join(
    f"p{style} => h{min(level + 1, 6)}:fresh"
    for level in range(1, 10)
    for style in (f"[style-name='Heading {level}']", f".Heading{level}")
)
"""A file's title is above its headings of level 1."""
BACK_TO_NOTE = re.compile(r'\s*<a href="#(?:foot|end)note-ref-[^"]*">[^<]*</a>')
"""The arrow that mammoth puts behind a footnote."""
CORE = "docProps/core.xml"
NO_TITLE = "PowerPoint Presentation"
"""What PowerPoint calls a file that nobody named."""

Part = dict[str, bytes]


def parse_docx(data: bytes) -> Parsed | Unread:
    """Blocks of a Word file: paragraphs, headings, lists, tables, text boxes, footnotes; insertions count as accepted,
    deletions and comments are left out, and so are page headers and footers. Or why there are none."""
    mammoth = load_parser("mammoth", ".docx")
    parts = _xml_parts(data)
    if isinstance(parts, Unread):
        return parts
    try:
        html = mammoth.convert_to_html(
            io.BytesIO(_packed(parts)),
            style_map=STYLES,
            convert_image=mammoth.images.img_element(lambda _image: {}),  # not opened
        ).value
        page = parse_html(f"<body>{BACK_TO_NOTE.sub('', html)}</body>")
    except RecursionError:
        return Unread(Trouble.UNREADABLE, "a Word file whose parts are within each other too deep")
    except Exception as error:  # whatever a broken file makes a parser trip over
        return _broken("Word", error)
    return Parsed(page.blocks, _title(parts))


def parse_pptx(data: bytes) -> Parsed | Unread:
    """Blocks of a presentation, slide by slide: its title, texts and tables, then the speaker's notes; the words of
    footers, dates and slide numbers are counted. Or why there are none."""
    pptx = load_parser("pptx", ".pptx")
    parts = _xml_parts(data)
    if isinstance(parts, Unread):
        return parts
    blocks, left_out = list[Block](), 0
    try:
        for slide in pptx.Presentation(io.BytesIO(_packed(parts))).slides:
            new, around = _slide(slide)
            blocks += new
            left_out += around
    except Exception as error:
        return _broken("PowerPoint", error)
    title = _title(parts)
    return Parsed(blocks, "" if title == NO_TITLE else title, words_left_out=left_out)


def _slide(slide: Any) -> tuple[list[Block], int]:
    """The title first, wherever it is drawn; then the shapes in the order in which they lie. And the words left out."""
    from pptx.enum.shapes import PP_PLACEHOLDER as KIND

    titles, texts, left_out = list[Block](), list[Block](), 0
    for shape in _shapes(slide.shapes):
        kind = shape.placeholder_format.type if shape.is_placeholder else None
        if kind in (KIND.FOOTER, KIND.DATE, KIND.SLIDE_NUMBER):
            left_out += len(shape.text_frame.text.split()) if shape.has_text_frame else 0
        elif kind in (KIND.TITLE, KIND.CENTER_TITLE, KIND.VERTICAL_TITLE):
            # That of a title slide is above those of all other slides.
            titles.append(Block(Kind.HEADING, one_line(shape.text_frame.text), 1 if kind is KIND.CENTER_TITLE else 2))
        elif shape.has_table:
            for row in shape.table.rows:
                texts.append(table_row(one_line(cell.text) for cell in row.cells if not cell.is_spanned))
        elif shape.has_text_frame:
            as_list = Kind.LIST_ITEM if kind in (KIND.BODY, KIND.OBJECT) else Kind.PARAGRAPH
            texts += [Block(as_list, one_line(paragraph.text)) for paragraph in shape.text_frame.paragraphs]
    notes = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
    if notes is not None:
        texts += [Block(Kind.PARAGRAPH, one_line(paragraph.text)) for paragraph in notes.paragraphs]
    return [block for block in (*titles, *texts) if block.text], left_out


def _shapes(shapes: Any) -> Iterator[Any]:
    """With those in groups, of which some are in groups, in reading order."""
    waiting = list(shapes)[::-1]
    while waiting:
        shape = waiting.pop()
        if hasattr(shape, "shapes"):
            waiting += list(shape.shapes)[::-1]
        else:
            yield shape


def _xml_parts(data: bytes) -> Part | Unread:
    """The parts that hold text, unpacked; the others empty. Or why they are not: too much, encrypted, no ZIP."""
    if data.startswith(BEFORE_2007):
        if ENCRYPTED in data:
            return Unread(Trouble.ENCRYPTED, "needs a password")
        return Unread(Trouble.UNREADABLE, "in Office's format of before 2007; save it as .docx or .pptx")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as packed:
            entries = {entry.filename: entry for entry in packed.infolist() if not entry.is_dir()}
            texts = {name for name in entries if name.lower().endswith((".xml", ".rels"))}
            # A part never gives more than the size that it declares.
            if sum(entries[name].file_size for name in texts) > XML_AT_MOST:
                return Unread(Trouble.UNREADABLE, f"unpacks to more than {readable_bytes(XML_AT_MOST)}; split it")
            if any(entries[name].flag_bits & 1 for name in texts):
                return Unread(Trouble.ENCRYPTED, "needs a password")
            parts = {name: packed.read(name) if name in texts else b"" for name in entries}
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, NotImplementedError, RuntimeError) as error:
        return _broken("Office", error)
    if any(DOCTYPE.search(part) for part in parts.values()):
        return Unread(Trouble.UNREADABLE, "it declares entities, which no Office file does")
    # A part counts as often as another names it; each element has at most two of these signs.
    if sum(part.count(b"<") for part in parts.values()) > 2 * ELEMENTS_AT_MOST:
        return Unread(Trouble.UNREADABLE, f"it has more than {ELEMENTS_AT_MOST:,} elements; split it")
    return parts


def _packed(parts: Part) -> bytes:
    """The parts as a ZIP, which the libraries read."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, part in parts.items():
            archive.writestr(zipfile.ZipInfo(name), part)
    return packed.getvalue()


def _title(parts: Part) -> str:
    """What the file's properties call it."""
    from xml.etree import ElementTree

    try:
        found = ElementTree.fromstring(parts.get(CORE, b"")).findtext("{http://purl.org/dc/elements/1.1/}title")
    except (ElementTree.ParseError, ValueError):  # broken properties lose a title, no text
        return ""
    return one_line(found or "")


def _broken(program: str, error: Exception) -> Unread:
    said = one_line(str(error))[:80]
    return Unread(Trouble.UNREADABLE, f"no readable {program} file ({type(error).__name__}: {said})")
