"""`plan`: what a run would do and take, and settings with which it fits a budget."""

from __future__ import annotations

import logging
import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sdretrieval.cli.live import live_table
from sdretrieval.cli.options import ConfigFile, Json, Runs, Settings
from sdretrieval.cli.output import print_json, print_table, say, stdout_kept_clean
from sdretrieval.errors import RequestError

if TYPE_CHECKING:
    from sdretrieval.planner import Budget, Fitted, Prediction
    from sdretrieval.store.runner import Planned

logger = logging.getLogger("sdretrieval")


def plan_command(
    config: ConfigFile, settings: Settings = None,
    budget_minutes: Annotated[float | None,
        typer.Option(metavar="MINUTES", help="change settings until a run takes no longer than this")] = None,
    max_memory: Annotated[str | None,
        typer.Option(metavar="SIZE", help="change settings until a run and its GPU need no more, such as 4GB")] = None,
    again: Annotated[
        bool, typer.Option("--measure-again", help="measure this machine's speed again, even if it is known")] = False,
    runs: Runs = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Every stage of every generation: cached or to run, why, and what it will take. Runs nothing."""
    from sdretrieval.planner import CANNOT_FORECAST
    from sdretrieval.run.api import forecast_config, plan_config

    budget = budget_of(budget_minutes, max_memory)
    fitted: Fitted | None = None
    with stdout_kept_clean(), live_table():
        request: dict[str, Any] = {"overrides": settings or (), "runs": runs}
        if budget is not None:  # it may change the config, of which the plan then is
            fitted = forecast_config(config, **request, budget=budget, again=again)
            lines = plan_config(fitted.config, runs=runs)
        else:
            lines = plan_config(config, **request)
            try:
                if not all(line.cached for line in lines):
                    fitted = forecast_config(config, **request, again=again)
            except RequestError:  # a run would refuse it as well
                raise
            except CANNOT_FORECAST as problem:  # the plan goes without: it knows what is cached
                logger.warning("no forecast of what this will take (%s: %s)", type(problem).__name__, problem)
    if as_json:
        stages = [_line_record(line, fitted) for line in lines]
        print_json(stages if budget is None or fitted is None else {"stages": stages, **_fitted_record(fitted)})
        return
    _print(lines, fitted)
    if fitted is not None and fitted.given_up:
        say("", "Settings changed to fit the budget:")
        print_table(
            ["setting", "before", "now", "which means"],
            [[one.setting, str(one.before), str(one.now), one.meaning] for one in fitted.given_up],
        )
        # What runs this plan, ready for a shell.
        options = [part for one in [*(settings or []), *fitted.overrides] for part in ("--set", one)]
        folder = ["--runs", str(runs)] if runs is not None else []
        say("", shlex.join(["sdretrieval", "run", str(config), *options, *folder]))


def budget_of(minutes: float | None, memory: str | None, option: str = "--budget-minutes") -> Budget | None:
    """What a run may take; None if it may take anything. Raises RequestError for what is no number of minutes."""
    from sdretrieval.indexes.settings import memory_size
    from sdretrieval.planner import Budget

    if minutes is None and memory is None:
        return None
    if minutes is not None and not 0 < minutes < float("inf"):
        raise RequestError(f"{option} is {minutes:g}; expected a number of minutes above 0")
    seconds = None if minutes is None else 60 * minutes
    return Budget(seconds, None if memory is None else memory_size(memory, "--max-memory"))


def _prediction(line: Planned, fitted: Fitted | None) -> Prediction | None:
    return fitted.forecast.stages.get(line.address) if fitted is not None and not line.cached else None


def _print(lines: list[Planned], fitted: Fitted | None) -> None:
    from sdretrieval.formatting import quantity, readable_seconds

    rows = []
    for line in lines:
        predicted = _prediction(line, fitted)
        amount = predicted.amount if predicted is not None else None
        rows.append(
            [
                line.address,
                "cached" if line.cached else "run",
                line.why,
                f"{amount.count:,} {amount.unit}" if amount is not None else "",
                readable_seconds(predicted.seconds) if predicted and predicted.seconds is not None else "",
                _memory(predicted),
                readable_seconds(line.seconds) if line.seconds is not None else "",
            ]
        )
    figures = ["work", "predicted", "memory", "took last time"]
    print_table(["stage", "", "why", *figures], rows, right=figures)
    waiting = sum(not line.cached for line in lines)
    summary = f"{quantity(len(lines) - waiting, 'stages')} cached, {waiting} to run"
    if fitted is not None and waiting:
        summary += f": {fitted.forecast.summary()}"
    say("", f"{summary}.")
    for asked in fitted.forecast.asked.values() if fitted is not None else ():
        say(*(f"{setting}: {cost.line(model)}" for setting, model, cost in asked))


def _memory(predicted: Prediction | None) -> str:
    from sdretrieval.formatting import readable_bytes

    if predicted is None or predicted.peak_bytes is None:
        return ""
    on_gpu = f" + {readable_bytes(predicted.device_bytes)} GPU" if predicted.device_bytes else ""
    return readable_bytes(predicted.peak_bytes) + on_gpu


def _line_record(line: Planned, fitted: Fitted | None) -> dict[str, Any]:
    from sdretrieval.planner import predicted_json

    predicted = _prediction(line, fitted)
    record: dict[str, Any] = {"stage": line.address, "cached": line.cached, "why": line.why, "seconds": line.seconds}
    if fitted is not None and (asked := fitted.forecast.asked.get(line.address)) and not line.cached:
        record["asked"] = [
            {"setting": setting, "model": model.model, "url": model.url, "calls": cost.calls,
             "prompt_tokens": cost.prompt_tokens}
            for setting, model, cost in asked
        ]  # fmt: skip
    if predicted is None:
        return {**record, "predicted": None}
    unit = predicted.amount.unit if predicted.amount else None
    return {**record, "predicted": {"unit": unit, **predicted_json(predicted)}}


def _fitted_record(fitted: Fitted) -> dict[str, Any]:
    return {
        "seconds": round(fitted.forecast.seconds, 1),
        "peak_rss_bytes": fitted.forecast.peak_bytes,
        "peak_device_bytes": fitted.forecast.device_bytes or None,
        "given_up": [one._asdict() for one in fitted.given_up],
        "set": fitted.overrides,
    }
