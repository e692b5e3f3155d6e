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
        bool, typer.Option("--measure-again", help="measure this machine anew, whatever is known of it")
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
            fitted = None if cached else _foretold(lambda: forecast_config(config, **asked, again=again))
    if as_json:
        print_json(_record(lines, fitted) if budget is not None else [_planned(line, fitted) for line in lines])
        return
    _print(lines, fitted, _command(config, settings or [], runs, fitted))


def _budget(minutes: float | None, memory: str | None) -> Any:
    from sdretrieval.errors import RequestError
    from sdretrieval.indexes.settings import memory_size
    from sdretrieval.planner import Budget

    if minutes is None and memory is None:
        return None
    if minutes is not None and not 0 < minutes < float("inf"):
        raise RequestError(f"--budget-minutes is {minutes:g}; expected a number of minutes above 0")
    seconds = None if minutes is None else 60 * minutes
    return Budget(seconds, None if memory is None else memory_size(memory, "--max-memory"))


def _foretold(forecast: Callable[[], Fitted]) -> Fitted | None:
    """The forecast; where it fails the plan goes without: it knows what is cached."""
    from sdretrieval.errors import SdretrievalError

    try:
        return forecast()
    except SdretrievalError:
        raise
    except Exception as problem:
        logger.warning("what this will take cannot be foretold: %s: %s", type(problem).__name__, problem)
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
                duration(told.seconds) if told else "",
                size(told.peak_bytes) if told else "",
                duration(line.seconds) if line.seconds is not None else "",
            ]
        )
    figures = ["work", "predicted", "memory", "seen before"]
    print_table(["stage", "", "why", *figures], rows, right=figures)
    say("", _summary(lines, fitted))
    if fitted is not None and fitted.given_up:
        say("", "To fit, this was given up:")
        print_table(
            ["setting", "asked", "now", "which means"],
            [[one.setting, str(one.asked), str(one.now), one.meaning] for one in fitted.given_up],
        )
        say("", command)


def _told(line: Planned, fitted: Fitted | None) -> Prediction | None:
    return fitted.forecast.stages.get(line.address) if fitted is not None and not line.cached else None


def _work(told: Prediction | None) -> str:
    return f"{told.amount.count:,} {told.amount.unit}" if told is not None and told.amount is not None else ""


def _planned(line: Planned, fitted: Fitted | None) -> dict[str, Any]:
    told = _told(line, fitted)
    record = {"stage": line.address, "cached": line.cached, "why": line.why, "seconds": line.seconds}
    if told is None:
        return {**record, "predicted": None}
    amount = told.amount
    predicted = {
        "unit": amount.unit if amount else None,
        "amount": amount.count if amount else None,
        "bytes": (amount.bytes or None) if amount else None,
        "seconds": round(told.seconds, 2),
        "peak_rss_bytes": told.peak_bytes,
    }
    return {**record, "predicted": predicted}


def _record(lines: list[Planned], fitted: Fitted | None) -> dict[str, Any]:
    assert fitted is not None
    return {
        "stages": [_planned(line, fitted) for line in lines],
        "seconds": round(fitted.forecast.seconds, 1),
        "seconds_if_refused": round(fitted.forecast.refusal_seconds, 1),
        "peak_rss_bytes": fitted.forecast.peak_bytes,
        "given_up": [one._asdict() for one in fitted.given_up],
        "set": fitted.overrides,
    }


def _summary(lines: list[Planned], fitted: Fitted | None) -> str:
    from sdretrieval.report.page import duration, size

    waiting = [line for line in lines if not line.cached]
    summary = f"{len(lines) - len(waiting)} stages cached, {len(waiting)} to run"
    if fitted is not None and waiting:
        foretold = fitted.forecast
        summary += f": about {duration(foretold.seconds)}, at most {size(foretold.peak_bytes)} of memory"
        if foretold.refusal_seconds >= 1:
            more = duration(foretold.refusal_seconds)
            summary += f"; each generation that the gate refuses adds about {more}, three times that at most"
    return summary + "."
