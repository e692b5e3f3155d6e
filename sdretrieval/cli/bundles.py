"""`export`, `verify`: from a run to one folder that can be served, and whether such a folder is sound."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sdretrieval.cli.options import Json, RunName, Runs
from sdretrieval.cli.output import print_json, print_table, say, stdout_kept_clean


def export(
    run: RunName,
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="the folder to write, absent or empty", show_default=False)
    ],
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Write a run's student with its index, prompts and card as one folder."""


def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="an exported folder", show_default=False)],
    as_json: Json = False,
) -> None:
    """Compute an exported folder's canary vectors and hits again; exits with 1 where they differ."""
