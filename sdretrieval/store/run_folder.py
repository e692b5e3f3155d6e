"""The run's folder RUNS/<name>/: config, ledger, report, student, TREC runs. A kill leaves the old or the new.

What is read back of a finished run is compared with `digests.json`, which the run wrote."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sdretrieval.digests import DIGEST_BYTES, sealed, unsealed
from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.files import apply_umask, json_text, read_json, sync, sync_tree, write_json, write_text
from sdretrieval.paths import typed_path
from sdretrieval.store.manifest import FileRecord, difference, record_files

logger = logging.getLogger("sdretrieval")

RUNS_VARIABLE = "SDRETRIEVAL_RUNS"
FORECAST = "forecast.json"
"""In the run's folder: what its stages were predicted to take."""
REPORT, DIGESTS, PROBABILITY = "report.json", "digests.json", "probability.json"
READ_BACK = ("student", "smaller", "runs", "serving.json", "details.json", PROBABILITY, REPORT)
"""Files and folders of a run whose digests are kept: search, evaluate, export and the like rely on them."""


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
    apply_umask(fresh)
    sync_tree(fresh)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Write `digests.json`, and last `report.json`, which says that the run has finished."""
    text = json_text(report)
    written = {name: record for name, record in record_files(folder).items() if name.split("/")[0] in READ_BACK}
    data = text.encode("utf8", "backslashreplace")
    digest = hashlib.blake2b(data, digest_size=DIGEST_BYTES).hexdigest()
    records = {**written, REPORT: FileRecord(len(data), digest)}
    files = {name: asdict(record) for name, record in records.items()}
    write_json(folder / DIGESTS, sealed({"files": files}))
    write_text(folder / REPORT, text)


def checked(folder: Path, part: str) -> Path:
    """The file or folder `part` of a finished run, which is as the run wrote it: nothing changed, missing or added.

    Raises DamagedArtifact if it is not.
    """
    try:
        records = {name: FileRecord(**one) for name, one in unsealed(read_json(folder / DIGESTS))["files"].items()}
        records = {name: one for name, one in records.items() if name == part or name.startswith(f"{part}/")}
        below = (path.relative_to(folder) for path in (folder / part).rglob("*") if path.is_file())
        added = [path.as_posix() for path in below if path.as_posix() not in records and not _hidden(path)]
        problem = f"file {added[0]} is not of the run" if added else difference(folder, records)
        if not records:
            problem = f"{part} is not of the run"
    except (DamagedArtifact, ValueError, TypeError, KeyError, AttributeError) as damage:
        problem = f"{DIGESTS}: {damage}"
    if problem:
        raise DamagedArtifact(
            f"run {folder.name}: {problem}; run its config again (sdretrieval run {folder / 'config.yaml'}): it writes "
            f"the files in {folder} again, and trains nothing again"
        )
    return folder / part


def _hidden(path: Path) -> bool:
    """What a file browser left behind; no loader reads it."""
    return any(name.startswith(".") for name in path.parts)


def read_report(folder: Path) -> dict[str, Any]:
    """`report.json` of a run. Raises as `checked`."""
    return read_json(checked(folder, REPORT))


def read_forecast(folder: Path) -> dict[str, Any]:
    """`forecast.json` of a run, by stage; nothing if there is none, or if it is damaged, which is said."""
    try:
        return unsealed(read_json(folder / FORECAST)) if (folder / FORECAST).exists() else {}
    except (DamagedArtifact, ValueError) as problem:
        logger.warning("%s: %s; what the run was predicted to take is left out", folder / FORECAST, problem)
        return {}
