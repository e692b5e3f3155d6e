"""The run's folder RUNS/<name>/: config, ledger, report, student, TREC runs. A kill leaves the old or the new."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from sdretrieval.errors import RequestError

RUNS_VARIABLE = "SDRETRIEVAL_RUNS"
FORECAST = "forecast.json"
"""In the run's folder: what its stages were predicted to take."""


def runs_folder(given: Path | None) -> Path:
    """`--runs`, else the variable SDRETRIEVAL_RUNS, else ./runs."""
    return given if given is not None else Path(os.environ.get(RUNS_VARIABLE, "runs")).expanduser()


def find_run(name: str | Path, runs: Path | None = None) -> Path:
    """A finished run by its name or folder. Raises RequestError where there is no report."""
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


def write_json(path: Path, record: Any) -> None:
    """As `write_text`."""
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write beside, then rename; straight into what is no plain file, as /dev/stdout: it must not be replaced."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_text(text, encoding="utf8")
        return
    temporary = path.with_suffix(path.suffix + ".new")
    temporary.write_text(text, encoding="utf8")
    temporary.replace(path)


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


def read_json(path: Path) -> dict[str, Any]:
    """One of the run's JSON files."""
    return dict(json.loads(path.read_text(encoding="utf8")))


def read_report(folder: Path) -> dict[str, Any]:
    """`report.json` of a run."""
    return read_json(folder / "report.json")
