"""Tables show ids and texts as they are."""

from __future__ import annotations

import pytest

from sdretrieval.cli.output import print_table


def test_ids_that_look_like_markup_or_emoji_codes_stay(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(["id", "text"], [["docs:key:1", "rows[:a:2] [bold]x[/bold]"]])
    out = capsys.readouterr().out
    assert "docs:key:1" in out
    assert "rows[:a:2] [bold]x[/bold]" in out
