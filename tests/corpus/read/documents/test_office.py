"""Word and PowerPoint: text in reading order with headings and tables, whatever a hostile file would have us do."""

from __future__ import annotations

import base64
import io
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.corpus.read.documents import office, read_folder
from sdretrieval.corpus.read.documents.blocks import Kind, Parsed, Unread
from sdretrieval.corpus.read.documents.office import parse_docx, parse_pptx
from sdretrieval.corpus.read.report import Trouble
from tests.helpers.office import (
    BLANK,
    TITLE_AND_CONTENT,
    TITLE_SLIDE,
    part_of,
    presentation,
    raw,
    with_parts,
    word_file,
)

H, P, L, C, T = Kind.HEADING, Kind.PARAGRAPH, Kind.LIST_ITEM, Kind.CODE, Kind.TABLE_ROW
DOCUMENT = "word/document.xml"
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def blocks(parsed: Parsed | Unread) -> list[tuple[Kind, str] | tuple[Kind, str, int]]:
    """Kind, text and, of a heading, level."""
    assert isinstance(parsed, Parsed), parsed
    return [(one.kind, one.text, one.level) if one.level else (one.kind, one.text) for one in parsed.blocks]


def manual(document: Any) -> None:
    """What people write, and what Word puts around it."""
    document.core_properties.title = "Properties' title"
    document.add_heading("The manual", 0)
    document.add_paragraph("Before all <b>headings</b> & so on.")
    document.add_heading("Valves", 1)
    changed = document.add_paragraph("A valve that is ")
    changed._p.append(raw('<w:ins w:id="1" w:author="x"><w:r><w:t>open</w:t></w:r></w:ins>'))
    changed._p.append(raw('<w:del w:id="2" w:author="x"><w:r><w:delText>closed</w:delText></w:r></w:del>'))
    document.add_paragraph("first thing", style="List Bullet")
    document.add_paragraph("second thing", style="List Number")
    document.element.body.insert_element_before(
        raw("<w:sdt><w:sdtContent><w:p><w:r><w:t>In a field of a form.</w:t></w:r></w:p></w:sdtContent></w:sdt>"),
        "w:sectPr",
    )
    document.add_heading("Sizes", 2)
    table = document.add_table(2, 3)
    for place, text in enumerate(("size", "price", "in stock", "10 mm", "", "yes\nno")):
        table.cell(place // 3, place % 3).text = text
    document.add_picture(io.BytesIO(PIXEL))
    document.add_paragraph("After\ta picture\nand a line's end.")
    document.sections[0].header.paragraphs[0].text = "Head of every page"


def test_a_word_files_text_is_in_order_with_headings_lists_and_tables() -> None:
    parsed = parse_docx(word_file(manual))
    assert blocks(parsed) == [
        (H, "The manual", 1),
        (P, "Before all <b>headings</b> & so on."),
        (H, "Valves", 2),
        (P, "A valve that is open"),
        (L, "first thing"),
        (L, "second thing"),
        (P, "In a field of a form."),
        (H, "Sizes", 3),
        (T, "size | price | in stock"),
        (T, "10 mm | yes no"),
        (P, "After a picture and a line's end."),
    ]
    assert isinstance(parsed, Parsed) and parsed.title == "Properties' title"


def test_headings_keep_their_order_down_to_the_lowest() -> None:
    def build(document: Any) -> None:
        for level in range(1, 10):
            document.add_heading(f"h{level}", level)

    assert [block[2] for block in blocks(parse_docx(word_file(build))) if len(block) == 3] == [
        2,
        3,
        4,
        5,
        6,
        6,
        6,
        6,
        6,
    ]


def test_a_footnote_comes_after_the_text_without_its_arrow() -> None:
    data = word_file(lambda document: document.add_paragraph("Text"))
    reference = b'<w:r><w:footnoteReference w:id="2"/></w:r></w:p>'
    note = (
        b'<w:footnotes xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:footnote w:id="2">'
        b"<w:p><w:r><w:t>What the note says.</w:t></w:r></w:p></w:footnote></w:footnotes>"
    )
    relation = (
        b'<Relationship Id="rId99" Target="footnotes.xml" Type="http://schemas.openxmlformats.org/officeDocument/2006/'
        b'relationships/footnotes"/></Relationships>'
    )
    relations = "word/_rels/document.xml.rels"
    data = with_parts(
        data,
        {
            DOCUMENT: part_of(data, DOCUMENT).replace(b"</w:p>", reference, 1),
            "word/footnotes.xml": note,
            relations: part_of(data, relations).replace(b"</Relationships>", relation),
        },
    )
    assert blocks(parse_docx(data)) == [(P, "Text[1]"), (L, "What the note says.")]


def slides(made: Any) -> None:
    """A title, a list with a footer and notes, and shapes, a group and a table without a title."""
    first = made.slides.add_slide(made.slide_layouts[TITLE_SLIDE])
    first.shapes.title.text = "Pumps"
    first.placeholders[1].text = "A course"
    second = made.slides.add_slide(made.slide_layouts[TITLE_AND_CONTENT])
    second.placeholders[1].text = "prime it\nstart it"
    second.shapes.title.text = "How to\vstart"
    for name, words in (("dt", "1 May"), ("ftr", "Acme Ltd"), ("sldNum", "2")):
        box = second.shapes.add_textbox(0, 0, 9, 9)
        box.text_frame.text = words
        box._element.nvSpPr.nvPr.append(_placeholder(name))
    second.notes_slide.notes_text_frame.text = "Say it slowly."
    third = made.slides.add_slide(made.slide_layouts[BLANK])
    third.shapes.add_picture(io.BytesIO(PIXEL), 0, 0)
    third.shapes.add_group_shape().shapes.add_group_shape().shapes.add_textbox(0, 0, 9, 9).text_frame.text = "In groups"
    table = third.shapes.add_table(2, 2, 0, 0, 9, 9).table
    table.cell(0, 0).merge(table.cell(0, 1))
    for (row, column), text in {(0, 0): "over both", (1, 0): "a", (1, 1): "b"}.items():
        table.cell(row, column).text = text


def _placeholder(kind: str) -> Any:
    from pptx.oxml import parse_xml

    name = "http://schemas.openxmlformats.org/presentationml/2006/main"
    return parse_xml(f'<p:ph xmlns:p="{name}" type="{kind}" idx="{10 + len(kind)}"/>')


def test_slides_are_read_one_after_the_other_their_titles_first() -> None:
    parsed = parse_pptx(presentation(slides))
    assert blocks(parsed) == [
        (H, "Pumps", 1),
        (P, "A course"),
        (H, "How to start", 2),
        (L, "prime it"),
        (L, "start it"),
        (P, "Say it slowly."),
        (P, "In groups"),
        (T, "over both"),
        (T, "a | b"),
    ]
    assert isinstance(parsed, Parsed)
    assert (parsed.title, parsed.words_left_out) == ("", 5)  # nobody named it: PowerPoint's own name is no title


def test_a_folder_gives_passages_under_titles_and_counts_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.docx").write_bytes(word_file(manual))
    (tmp_path / "b.PPTX").write_bytes(presentation(slides))
    (tmp_path / "c.docx").write_bytes(word_file(lambda document: document.add_paragraph("Without a heading.")))
    (tmp_path / "d.docx").write_bytes(word_file(lambda document: None))
    corpus, report = read_folder(tmp_path)
    assert list(corpus.documents["title"]) == ["The manual", "The manual > Valves", "Pumps", "c"]
    assert "size | price | in stock" in corpus.documents["text"][1]
    assert report.read == 3
    assert report.troubles[Trouble.EMPTY_FILE].examples == ("d.docx: no text",)
    assert report.notes == ("words around the text of PowerPoint files (footers, dates, slide numbers), left out: 5",)


OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504)


