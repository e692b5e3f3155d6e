"""Texts of others on a terminal and in a spreadsheet: harmless, and as they were when they are read back."""

from __future__ import annotations

import unicodedata

from hypothesis import example, given
from hypothesis import strategies as st

from sdretrieval.formatting import NUMBER, cell_text, encodable, printable, text_of_cell

TURNS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
ANYTHING = st.text(st.characters(exclude_categories=()))
ALMOST_FORMULAS = st.text("'=+-@ \t\uff1d1.ex", max_size=6)


@given(ANYTHING)
@example("\x1b]0;title\x07\x1b[2J\x9b31m\x7f\u202egnp.exe\u200f\u2066\ud800\U000e0041\r")
def test_nothing_that_is_shown_steers_a_terminal(text: str) -> None:
    for shown in printable(text):
        assert unicodedata.category(shown) not in ("Cc", "Cs", "Zl", "Zp") or shown in "\n\t"
        assert unicodedata.bidirectional(shown) not in TURNS and shown not in "\u061c\u200e\u200f"
    assert len(printable(text)) == len(text)


def test_words_of_every_script_are_shown_as_they_are() -> None:
    words = "naïve 文書 कमल می\u200cخواهم שלום 👩\u200d💻 co\u00adop\n\tend"
    assert printable(words) == words


@given(ANYTHING | ALMOST_FORMULAS)
def test_a_cell_is_no_formula_and_gives_its_text_back(text: str) -> None:
    cell = cell_text(text)
    assert text_of_cell(cell) == text
    assert cell.lstrip()[:1] not in tuple("=+-@\uff1d\uff0b\uff0d\uff20") or NUMBER.fullmatch(cell)


def test_numbers_and_words_are_cells_as_they_are() -> None:
    for text in ("-5", "+0.25", "-1.5e-07", "-inf", "2024-01-01", "o'clock", "'tis", "", "-9223372036854775808"):
        assert cell_text(text) == text
    for text in ("=1+1", "-_xA9", "@handle", "+1-1", " =HYPERLINK(1)", "-1+cmd|' /C calc'!A0", "'=1"):
        assert cell_text(text) == f"'{text}"


@given(ANYTHING)
def test_what_is_encodable_is_utf8(text: str) -> None:
    assert len(encodable(text).encode("utf8").decode("utf8")) == len(text)
