"""PDF: lines become paragraphs, page furniture goes, and a file that gives no text says why."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed, Unread
from sdretrieval.corpus.read.documents.pdf import parse_pdf, without_heads
from sdretrieval.corpus.read.report import Trouble
from tests.helpers.pdf import HELVETICA, encrypted, pdf, with_form, with_outline, with_picture, with_wide_code_32

LONG = "a line of this document which is as long as the lines of it usually are"


def blocks(data: bytes) -> list[Block]:
    parsed = parse_pdf(data)
    assert isinstance(parsed, Parsed)
    return parsed.blocks


def test_lines_are_joined_to_paragraphs_and_broken_words_mended() -> None:
    found = blocks(
        pdf(
            [
                [
                    f"{LONG} with infor-",
                    "mation that goes on in the next line and has a self-contained word in it",
                    "and here it ends.",
                    f"{LONG} and is self-",
                    "contained.",
                    "- first thing",
                    "- second thing",
                ]
            ]
        )
    )
    assert [block.kind for block in found] == [Kind.PARAGRAPH, Kind.PARAGRAPH, Kind.LIST_ITEM, Kind.LIST_ITEM]
    assert "with information that goes on" in found[0].text and found[0].text.endswith("here it ends.")
    assert found[1].text == f"{LONG} and is self-contained."


GLYPHS = "/dieresis /acute /dotlessi /cedilla /uniF0B7 /uniE123 /uniF8EB /ffi /hyphen"
NAMED = HELVETICA.replace(">>", f"/Encoding << /Differences [128 {GLYPHS}] >> >>")
NUMBERED = (
    "<< /Type /Font /Subtype /Type0 /BaseFont /X /Encoding /Identity-H /DescendantFonts [<< /Type /Font /BaseFont /X "
    "/Subtype /CIDFontType2 /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >> >>] >>"
)


@pytest.mark.parametrize(
    ("line", "text", "unreadable"),
    [
        ("\x80uber Jos\x81e, Ingenier\x81\x82a, fran\x83cais", "über José, Ingeniería, français", 0),
        ("x \x81= y, a \x81 b, /\x80a", "x ´= y, a ´ b, /¨a", 0),  # no accents of these letters
        ("su\x87cient, a su\x0ecient, di\x1berent \x0crst", "sufficient, a sufficient, different first", 0),
        ("\x84 an item", "• an item", 0),
        ("a \x85 b \x01c\x02 d", "a \ufffd b \ufffdc\ufffd d", 3),
        ("\x86 x", "⎛ x", 0),
    ],
)
def test_characters_that_fonts_of_tex_and_of_word_processors_hide(line: str, text: str, unreadable: int) -> None:
    parsed = parse_pdf(pdf([[line]], NAMED))
    assert isinstance(parsed, Parsed)
    assert ([block.text for block in parsed.blocks], parsed.unreadable) == ([text], unreadable)


def test_a_font_that_only_numbers_its_glyphs_gives_no_words() -> None:
    found = parse_pdf(pdf([["<004100420043>"], ["<0041>"]], NUMBERED))
    assert isinstance(found, Unread) and found.trouble is Trouble.UNREADABLE
    assert found.reason.startswith("its fonts do not say what 4 characters are; run text recognition")


def test_a_heading_is_found_though_its_letters_are_in_a_ligature() -> None:
    parsed = parse_pdf(with_outline(pdf([["1 Su\x87ciency", LONG]], NAMED), [("1 Sufficiency", 0, 1)]))
    assert isinstance(parsed, Parsed) and parsed.blocks[0] == Block(Kind.HEADING, "1 Sufficiency", 1)


def test_gaps_between_words_are_found_though_code_32_is_a_wide_sign() -> None:
    assert [block.text for block in blocks(with_wide_code_32(pdf([["[(words) -250 (in) -250 (a) -250 (line)]"]])))] == [
        "words in a line"
    ]


def test_what_was_typed_into_a_form_is_read() -> None:
    found = blocks(with_form(pdf([["Name of the plant"]]), {"plant": "Kiln  seven", "note": ""}))
    assert [block.text for block in found] == ["Name of the plant plant: Kiln seven"]


def test_a_page_that_is_a_picture_is_counted_and_a_blank_one_is_not() -> None:
    parsed = parse_pdf(with_picture(pdf([["words"], [], []]), 1))
    assert isinstance(parsed, Parsed) and parsed.lost_pages == 1


@settings(max_examples=25, deadline=None)
@given(words=st.lists(st.text(alphabet="abcdefg.,;()", min_size=1, max_size=9), min_size=1, max_size=30))
def test_every_word_comes_out(words: list[str]) -> None:
    pages = [[" ".join(words[start : start + 5])] for start in range(0, len(words), 5)]
    parsed = parse_pdf(pdf(pages))
    assert isinstance(parsed, Parsed)
    found = " ".join(block.text for block in parsed.blocks).split()
    assert len(found) + parsed.words_left_out == len(words)
    if not parsed.words_left_out:
        assert found == words


def test_a_paragraph_goes_on_over_the_page() -> None:
    found = blocks(pdf([[LONG, LONG], ["and its end."]]))
    assert [block.text for block in found] == [f"{LONG} {LONG} and its end."]


def test_page_numbers_and_running_heads_are_removed() -> None:
    texts = [f"What only page {'abcdef'[page]} says." for page in range(6)]
    left_right = ["The Manual", "Chapter 1: Beginnings"]
    pages = [[f"{left_right[page % 2]} {page}", texts[page], f"Page {page + 1} of 6"] for page in range(6)]
    assert without_heads(pages) == [[text] for text in texts]
    text = " ".join(block.text for block in blocks(pdf(pages)))
    assert all(said in text for said in texts)
    assert "Manual" not in text and "Chapter" not in text and "of 6" not in text


def test_a_line_that_stands_on_two_pages_only_is_no_running_head() -> None:
    pages = [["Again", "a"], ["Again", "b"], ["c"]]
    assert without_heads(pages) == pages


def test_the_outline_gives_headings_with_levels_and_the_metadata_a_title() -> None:
    data = pdf([["1 First part", LONG, "1.1 A part with a title", "of two lines", LONG], ["2 Second part", LONG]])
    outline = [("1 First part", 0, 1), ("1.1 A part with a title of two lines", 0, 2), ("2 Second part", 1, 1)]
    parsed = parse_pdf(with_outline(data, [*outline, ("Not on the page", 1, 1)], "A Manual"))
    assert isinstance(parsed, Parsed)
    headings = [(block.text, block.level) for block in parsed.blocks if block.kind is Kind.HEADING]
    assert headings == [(title, level) for title, _, level in outline]
    assert parsed.title == "A Manual"


@pytest.mark.parametrize(
    ("data", "kind", "reason"),
    [
        (b"%PDF-1.4\nnothing that follows", Trouble.UNREADABLE, "no readable PDF (PdfStreamError: "),
        (b"no PDF at all", Trouble.UNREADABLE, "no readable PDF ("),
        (encrypted(pdf([["secret words"]]), "password"), Trouble.ENCRYPTED, "needs a password"),
        (pdf([[], []]), Trouble.IMAGE_ONLY, "no text on its 2 pages"),
    ],
)
def test_a_file_without_text_says_why(data: bytes, kind: Trouble, reason: str) -> None:
    found = parse_pdf(data)
    assert isinstance(found, Unread) and found.trouble is kind
    assert found.reason.startswith(reason)


def test_an_empty_password_opens_a_file_that_only_forbids_printing() -> None:
    assert [block.text for block in blocks(encrypted(pdf([["open words"]]), ""))] == ["open words"]


def test_a_file_cut_short_is_read_or_refused_and_never_raises() -> None:
    whole = with_outline(pdf([["some words", LONG]] * 3), [("some words", 1, 1)])
    for end in range(0, len(whole), 97):
        assert isinstance(parse_pdf(whole[:end]), Parsed | Unread)
