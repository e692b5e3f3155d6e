"""PDF: gaps between words that are spacing, and columns that are drawn row by row."""

from __future__ import annotations

import re
import textwrap
from collections import Counter
from itertools import zip_longest

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sdretrieval.corpus.read.documents.blocks import Parsed
from sdretrieval.corpus.read.documents.pdf import parse_pdf
from tests.helpers.pdf import HELVETICA, drawn, in_a_form, in_rows, operand

WIDTHS = " ".join(["250", *["500"] * 94])
MEASURED = HELVETICA.replace(">>", f"/FirstChar 32 /Widths [{WIDTHS}] >>")
"""A font that says how wide its glyphs are: a space 250, all others 500."""
LEFT = (
    "Kilns of the early period were dug into the slope of a hill so that the fire could rise through the chamber by "
    "itself. Their floors were strewn with sand, and the ware stood on small cones of clay. What remains of them is "
    "seldom more than the hearth, a few courses of stone, and heaps of shards that were thrown away, which tell more "
    "of the trade than any document that has come down to us."
)
RIGHT = (
    "Salt was thrown into the fire at its hottest and covered the ware with a thin glaze, brown or grey as the clay "
    "would have it. The guild allowed it to no more than seven masters, who took their turns by lot each year. Later "
    "furnaces had a grate and a chimney, burnt coal where wood had become dear, and needed half of the time, so that "
    "the old ones were given up within a single generation."
)


def shown(content: str, font: str = MEASURED) -> str:
    return read(drawn([f"BT /F1 10 Tf 50 800 Td {content} ET"], font))[0]


def read(data: bytes) -> tuple[str, int]:
    parsed = parse_pdf(data)
    assert isinstance(parsed, Parsed)
    return " ".join(block.text for block in parsed.blocks), parsed.mixed_pages


@pytest.mark.parametrize(
    ("content", "text"),
    [
        # ghostscript: the gap between two words is the spacing of a string of two letters
        ("(with car) Tj 2.5 Tc 37.5 0 Td (es) Tj 0 Tc 12.5 0 Td (ome words) Tj", "with care some words"),
        ("2.5 Tc [(di) 250 (nt)] TJ 0 Tc 25 0 Td (he end) Tj", "d in the end"),
        ("(inde) Tj 2.5 Tc 20 0 Td (x0c) Tj 0 Tc 20 0 Td (ontains) Tj", "index 0 contains"),
        ("12 TL (ab) Tj 0 2.5 (ca) \" 2.5 Tc (le) '", "ab c a l e"),
        # kerning of two letters is no gap
        ("-0.3 Tc (Av) Tj 0 Tc 9.4 0 Td (ail) Tj", "Avail"),
        # letterspaced words
        ("3 Tc (LETTERS) Tj 60 0 Td (OF) Tj", "LETTERS OF"),
        ("2.5 Tc (A KILN) Tj", "A KILN"),
        ("3.1 Tc (THE) Tj", "THE"),
        ("1 Tc (of) Tj", "of"),
        # a line that is justified, and goes on within a word: the strings are wider or narrower than their glyphs
        ("4 Tw (a long line that is justi) Tj 132.5 0 Td (fied) Tj", "a long line that is justified"),
        ("-1.5 Tw (a long line that is) Tj 90 0 Td (narrow) Tj", "a long line that is narrow"),
        ("(g) Tj -2.15 Tw -0.25 Tc 5 0 Td (iv e) Tj 0 Tc 0 Tw 14.6 0 Td (n) Tj", "given"),
        ("4 Tw [(kerned li) -20 (nes and) -300 (gaps)] TJ", "kerned lines and gaps"),
        ("q 4 Tw (a b c) Tj Q 60 0 Td (d) Tj", "a b c d"),
    ],
)  # fmt: skip
def test_spacing_is_a_gap_where_it_parts_words(content: str, text: str) -> None:
    assert shown(content) == text


def test_spacing_is_mended_in_forms_too() -> None:
    content = "BT /F1 10 Tf 50 800 Td (with car) Tj 2.5 Tc 37.5 0 Td (es) Tj 0 Tc 12.5 0 Td (ome words) Tj ET"
    assert read(in_a_form(drawn([content, content], MEASURED)))[0] == "with care some words with care some words"


TOKENS = st.text("ab ", min_size=1, max_size=3) | st.sampled_from([LEFT[:60], RIGHT[:60], "a    b"])
NUMBERS = st.sampled_from([-300, -12, -1, 0, 0.3, 2.5, 11, 255])
OPERATIONS = st.one_of(
    st.builds("({}) Tj".format, TOKENS),
    st.builds("({}) '".format, TOKENS),
    st.builds('{} {} ({}) "'.format, NUMBERS, NUMBERS, TOKENS),
    st.builds("[({}) {} ({})] TJ".format, TOKENS, st.sampled_from([-5000, -250, 20, 300]), TOKENS),
    st.builds("{} {}".format, NUMBERS, st.sampled_from(["Tc", "Tw", "TL"])),
    st.builds("{} {} {}".format, NUMBERS, NUMBERS, st.sampled_from(["Td", "TD"])),
    st.builds("1 0 0 1 {} {} Tm".format, st.sampled_from([50, 305]), st.sampled_from([700, 688, 676])),
    st.sampled_from(["q", "Q", "T*", "ET BT", "2 0 0 2 0 0 cm"]),
)