@pytest.mark.parametrize(
    ("data", "trouble", "reason"),
    [
        (OLE + "EncryptedPackage".encode("utf-16-le"), Trouble.ENCRYPTED, "needs a password"),
        (OLE, Trouble.UNREADABLE, "in Office's format of before 2007; save it as .docx or .pptx"),
        (b"no ZIP", Trouble.UNREADABLE, "no readable Office file (BadZipFile: File is not a zip file)"),
    ],
)
def test_what_is_no_such_file_says_what_it_is(data: bytes, trouble: Trouble, reason: str) -> None:
    assert parse_docx(data) == parse_pptx(data) == Unread(trouble, reason)


def test_a_zip_that_is_no_office_file_or_is_broken_inside_is_unreadable() -> None:
    good = word_file(manual)
    slide = presentation(slides)
    for parse, data, program in (
        (parse_docx, slide, "Word"),
        (parse_docx, with_parts(good, {DOCUMENT: b"<w:document"}), "Word"),
        (parse_pptx, good, "PowerPoint"),
        (parse_pptx, with_parts(slide, {"ppt/slides/slide2.xml": b"\xff"}), "PowerPoint"),
    ):
        read = parse(data)
        assert isinstance(read, Unread) and read.trouble is Trouble.UNREADABLE
        assert read.reason.startswith(f"no readable {program} file ("), read.reason
    damaged = bytearray(good)
    at = damaged.index(b"word/document.xml") + 200
    damaged[at : at + 50] = bytes(50)
    assert isinstance(parse_docx(bytes(damaged)), Unread)


