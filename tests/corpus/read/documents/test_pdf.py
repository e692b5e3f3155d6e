"""PDF: lines become paragraphs, page furniture goes, and a file that gives no text says why."""

from __future__ import annotations

import pytest

from sdretrieval.corpus.read.documents.blocks import Block, Kind, Parsed, Unread
from sdretrieval.corpus.read.documents.pdf import parse_pdf, without_heads
from sdretrieval.corpus.read.report import Trouble
from tests.helpers.pdf import encrypted, pdf, with_outline

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
