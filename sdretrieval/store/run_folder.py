"""The run's folder RUNS/<name>/: config, ledger, report, student, TREC runs. A kill leaves the old or the new."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from sdretrieval.errors import RequestError
from sdretrieval.files import read_json
from sdretrieval.paths import typed_path

RUNS_VARIABLE = "SDRETRIEVAL_RUNS"
FORECAST = "forecast.json"
"""In the run's folder: what its stages were predicted to take."""


def runs_folder(given: Path | None) -> Path:
    """`--runs`, else the variable SDRETRIEVAL_RUNS, else ./runs."""
    return typed_path(given if given is not None else os.environ.get(RUNS_VARIABLE, "runs"))


def find_run(name: str | Path, runs: Path | None = None) -> Path:
    """A finished run by its name or folder. Raises RequestError if there is no report."""
    places = [Path(name), runs_folder(runs) / str(name)]
    for folder in places:
        if (folder / "report.json").is_file():
            return folder.resolve()  # "." has a name and a parent too
    known = sorted(path.parent.name for path in runs_folder(runs).glob("*/report.json"))
    begun = next((folder for folder in places if (folder / "ledger.jsonl").is_file()), None)
    if begun is not None:
        raise RequestError(
            f"run {name} is not finished (no report.json in {begun}); run its config again, it continues"
        )
    raise RequestError(f"no run {name!r}; runs in {runs_folder(runs)}: {', '.join(known) or 'none'}")


def replace_folder(source: Path, target: Path) -> None:
    """Copy `source` to `target`, which is exchanged at once."""
    fresh, old = target.with_name(target.name + ".new"), target.with_name(target.name + ".old")
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(source, fresh)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def read_report(folder: Path) -> dict[str, Any]:
    """`report.json` of a run."""
    return read_json(folder / "report.json")