def test_broken_properties_lose_a_title_and_no_text() -> None:
    parsed = parse_docx(with_parts(word_file(manual), {"docProps/core.xml": b"<cp:core"}))
    assert isinstance(parsed, Parsed) and parsed.title == "" and len(parsed.blocks) == 11


def test_a_file_that_unpacks_to_gigabytes_is_refused_before_it_is_unpacked() -> None:
    data = with_parts(word_file(manual), {DOCUMENT: b" " * (office.XML_AT_MOST + 1)})
    assert len(data) < 200_000
    wanted = Unread(Trouble.UNREADABLE, "unpacks to more than 67.1 MB; split it")
    assert parse_docx(data) == wanted and parse_pptx(data) == wanted
    # One that lies about its size gives no more than it says, and then does not match its checksum.
    central = data.rindex(b"PK\x01\x02", 0, data.rindex(DOCUMENT.encode()))
    lying = data[: central + 24] + struct.pack("<I", 1000) + data[central + 28 :]
    read = parse_docx(lying)
    assert isinstance(read, Unread) and "BadZipFile" in read.reason


def test_pictures_and_macros_are_not_unpacked() -> None:
    began = time.perf_counter()
    huge = {"ppt/media/image1.png": bytes(1 << 28), "ppt/vbaProject.bin": bytes(1 << 28)}
    assert blocks(parse_pptx(with_parts(presentation(slides), huge))) == blocks(parse_pptx(presentation(slides)))
    assert time.perf_counter() - began < 30


@pytest.mark.parametrize("encoding", ["utf8", "utf-16"])
def test_entities_that_grow_are_refused(encoding: str) -> None:
    bomb = (
        f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE w [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
        '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>'
        "&b;</w:t></w:r></w:p></w:body></w:document>"
    )
    read = parse_docx(with_parts(word_file(manual), {DOCUMENT: bomb.encode(encoding)}))
    assert read == Unread(Trouble.UNREADABLE, "it declares entities, which no Office file does")


def test_files_of_elements_without_end_and_without_bottom_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    document = part_of(word_file(manual), DOCUMENT)
    deep = b"<w:sdt><w:sdtContent>" * 2000 + b"</w:sdtContent></w:sdt>" * 2000
    read = parse_docx(with_parts(word_file(manual), {DOCUMENT: document.replace(b"<w:body>", b"<w:body>" + deep)}))
    assert read == Unread(Trouble.UNREADABLE, "a Word file whose parts are within each other too deep")
    monkeypatch.setattr(office, "ELEMENTS_AT_MOST", 1000)
    wanted = Unread(Trouble.UNREADABLE, "it has more than 1,000 elements; split it")
    assert parse_docx(word_file(manual)) == wanted == parse_pptx(presentation(slides))
