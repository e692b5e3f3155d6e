"""Windows: together they show every token, none is too long, the first is what the student sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.encode.views import Specials, View
from sdretrieval.errors import ModelError

SPECIALS = Specials((101,), (102,), (7, 8))


@st.composite
def views(draw: st.DrawFn) -> View:
    """Any full-context view with room for at least one token beside four specials."""
    tokens = draw(st.integers(5, 40))
    return View(tokens, "all", draw(st.none() | st.integers(1, 60)))


@given(views(), st.integers(0, 300))
def test_windows_cover_every_token_and_none_is_longer_than_max_tokens(view: View, length: int) -> None:
    spans = view.spans(length, SPECIALS.count)
    assert set(range(length)) == {token for start, end in spans for token in range(start, end)}
    assert all(end - start + SPECIALS.count <= view.max_tokens for start, end in spans)
    assert spans == sorted(set(spans))


@given(views(), st.integers(0, 300))
def test_the_first_window_is_what_the_student_sees(view: View, length: int) -> None:
    assert view.spans(length, SPECIALS.count)[:1] == View(view.max_tokens).spans(length, SPECIALS.count)


@given(st.integers(5, 40), st.integers(1, 10), st.integers(50, 300))
def test_a_new_window_starts_every_stride_tokens(max_tokens: int, stride: int, length: int) -> None:
    starts = [start for start, _ in View(max_tokens, "all", stride).spans(length, 4)]
    room = max_tokens - 4
    assert set(np.diff(starts[:-1]).tolist()) <= {min(stride, room)}
    assert starts[-1] == length - room


def test_an_empty_text_has_one_window_of_specials() -> None:
    (window,) = View(16, "all").cut(np.empty(0, dtype=np.int32), SPECIALS)
    assert window.tolist() == [101, 7, 8, 102]


def test_specials_and_prompt_stand_around_every_window() -> None:
    windows = View(8, "all", 4).cut(np.arange(20, 30, dtype=np.int32), SPECIALS)
    assert [window.tolist() for window in windows][:2] == [
        [101, 7, 8, 20, 21, 22, 23, 102],
        [101, 7, 8, 24, 25, 26, 27, 102],
    ]


def test_no_room_beside_the_prompt_says_what_to_do() -> None:
    with pytest.raises(ModelError, match=r"max_tokens 4 leaves no room beside 4 special and prompt tokens; raise max"):
        View(4).spans(10, SPECIALS.count)
