"""`run`: a config, stage by stage, to its report."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sdretrieval.cli.options import ConfigFile, Json, Runs, Settings
from sdretrieval.cli.output import TEST_COLUMNS, paired_cells, print_json, print_table, say, stdout_kept_clean


def run_command(
    config: ConfigFile,
    settings: Settings = None,
    until: Annotated[
        str | None, typer.Option(metavar="STAGE", help="stop after this stage, such as 1/mine", show_default=False)
    ] = None,
    runs: Runs = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="make stages up to --until in a store that another process uses as well")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a config to its report; stages that earlier runs finished are not made again."""
    from sdretrieval.run.api import run_config

    with stdout_kept_clean():
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
    from sdretrieval.report.page import dev_name, number

    measures = list(rows[0]["test"])
    dev = dev_name(report["estimate"])
    parts = {"test": dev} if report["split"] == "dev" else {"dev": dev, "test": report["split"]}
    values = [f"{part} {measure}" for part in parts.values() for measure in measures]
    cells = [
        [row["system"], *(number(row[part].get(m)) for part in parts for m in measures), *paired_cells(row)]
        for row in rows
    ]
    say(f"{report['corpus']}, {parts['test']}: {report['n_queries']} queries")
    say(f"difference: to student_0, in {measures[0]}")
    print_table(["system", *values, *TEST_COLUMNS], cells, right=[*values, "difference", "p (Holm)"])
