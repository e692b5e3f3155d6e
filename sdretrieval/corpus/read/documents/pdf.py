"""PDF to blocks, by pypdf: the text of the pages without page numbers and running heads, line ends mended.

A PDF knows lines, not paragraphs: one ends at a blank line, at a bullet, and after a sentence that leaves its line
short. Headings are the titles of the file's outline, where they are on the page that the outline names. A font may
not say which characters its glyphs show: these are read as U+FFFD, and counted.
"""

from __future__ import annotations

import io
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed, Unread, as_written, load_parser, one_line
from sdretrieval.corpus.read.documents.pdf_columns import MARKS, without_marks
from sdretrieval.corpus.read.documents.pdf_content import mend_content
from sdretrieval.corpus.read.documents.plain import ITEM
from sdretrieval.corpus.read.report import Trouble
from sdretrieval.formatting import quantity

if TYPE_CHECKING:
    from pypdf import PdfReader

PAGE_NUMBER = re.compile(
    r"[-–—\[( ]*(?:[Pp]age\s+|PAGE\s+)?(?:\d{1,4}(?:\s*(?:of|/)\s*\d{1,4})?|x{0,3}(?:ix|iv|v?i{1,3}|v|x))[-–—\]) ]*"
)
EDGE_LINES = 3
"""How many lines at the top and at the bottom of a page can be heads or page numbers."""
HEAD_ON_PAGES = 3
HEAD_WITHIN = 2
"""A running head is on this many pages, and on one at most this far away: left and right pages differ."""
SHORT_LINE = 0.8
"""A line below this share of the usual length (the 9th decile) ends a paragraph if a sentence ends with it."""
UNREADABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff\ufffd\U000f0000-\U0010fffd]")
"""Control characters, halves of characters and private ones: what a glyph without a known character is read as."""
GLYPH = re.compile(f"[^\\s{MARKS}]")
MOSTLY = 0.5
"""A PDF with a larger share of unreadable characters gives no passages."""
BULLET = re.compile("^[\uf020-\uf0ff](?=\\s)", re.MULTILINE)
"""From the symbol fonts of word processors."""
BRACKETS = str.maketrans(dict(zip(map(chr, range(0xF8EB, 0xF8FF)), "⎛⎜⎝⎡⎢⎣⎧⎨⎩⎪⎮⎞⎟⎠⎤⎥⎦⎫⎬⎭", strict=True)))
"""Pieces of large brackets: Adobe's private characters for them, and Unicode's."""
TEX_LIGATURE = re.compile("(?<=[a-z])[\x0b\x0c\x0e\x0f\x1b-\x1f]|[\x0b\x0c\x0e\x0f\x1b-\x1f](?=[a-z])")
TEX_LIGATURES = dict(zip("\x0b\x0c\x0e\x0f\x1b\x1c\x1d\x1e\x1f", "ff fi ffi ffl ff fi fl ffi ffl".split(), strict=True))
"""The places that ligatures have in fonts of TeX, which often say no more."""
TEX_ACCENT = re.compile("(?:(?<![^\\s\\w(\"'«“„-])([¨´ˆ˜¸˘ˇ˚¯˙˝])|(?<=[^\\W\\d_])(`))([^\\W\\d_])")
"""An accent printed before its letter, as TeX does in fonts without accented letters."""
COMBINING = dict(
    zip("¨´ˆ˜¸˘ˇ˚¯˙˝`", "\u0308\u0301\u0302\u0303\u0327\u0306\u030c\u030a\u0304\u0307\u030b\u0300", strict=True)
)
SPACE, SPACE_MAPPED = 32, b"<0020>"
BROKEN_WORD = re.compile(r"(\w+)[-\u00ad\u2010]$")
DEEPEST = 9

Titles = dict[str, int]


class Page(NamedTuple):
    """The lines of a page, how many of its characters are not readable, and whether columns may be mixed. Without lines
    it may be broken, or hold a picture of its text."""

    lines: list[str]
    unreadable: int = 0
    mixed: bool = False
    broken: bool = False
    picture: bool = False


