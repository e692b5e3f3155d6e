"""`run`: a config, or a corpus for which one is chosen, stage by stage, to its report."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated, Any

import typer

from sdretrieval.cli.init import Preset, check_presets, config_for
from sdretrieval.cli.live import live_table
from sdretrieval.cli.options import Json, Runs, Settings
from sdretrieval.cli.output import print_json, print_measures, say, stdout_kept_clean

logger = logging.getLogger("sdretrieval")


def run_command(
    config: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG_OR_CORPUS",
            help="a run's YAML; or a corpus (a folder of documents, a BEIR folder, a table, beir:NAME, hf:NAME), for "
            "which RUNS/NAME/config.yaml is written first, a reason beside each choice",
        ),
    ],
    settings: Settings = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="change settings until the run is predicted to take no longer")
    ] = None,
    preset: Preset = None,
    until: Annotated[
        str | None, typer.Option(metavar="GENERATION/STAGE", help="stop after this stage, such as 1/mine")
    ] = None,
    runs: Runs = None,
    worker: Annotated[
        bool, typer.Option("--worker", help="make stages up to --until in a store that another process uses as well")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a config, or a corpus, to its report; stages that earlier runs finished are not made again."""
    from sdretrieval.run.api import run_config

    with stdout_kept_clean(), live_table():
        file, overrides = Path(config), settings or []
        if is_config(config):
            check_presets(preset, config)
        else:
            file = config_for(config, preset or (), overrides, runs)
        overrides = [*overrides, *(fitted_to(file, overrides, minutes, runs) if minutes is not None else ())]
        result = run_config(file, overrides=overrides, runs=runs, until=until, worker=worker)
    if result is None:
        print_json({"stopped_after": until}) if as_json else say(f"Stopped after {until}, as asked.")
    elif as_json:
        print_json(result.report)
    else:
        print_results_table(result.report, result.details["table"])
        say("", result.details["headline"], *(f"* {note}" for note in result.details["notes"]), "")
        say(f"report:  {result.folder / 'report.html'}", f"student: {result.folder / 'student'}")


def is_config(given: str) -> bool:
    """Whether this names a config: a YAML file, there or not, or a file that is no table."""
    from sdretrieval.corpus.read.tables.files import format_of

    path = Path(given)
    return path.suffix.lower() in (".yaml", ".yml") or (path.is_file() and format_of(path) is None)


def fitted_to(file: Path, overrides: list[str], minutes: float, runs: Path | None) -> list[str]:
    """Overrides with which the run is predicted to take at most so long. Raises RequestError if no change does."""
    from sdretrieval.cli.plan import budget_of
    from sdretrieval.run.api import forecast_config

    fitted = forecast_config(file, overrides=overrides, runs=runs, budget=budget_of(minutes, None, "--minutes"))
    for one in fitted.given_up:
        logger.info(
            "to fit %g minutes: %s is %s instead of %s: %s", minutes, one.setting, one.now, one.before, one.meaning
        )
    logger.info("predicted: %s", fitted.forecast.summary())
    return list(fitted.overrides)


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
