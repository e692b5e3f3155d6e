"""`plan`: what a run would do and take, and settings with which it fits a budget."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdretrieval.cli.options import ConfigFile, Json, Runs, Settings
from sdretrieval.cli.output import print_json, print_table, say, stdout_kept_clean

logger = logging.getLogger("sdretrieval")

if TYPE_CHECKING:
    from sdretrieval.planner import Fitted, Prediction
    from sdretrieval.store.runner import Planned


def plan(
    config: ConfigFile,
    settings: Settings = None,
    budget_minutes: Annotated[
        float | None, typer.Option(metavar="MINUTES", help="change settings until a run takes no longer")
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option(metavar="SIZE", help="change settings until a run holds no more, such as 4GB")
    ] = None,
    again: Annotated[
        bool, typer.Option("--measure-again", help="measure this machine again, whatever is known of it")
    ] = False,
    runs: Runs = None,
    as_json: Json = False,
) -> None:
    """Every stage of every generation: cached or to run, why, and what it will take. Runs nothing."""
    from sdretrieval.run.api import forecast_config, plan_config

    budget = _budget(budget_minutes, max_memory)
    with stdout_kept_clean():
        asked: dict[str, Any] = {"overrides": settings or (), "runs": runs}
        fitted: Fitted | None
        if budget is not None:  # it may change the config, of which the plan then is
            fitted = forecast_config(config, **asked, budget=budget, again=again)
            lines = plan_config(fitted.config, runs=runs)
        else:
            lines = plan_config(config, **asked)
            cached = all(line.cached for line in lines)
            fitted = None if cached else _forecast(lambda: forecast_config(config, **asked, again=again))
    if as_json:
        print_json(_record(lines, fitted) if budget is not None else [_planned(line, fitted) for line in lines])
        return
    _print(lines, fitted, _command(config, settings or [], runs, fitted))


def _budget(minutes: float | None, memory: str | None) -> Any:
    from sdretrieval.errors import RequestError
    from sdretrieval.indexes.kinds.auto import memory_size
    from sdretrieval.planner import Budget

    if minutes is None and memory is None:
        return None
    if minutes is not None and not 0 < minutes < float("inf"):
        raise RequestError(f"--budget-minutes is {minutes:g}; expected a number of minutes above 0")
    seconds = None if minutes is None else 60 * minutes
    return Budget(seconds, None if memory is None else memory_size(memory, "--max-memory"))


def _forecast(forecast: Callable[[], Fitted]) -> Fitted | None:
    """The forecast; if it fails the plan goes without: it knows what is cached."""
    from sdretrieval.planner import CANNOT_FORECAST

    try:
        return forecast()
    except CANNOT_FORECAST as problem:
        logger.warning("no forecast of what this will take (%s: %s)", type(problem).__name__, problem)
        return None


def _command(config: Path, settings: list[str], runs: Path | None, fitted: Fitted | None) -> str:
    """What runs the plan, ready for a shell."""
    overrides = [*settings, *(fitted.overrides if fitted is not None else [])]
    where = ["--runs", str(runs)] if runs is not None else []
    options = [part for one in overrides for part in ("--set", one)]
    return shlex.join(["sdretrieval", "run", str(config), *options, *where])


def _print(lines: list[Planned], fitted: Fitted | None, command: str) -> None:
    from sdretrieval.report.page import duration, size

    rows = []
    for line in lines:
        told = _told(line, fitted)
        rows.append(
            [
                line.address,
                "cached" if line.cached else "run",
                line.why,
                _work(told),
                duration(told.seconds) if told and told.seconds is not None else "",
                size(told.peak_bytes) if told and told.peak_bytes is not None else "",
                duration(line.seconds) if line.seconds is not None else "",
            ]
        )
    figures = ["work", "predicted", "memory", "seen before"]
    print_table(["stage", "", "why", *figures], rows, right=figures)
    say("", _summary(lines, fitted))
    if fitted is not None and fitted.given_up:
        say("", "To fit, this was given up:")
        print_table(
            ["setting", "before", "now", "which means"],
            [[one.setting, str(one.before), str(one.now), one.meaning] for one in fitted.given_up],
        )
        say("", command)


def _told(line: Planned, fitted: Fitted | None) -> Prediction | None:
    return fitted.forecast.stages.get(line.address) if fitted is not None and not line.cached else None


def _work(told: Prediction | None) -> str:
    return f"{told.amount.count:,} {told.amount.unit}" if told is not None and told.amount is not None else ""


def _planned(line: Planned, fitted: Fitted | None) -> dict[str, Any]:
    from sdretrieval.planner import predicted_json

    told = _told(line, fitted)
    record = {"stage": line.address, "cached": line.cached, "why": line.why, "seconds": line.seconds}
    unit = {"unit": told.amount.unit if told and told.amount else None}
    return {**record, "predicted": None if told is None else {**unit, **predicted_json(told)}}


def _record(lines: list[Planned], fitted: Fitted | None) -> dict[str, Any]:
    assert fitted is not None
    return {
        "stages": [_planned(line, fitted) for line in lines],
        "seconds": round(fitted.forecast.seconds, 1),
        "peak_rss_bytes": fitted.forecast.peak_bytes,
        "given_up": [one._asdict() for one in fitted.given_up],
        "set": fitted.overrides,
    }


def _summary(lines: list[Planned], fitted: Fitted | None) -> str:
    waiting = [line for line in lines if not line.cached]
    summary = f"{len(lines) - len(waiting)} stages cached, {len(waiting)} to run"
    if fitted is not None and waiting:
        summary += f": {fitted.forecast.summary()}"
    return summary + "."