def parse_pdf(data: bytes) -> Parsed | Unread:
    """Blocks of a PDF, or why there are none: it is broken, encrypted, or holds images only."""
    pypdf = load_parser("pypdf", ".pdf")
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what is wrong with a file is in the report
    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        if reader.is_encrypted and (locked := _why_locked(reader)):
            return Unread(Trouble.ENCRYPTED, locked)
        pages = [_read_page(page) for page in reader.pages]
        pages += [Page(form)] if (form := _filled_form(reader)) else []
        titles, name = _outline(reader), ""
        with suppress(Exception):  # a broken information dictionary loses a title, no text
            name = one_line(str((reader.metadata and reader.metadata.title) or ""))
    except RecursionError:
        return Unread(Trouble.UNREADABLE, "a PDF whose parts contain each other")
    except Exception as error:  # whatever a broken file makes a parser trip over
        return Unread(Trouble.UNREADABLE, f"no readable PDF ({type(error).__name__}: {one_line(str(error))[:80]})")
    lines = [page.lines for page in pages]
    if pages and all(page.broken for page in pages):
        return Unread(Trouble.UNREADABLE, f"none of its {quantity(len(pages), 'pages')} can be read")
    if pages and not any(lines):
        return Unread(Trouble.IMAGE_ONLY, f"no text on its {quantity(len(pages), 'pages')}")
    unreadable = sum(page.unreadable for page in pages)
    if unreadable > MOSTLY * sum(len(line) for page in lines for line in page):
        count = quantity(unreadable, "characters")
        reason = f"its fonts do not say what {count} are; run text recognition (ocrmypdf --force-ocr)"
        return Unread(Trouble.UNREADABLE, reason)
    cleaned = without_heads(lines)
    heads = sum(len(line.split()) for page in lines for line in page)
    heads -= sum(len(line.split()) for page in cleaned for line in page)
    lost = sum(page.broken or page.picture for page in pages)
    mixed = sum(page.mixed for page in pages)
    return Parsed(list(_blocks(cleaned, titles)), name, lost, unreadable, heads, mixed)


def without_heads(pages: list[list[str]]) -> list[list[str]]:
    """The lines of each page without page numbers and without heads and feet that repeat from page to page."""
    for edge in (0, -1):
        for _ in range(EDGE_LINES):
            heads = [re.sub(r"\d+", "#", lines[edge]) if lines else "" for lines in pages]
            counts = Counter(heads)
            rest = []
            for page, lines in enumerate(pages):
                near = heads[max(0, page - HEAD_WITHIN) : page] + heads[page + 1 : page + 1 + HEAD_WITHIN]
                is_head = heads[page] and counts[heads[page]] >= HEAD_ON_PAGES and heads[page] in near
                if lines and (is_head or PAGE_NUMBER.fullmatch(lines[edge])):
                    lines = lines[1:] if edge == 0 else lines[:-1]
                rest.append(lines)
            pages = rest
    return pages


def _why_locked(reader: PdfReader) -> str:
    """Empty where the file opens: many are encrypted with an empty password, only to forbid printing."""
    from pypdf.errors import DependencyError

    try:
        return "" if reader.decrypt("") else "needs a password"
    except DependencyError:
        return "its cipher needs a further package; run: pip install cryptography"


def _read_page(page: Any) -> Page:
    """The lines of a page, and what of it could not be read."""
    parts, unmapped = list[str](), _unmapped_fonts(page)

    def collect(text: str, _page: Any, _text: Any, font: Any, _size: float) -> None:
        parts.append(GLYPH.sub("\ufffd", text) if any(font is other for other in unmapped) else text)

    with suppress(Exception):  # what cannot be mended is read as it is
        mend_content(page)
    try:
        page.extract_text(visitor_text=collect)
    except Exception:  # as in parse_pdf; the other pages may be whole
        return Page([], broken=True)
    text, mixed = without_marks("".join(parts))
    if not text.strip():
        with suppress(Exception):
            return Page([], picture=bool(page.images))
        return Page([])
    text = TEX_LIGATURE.sub(lambda place: TEX_LIGATURES[place[0]], BULLET.sub("•", text).translate(BRACKETS))
    text, unreadable = UNREADABLE.subn("\ufffd", as_written(TEX_ACCENT.sub(_accented, text)))
    lines = "\n".join(line.strip() for line in text.split("\n")).strip("\n").split("\n")
    return Page(lines, unreadable, mixed)


def _filled_form(reader: PdfReader) -> list[str]:
    """What was typed into the fields of a form, which is on no page: a line each."""
    with suppress(Exception):  # a broken form loses fields, no pages
        fields = reader.get_form_text_fields()
        return [one_line(f"{name}: {value}") for name, value in fields.items() if value]
    return []


