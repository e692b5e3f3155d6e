"""`run`: a config, stage by stage, to its report."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sdretrieval.cli.live import live_table
from sdretrieval.cli.options import ConfigFile, Json, Runs, Settings
from sdretrieval.cli.output import print_json, print_measures, say, stdout_kept_clean


def run_command(
    config: ConfigFile,
    settings: Settings = None,
    until: Annotated[
        str | None, typer.Option(metavar="GENERATION/STAGE", help="stop after this stage, such as 1/mine")
    ] = None,
    runs: Runs = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="make stages up to --until in a store that another process uses as well")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a config to its report; stages that earlier runs finished are not made again."""
    from sdretrieval.run.api import run_config

    with stdout_kept_clean(), live_table():
        result = run_config(config, overrides=settings or (), runs=runs, until=until, worker=worker)
    if result is None:
        print_json({"stopped_after": until}) if as_json else say(f"Stopped after {until}, as asked.")
    elif as_json:
        print_json(result.report)
    else:
        print_results_table(result.report, result.details["table"])
        say("", result.details["headline"], *(f"* {note}" for note in result.details["notes"]), "")
        say(f"report:  {result.folder / 'report.html'}", f"student: {result.folder / 'student'}")


def print_results_table(report: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Systems by dev and test measures, with the paired test of each against the base student."""
    from sdretrieval.formatting import quantity, seeds_text
    from sdretrieval.report.page import dev_name, judge_of_dev, number, split_name

    measures = list(rows[0]["test"])
    parts = {"dev": dev_name(report["estimate"], judge_of_dev(report))} if report["split"] != "dev" else {}
    parts["test"] = split_name(report)
    seeds = "" if len(report["seeds"]) == 1 else f", averages over {seeds_text(report['seeds'])}"
    say(f"{report['corpus']}, {parts['test']}: {quantity(report['n_queries'], 'queries')}{seeds}")
    say(f"difference: to student_0, in {measures[0]}")

    def value(row: dict[str, Any], part: str, measure: str) -> Any:
        """With the spread over the seeds, if there are several."""
        spread = row["spread"].get(measure) if part == "test" else None
        return row[part].get(measure) if spread is None else f"{number(row[part][measure])} ± {number(spread)}"

    tested = [([row["system"]], [value(row, part, m) for part in parts for m in measures], row) for row in rows]
    print_measures(["system"], [f"{part} {measure}" for part in parts.values() for measure in measures], tested)