@settings(max_examples=30, deadline=None)
@given(operations=st.lists(OPERATIONS, min_size=1, max_size=30))
def test_mending_loses_no_character_and_adds_none(operations: list[str]) -> None:
    drawing = "\n".join(operations)
    strings = re.findall(r"\(([^)]*)\)", drawing)
    assume("".join(strings).strip())
    text = read(drawn([f"BT /F1 10 Tf 50 800 Td {drawing} ET"], MEASURED))[0]
    assert Counter("".join(text.split())) == Counter("".join("".join(strings).split()))


@pytest.mark.parametrize("broken", ["(x) Tc", "Tw", "1 0 0 cm", "/F1 Tf", "[(a) /b] TJ", "/Nowhere 9 Tf"])
def test_broken_operations_lose_no_text(broken: str) -> None:
    assert "some words" in shown(f"(some words) Tj {broken}")


def page(*content: str) -> bytes:
    return drawn([f"BT /F1 10 Tf {' '.join(content)} ET"], MEASURED)


@pytest.mark.parametrize("width", [44, 40])
def test_columns_drawn_row_by_row_are_read_one_after_the_other(width: int) -> None:
    columns = [textwrap.wrap(LEFT, width), textwrap.wrap(RIGHT, width)]
    for data in (page(in_rows(columns)), in_a_form(page(in_rows(columns)))):
        assert read(data) == (f"{LEFT} {RIGHT}", 0)


def test_columns_within_one_string() -> None:
    rows = list(zip_longest(textwrap.wrap(LEFT, 44), textwrap.wrap(RIGHT, 44), fillvalue=""))
    spaced = "".join(f"({left:50}{right}) Tj 0 -12 Td " for left, right in rows)
    fixed = HELVETICA.replace(">>", f"/FirstChar 32 /Widths [{'600 ' * 95}] >>")
    assert read(drawn([f"BT /F1 8 Tf 50 700 Td {spaced} ET"], fixed)) == (f"{LEFT} {RIGHT}", 0)
    widths = [5 * len(left) - 2.5 * left.count(" ") for left, _ in rows]
    jumping = "".join(
        f"[({left}) {100 * (width - 255)} ({right})] TJ 0 -12 Td "
        for (left, right), width in zip(rows, widths, strict=True)
    )
    assert read(page("50 700 Td", jumping)) == (f"{LEFT} {RIGHT}", 0)


def test_what_is_as_wide_as_the_page_stays_where_it_is() -> None:
    head = "A heading that is so long that it goes over both of the columns"
    upper = in_rows([textwrap.wrap(LEFT, 44), textwrap.wrap(RIGHT, 44)])
    lower = in_rows([textwrap.wrap(RIGHT, 44), textwrap.wrap(LEFT, 44)], 500)
    wide = "1 0 0 1 50 {} Tm ({}.) Tj "
    text, mixed = read(page(wide.format(720, f"{head}: 1"), upper, wide.format(550, f"{head}: 2"), lower))
    assert (text, mixed) == (" ".join([f"{head}: 1.", LEFT, RIGHT, f"{head}: 2.", RIGHT, LEFT]), 0)


def test_three_columns() -> None:
    texts = [LEFT, RIGHT, LEFT[::-1].lower().replace(".", "")]
    assert read(page(in_rows([textwrap.wrap(text, 29) for text in texts]))) == (" ".join(texts), 0)


NAMES = [f"--option-{name}" for name in "alpha beta gamma delta epsilon zeta eta theta iota kappa".split()]
NOTES = [
    "What it does, in a few words",
    "Shows nothing",
    "The number of rows that it takes at the most",
    "Off",
    "See above",
]


@pytest.mark.parametrize(
    "columns",
    [
        [NAMES, (NOTES * 2)],
        [[f"Cell {name} holds a sentence." for name in NAMES], [f"And {note} as well." for note in NOTES * 2]],
        [[f"{number}. A chapter of the book" for number in range(10)], [str(number) for number in range(10)]],
    ],
)  # fmt: skip
def test_tables_are_read_row_by_row(columns: list[list[str]]) -> None:
    text, mixed = read(page(in_rows(columns)))
    rows = [f"{left} {right}" for left, right in zip(*columns, strict=True)]
    assert (text, mixed) == (" ".join(rows), 0)


def test_what_may_be_columns_is_read_across_and_counted() -> None:
    columns = [[line.capitalize() for line in textwrap.wrap(text, 44)[:9]] for text in (LEFT, RIGHT)]
    text, mixed = read(page(in_rows(columns)))
    assert mixed == 1
    assert text.split() == [word for pair in zip(*columns, strict=True) for line in pair for word in line.split()]


def test_items_keep_their_bullets() -> None:
    items = [f"Item {number} is one line of a long list of them" for number in range(12)]
    lines = [line for item in items for line in ("-", item)]
    drawing = in_rows([textwrap.wrap(LEFT, 44)]) + "".join(
        f"1 0 0 1 {(305, 320)[at % 2]} {700 - 12 * (at // 2)} Tm {operand(line)} " for at, line in enumerate(lines)
    )
    assert read(page(drawing)) == (" ".join([LEFT, *lines]), 0)


def test_columns_drawn_one_after_the_other_stay_so() -> None:
    left, right = textwrap.wrap(LEFT, 44), textwrap.wrap(RIGHT, 44)
    columns = "".join(
        f"1 0 0 1 {x} {700 - 12 * row} Tm {operand(line)} "
        for x, lines in ((50, left), (305, right))
        for row, line in enumerate(lines)
    )
    assert read(page(columns)) == (f"{LEFT} {RIGHT}", 0)