def _unmapped_fonts(page: Any) -> list[Any]:
    """The fonts that number their glyphs and say nothing of the characters that these show.

    Of the others the width of the space is mended: pypdf takes that of code 32, but TeX's fonts have another sign
    there, and if it is wide, no gap between words is wide enough.
    """
    from pypdf.generic import NumberObject

    unmapped, fonts = list[Any](), list[Any]()
    with suppress(Exception):  # a broken page is met when its text is read
        fonts += page["/Resources"]["/Font"].values()
    for font in fonts:
        with suppress(Exception):
            font = font.get_object()
            if "/ToUnicode" not in font:
                if font["/Subtype"] == "/Type0" and str(font["/Encoding"]).startswith("/Identity"):
                    unmapped.append(font)
            elif "/Widths" in font and SPACE_MAPPED not in font["/ToUnicode"].get_data():
                widths, at = font["/Widths"], SPACE - font["/FirstChar"]
                if 0 <= at < len(widths):
                    widths[at] = NumberObject(0)
    return unmapped


def _accented(found: re.Match[str]) -> str:
    """The letter with its accent, if Unicode has it as one character."""
    letter = {"ı": "i", "ȷ": "j"}.get(found[3], found[3])
    composed = unicodedata.normalize("NFC", letter + COMBINING[found[1] or found[2]])
    return composed if len(composed) == 1 else found[0]


def _outline(reader: PdfReader) -> dict[int, Titles]:
    """Page -> the titles that begin on it and their levels."""
    titles: dict[int, Titles] = {}
    try:
        for level, entry in _entries(reader.outline, 1):
            page = reader.get_destination_page_number(entry)
            if page is not None:
                titles.setdefault(page, {}).setdefault(_key(str(entry.title)), level)
    except Exception:  # a broken outline loses headings, no text
        return titles
    return titles


def _entries(outline: Iterable[Any], level: int) -> Iterator[tuple[int, Any]]:
    for entry in outline:
        if isinstance(entry, list):
            yield from _entries(entry, min(level + 1, DEEPEST))
        else:
            yield level, entry


def _key(title: str) -> str:
    return "".join(as_written(title).casefold().split())


def _blocks(pages: list[list[str]], titles: dict[int, Titles]) -> Iterator[Block]:
    lengths = sorted(len(line) for lines in pages for line in lines)
    short = SHORT_LINE * lengths[int(0.9 * (len(lengths) - 1))] if lengths else 0
    vocabulary = frozenset(re.findall(r"\w+(?:-\w+)*", "\n".join(line for lines in pages for line in lines).casefold()))
    paragraph: list[str] = []
    for heading, line in _marked(pages, titles):
        ended = paragraph and len(paragraph[-1]) < short and re.search(r"[.!?:;][\"'”’)]*$", paragraph[-1])
        if heading or not line or ended or ITEM.match(line):
            yield from _paragraph(paragraph, vocabulary)
            paragraph = []
        if heading:
            yield Block(Kind.HEADING, one_line(line), heading)
        elif line:
            paragraph.append(line)
    yield from _paragraph(paragraph, vocabulary)


def _marked(pages: list[list[str]], titles: dict[int, Titles]) -> Iterator[tuple[int, str]]:
    """The lines of all pages, each with its level as a heading (0: none). A title may fill two lines."""
    for page, lines in enumerate(pages):
        expected = dict(titles.get(page, {}))
        at = 0
        while at < len(lines):
            two = " ".join(lines[at : at + 2])
            if level := expected.pop(_key(lines[at]), 0):
                yield level, lines[at]
            elif level := expected.pop(_key(two), 0):
                yield level, two
                at += 1
            else:
                yield 0, lines[at]
            at += 1


def _paragraph(lines: list[str], vocabulary: frozenset[str]) -> Iterator[Block]:
    if not lines:
        return
    kind = Kind.LIST_ITEM if ITEM.match(lines[0]) else Kind.PARAGRAPH
    text = lines[0]
    for line in lines[1:]:
        text = _mended(text, line, vocabulary)
    yield Block(kind, one_line(text))


def _mended(text: str, line: str, vocabulary: frozenset[str]) -> str:
    """Join a line, and a word broken at its end: without the hyphen, unless the file writes it with one elsewhere."""
    broken, rest = BROKEN_WORD.search(text), re.match(r"[^\W\d_]+", line)
    if not broken or not rest or not rest[0][0].islower():
        return f"{text} {line}"
    hyphened = f"{broken[1]}-{rest[0]}".casefold()
    keep = hyphened in vocabulary and hyphened.replace("-", "") not in vocabulary
    return text[:-1] + ("-" if keep else "") + line
