"""Sides of a benchmark that only say that they ran: their processes import nothing heavy."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _counting(name: str, fails: bool = False) -> Callable[[Path], Callable[[], Any]]:
    def side(folder: Path) -> Callable[[], Any]:
        def work() -> Any:
            if fails:
                raise ValueError("no such thing")
            with (folder / "turns.txt").open("a") as turns:
                turns.write(f"{name} {os.getpid()}\n")
            return bytearray(50_000_000) and name

        return work

    return side


SIDES = {"one": _counting("one"), "other": _counting("other"), "broken": _counting("broken", fails=True)}
"""Found by this module's name in the sides' own processes."""
