"""`show`, `report`: what a run did, stage by stage (unfinished runs too), and its page, made again."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from sdretrieval.cli.options import Json, RunName, Runs
from sdretrieval.cli.output import excerpt, print_json, print_table, say
from sdretrieval.files import read_json, write_text
from sdretrieval.store import Ledger
from sdretrieval.store.ledger import LEDGER
from sdretrieval.store.run_folder import checked, find_run, read_forecast, read_report, runs_folder
from sdretrieval.units import stage_counts

FIRST_STAGE = "0/corpus"
"""Every pass over the pipeline begins with it."""
DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{12,}\b")
SHOWN = 130
"""Characters of an input: a collection is named by all of its files."""


def show_command(run: RunName, runs: Runs = None, as_json: Json = False) -> None:
    """What a run did, stage by stage, and what the gate decided."""
    from sdretrieval.formatting import readable_seconds

    record = lineage(run, runs)
    if as_json:
        print_json(record)
        return
    rows = []
    for stage in record["stages"]:
        forecast = stage["forecast_seconds"]
        rows.append(
            [
                stage["stage"],
                "cached" if stage["cached"] else "made",
                readable_seconds(stage["seconds"]),
                readable_seconds(forecast) if forecast is not None else "",
                stage_counts(stage["stage"], stage["counts"]),
                _short(stage["key"]),
                " ".join(map(_short, stage["inputs"])),
            ]
        )
    print_table(["stage", "", "took", "forecast", "counts", "key", "made of"], rows, right=["took", "forecast"])
    state = "finished" if record["finished"] else "not finished"
    say("", f"{record['run']}: {state}, {readable_seconds(record['seconds'])} of work")
    for one in record["unfinished"]:
        say(f"not of the finished run: a later pass of {one['stages']} stages, which ended after {one['last']}")
    several = len({one["seed"] for one in record["generations"]}) > 1
    if record["pretrained"]:
        say(f"pretraining: {record['pretrained']['reason']}")
    for one in record["generations"]:
        seed = f", seed {one['seed']}" if several else ""
        say(f"generation {one['generation']}{seed}: {one['reason']}")


def _short(key: str) -> str:
    """Digests (`corpus.jsonl=DIGEST queries.jsonl=DIGEST`, `DIGEST:average`) by their beginnings, names whole."""
    return excerpt(DIGEST.sub(r"\1", key), SHOWN)


def report_command(run: RunName, runs: Runs = None, as_json: Json = False) -> None:
    """Make a run's HTML page again from its numbers, and print its path."""
    from sdretrieval.report.page import render

    folder = find_run(run, runs)
    write_text(folder / "report.html", render(read_report(folder), read_json(checked(folder, "details.json"))))
    page = str((folder / "report.html").resolve())
    print_json({"report": page}) if as_json else say(page)


def lineage(name: str, runs: Path | None = None) -> dict[str, Any]:
    """Stages (address, key, cached, seconds, counts, inputs) of the pass that finished the run, generations, measures;
    of an unfinished run those of its last pass.

    Each artifact is listed once; `cached` says whether this pass found it already made by an earlier one.
    `forecast_seconds` of a stage: what it was predicted to take, null if it was not predicted. `unfinished`: later
    passes, which did not finish the run again (a probe, `--until`, a kill): how many stages, and the last of them.

    Raises RequestError if there is no such run.
    """
    folders = [one for one in (Path(name), runs_folder(runs) / name) if (one / LEDGER).is_file()]
    folder = folders[0] if folders else find_run(name, runs)  # which raises, naming the runs that are there
    finished = (folder / "report.json").is_file()
    forecast = read_forecast(folder)
    stages: dict[str, dict[str, Any]] = {}
    passed, later = finished_passes(folder) if finished else (_passes(Ledger(folder / LEDGER).read())[-1], [])
    for record in passed:
        predicted = forecast.get(record["stage"])
        of_this = predicted is not None and predicted["key"] == record["key"]
        seconds = forecast[record["stage"]]["predicted"]["seconds"] if of_this else None
        stages.setdefault(record["key"], {**record, "forecast_seconds": seconds})
    report = read_report(folder) if finished else {}
    return {
        "run": folder.name,
        "folder": str(folder),
        "finished": finished,
        "unfinished": [{"stages": len(one), "last": one[-1]["stage"]} for one in later],
        "stages": list(stages.values()),
        "seconds": round(sum(stage["seconds"] for stage in stages.values()), 1),
        "pretrained": report.get("pretrained"),
        "generations": report.get("generations", []),
        "measures": report.get("measures", {}),
        "tests": report.get("tests", []),
    }


def finished_stages(folder: Path) -> dict[str, dict[str, Any]]:
    """By address, the stages of the pass that finished the run in `folder`: what a probe or another run that did not
    end appended since is no part of it."""
    return {record["stage"]: record for record in finished_passes(folder)[0]}


def finished_passes(folder: Path) -> tuple[list[dict[str, Any]], list[list[dict[str, Any]]]]:
    """Of a finished run's ledger: the pass that finished it, and those that were appended since."""
    records, lines = Ledger(folder / LEDGER).read(), read_json(checked(folder, "serving.json"))["ledger_lines"]
    return _passes(records[:lines])[-1], _passes(records[lines:]) if records[lines:] else []


def _passes(records: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Cut where a pass begins; one, if none is there."""
    starts = [at for at, record in enumerate(records) if record["stage"] == FIRST_STAGE] or [0]
    return [records[start:end] for start, end in zip(starts, [*starts[1:], len(records)], strict=True)]
