"""`search`, `show`, `report`: look at what a run made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdretrieval.cli.options import Json, RunName, Runs
from sdretrieval.cli.output import print_json, print_table, say, stdout_kept_clean

if TYPE_CHECKING:
    from sdretrieval.export.searcher import SearchHit

EXCERPT = 160
"""Characters of a hit's text that the table shows."""


def search(
    where: Annotated[
        str,
        typer.Argument(
            metavar="RUN_OR_BUNDLE", help="a run's name or folder, or an exported folder", show_default=False
        ),
    ],
    query: Annotated[str, typer.Argument(help="what is asked", show_default=False)],
    k: Annotated[int, typer.Option("-k", help="how many documents")] = 10,
    base: Annotated[
        bool, typer.Option("--base", help="search with the run's base student, to see what changed")
    ] = False,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Ask one question."""
    from sdretrieval.run.commands.searching import search as ask

    with stdout_kept_clean():
        answer = ask(where, query, k, base=base, runs=runs)
    if as_json:
        print_json(answer.to_json())
        return
    rows = [[str(hit.rank), f"{hit.score:.3f}", hit.document_id, _excerpt(hit)] for hit in answer.hits]
    print_table(["", "score", "id", f"{answer.student} student: {query}"], rows, right=["", "score"])


def _excerpt(hit: SearchHit) -> str:
    text = " ".join(f"{hit.title}: {hit.text}".removeprefix(": ").split())
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1].rstrip() + "…"


def show(run: RunName, runs: Runs = None, as_json: Json = False) -> None:
    """What a run did, stage by stage, and what the gate decided."""
    from sdretrieval.run.commands.lineage import lineage

    record = lineage(run, runs)
    if as_json:
        print_json(record)
        return
    from sdretrieval.report.page import duration

    rows = [_stage_cells(stage) for stage in record["stages"]]
    print_table(["stage", "", "took", "foretold", "counts", "key", "made of"], rows, right=["took", "foretold"])
    state = "finished" if record["finished"] else "not finished"
    say("", f"{record['run']}: {state}, {duration(record['seconds'])} of work")
    for one in record["generations"]:
        say(f"generation {one['generation']}: {one['decision']}. The gate: {one['reason']}")


def _stage_cells(stage: dict[str, Any]) -> list[str]:
    from sdretrieval.report.page import duration

    found, inputs = "cached" if stage["cached"] else "made", " ".join(key[:12] for key in stage["inputs"])
    told = duration(stage["foretold_seconds"]) if stage["foretold_seconds"] is not None else ""
    return [
        stage["stage"],
        found,
        duration(stage["seconds"]),
        told,
        _counts(stage["counts"]),
        stage["key"][:12],
        inputs,
    ]


def _counts(counts: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_short(value)}" for name, value in counts.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}" if type(value) is int else str(value)


def report(run: RunName, runs: Runs = None, as_json: Json = False) -> None:
    """Make a run's HTML page again from its numbers, and say where it is."""
    from sdretrieval.report.page import render
    from sdretrieval.store.run_folder import find_run, read_report, write_text

    folder: Path = find_run(run, runs)
    details = json.loads((folder / "details.json").read_text(encoding="utf8"))
    write_text(folder / "report.html", render(read_report(folder), details))
    page = str((folder / "report.html").resolve())
    print_json({"report": page}) if as_json else say(page)
