"""`show`: what a run did, stage by stage, and what the gate decided. Works on unfinished runs too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdretrieval.store import Ledger
from sdretrieval.store.run_folder import FORECAST, find_run, read_json, read_report, runs_folder

FIRST_STAGE = "0/corpus"
"""With this every pass over the pipeline begins."""
LAST_STAGE = "final/index"
"""Only a pass that finished its run has this."""


def lineage(name: str, runs: Path | None = None) -> dict[str, Any]:
    """Stages (address, key, cached, seconds, counts, inputs) of the run's last whole pass, generations, headline.

    `predicted_seconds` of a stage: what the forecast says, null if it says nothing.

    Raises RequestError where there is no such run.
    """
    folder = _folder(name, runs)
    finished = (folder / "report.json").is_file()
    forecast = read_json(folder / FORECAST) if (folder / FORECAST).exists() else {}
    stages = [
        {**record, "predicted_seconds": _predicted(record, forecast.get(record["stage"]))}
        for record in last_pass(Ledger(folder / "ledger.jsonl").read(), finished)
    ]
    report = read_report(folder) if finished else {}
    return {
        "run": folder.name,
        "folder": str(folder),
        "finished": finished,
        "stages": stages,
        "seconds": round(sum(record["seconds"] for record in stages), 1),
        "generations": report.get("generations", []),
        "measures": report.get("measures", {}),
        "tests": report.get("tests", []),
    }


def last_pass(records: list[dict[str, Any]], finished: bool) -> list[dict[str, Any]]:
    """The ledger's last pass that reached the end (any last pass where none did), each artifact once.

    `cached` of the answer says whether this pass found the artifact already made by an earlier one.
    """
    first: dict[str, dict[str, Any]] = {}
    for record in _last(records, finished):
        first.setdefault(record["key"], record)
    return list(first.values())


def finished_stages(records: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By address, the stages of the last pass that reached the end: what a probe, a plan with other settings or an
    unfinished run appended since is none of the finished run's."""
    return {record["stage"]: record for record in _last(records, True)}


def _last(records: list[dict[str, Any]], finished: bool) -> list[dict[str, Any]]:
    starts = [at for at, record in enumerate(records) if record["stage"] == FIRST_STAGE] or [0]
    passes = [records[start:end] for start, end in zip(starts, [*starts[1:], len(records)], strict=True)]
    whole = [one for one in passes if any(record["stage"] == LAST_STAGE for record in one)]
    return whole[-1] if finished and whole else passes[-1]


def _predicted(record: dict[str, Any], forecast: dict[str, Any] | None) -> float | None:
    return forecast["predicted"]["seconds"] if forecast is not None and forecast["key"] == record["key"] else None


def _folder(name: str, runs: Path | None) -> Path:
    for folder in (Path(name), runs_folder(runs) / name):
        if (folder / "ledger.jsonl").is_file():
            return folder
    return find_run(name, runs)  # raises, naming the runs that are there
