"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Runs = Annotated[
    Path | None,
    typer.Option("--runs", metavar="DIR", help="folder of runs (default: the variable SDRETRIEVAL_RUNS, else ./runs)"),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON instead of a table")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="a.b=c", help="change a setting of the config; may be given several times"),
]
ConfigOrRun = Annotated[
    str, typer.Argument(metavar="CONFIG_OR_RUN", help="a run's YAML, or a run's name or folder", show_default=False)
]
ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="a run's YAML", show_default=False)]
RunName = Annotated[str, typer.Argument(metavar="RUN", help="a run's name or folder", show_default=False)]
