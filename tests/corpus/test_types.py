"""Texts and ids stay in their table, and are had from there as from a list."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from sdretrieval.corpus.arrow import document_table
from sdretrieval.corpus.types import RowByName, Texts

ROWS = [(f"d{n}", "" if n % 3 else f"Title {n}", f" text {n} ") for n in range(2500)]
EXPECTED = [f"{title} {text}".strip() for _, title, text in ROWS]


@pytest.fixture(scope="module")
def table() -> Any:
    return document_table(ROWS)


def test_texts_are_had_as_from_a_list(table: Any) -> None:
    texts = Texts(table, "title", "text")
    assert len(texts) == len(EXPECTED) and [*texts] == EXPECTED and texts == EXPECTED
    assert [texts[row] for row in (0, 1, 1000, 2499, -1)] == [EXPECTED[row] for row in (0, 1, 1000, 2499, -1)]
    assert texts[998:1003] == EXPECTED[998:1003] and texts[2400:9000] == EXPECTED[2400:]
    assert texts != EXPECTED[:-1] and texts != [*EXPECTED[:-1], "another"]
    with pytest.raises(IndexError):
        texts[2500]


def test_a_selection_of_rows_is_read_in_its_own_order(table: Any) -> None:
    rows = [7, 2000, 3]
    texts = Texts(table.select(rows), "title", "text")
    assert [*texts] == [texts[n] for n in range(3)] == [EXPECTED[row] for row in rows]


def test_every_name_has_its_row_and_no_other_has_one(table: Any) -> None:
    rows = RowByName(Texts(table, "id"))
    assert [rows[f"d{n}"] for n in range(2500)] == list(range(2500))
    assert "d2500" not in rows and rows.get("", -1) == -1 and len(rows) == 2500
    assert dict(RowByName([])) == {}


class Alike(str):
    """Texts that all have one hash."""

    __slots__ = ()

    def __hash__(self) -> int:
        return 1


def test_names_that_share_a_hash_are_told_apart() -> None:
    names = [Alike("a"), Alike("b"), Alike("c")]
    rows = RowByName(names)
    assert [rows[name] for name in names] == [0, 1, 2] and Alike("d") not in rows


def test_going_through_all_texts_holds_few_of_them() -> None:
    def peak(count: int) -> int:
        texts = Texts(document_table((f"d{n}", "", "word " * 100) for n in range(count)), "title", "text")
        tracemalloc.start()
        try:
            assert sum(map(len, texts)) == 499 * count
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(20_000) < 2 * peak(2_000), "ten times as many texts"
