"""`probe`: what a teacher knows that the student does not."""

from __future__ import annotations

import json
import shlex
from typing import Annotated, Any

import typer

from sdretrieval.cli.live import live_table
from sdretrieval.cli.options import ConfigFile, Json, Runs, Settings
from sdretrieval.cli.output import print_json, print_table, say, stdout_kept_clean

SHOWN = 15
"""Mixtures in the table, beside each teacher alone: of four teachers there are 35."""


def probe_command(
    config: ConfigFile, settings: Settings = None,
    own_teachers: Annotated[bool,
        typer.Option("--own-teachers", help="also try what the config lacks of the teachers that need no other model: "
                     "the student's average on whole documents, BM25, the student's token vectors")] = False,
    runs: Runs = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Which teacher to take: how much better each ranks the student's own candidates, and what it costs."""
    from sdretrieval.formatting import quantity
    from sdretrieval.report.page import number
    from sdretrieval.report.words import advice
    from sdretrieval.run.api import probe_config
    from sdretrieval.stages.probe import with_holm

    with stdout_kept_clean(), live_table():
        record = probe_config(config, overrides=settings or (), runs=runs, own_teachers=own_teachers)
    record["rows"] = with_holm(record["rows"])
    record["advice"] = advice(record)
    if as_json:
        print_json(record)
        return
    judged = f", judged by {record['judge']}" if record["judge"] else ""
    mark = f" (estimate, on synthetic queries{judged})" if record["estimate"] else ""
    say(
        f"dev: {quantity(record['n_queries'], 'queries')}{mark}; the student alone: {record['measure']} "
        f"{number(record['student'])}"
    )
    _print_rows(record)
    say("", f"advice: {record['advice']}")
    if own_teachers and record["train"]:
        section = json.dumps(record["teacher"])
        say(f"to take it: --set {shlex.quote(f'teacher={section}')}")
    if record["not_tried"]:
        say(f"not tried, and in need of no other model: {', '.join(record['not_tried'])} (--own-teachers tries them)")
    for doubt in record["doubts"]:
        say(f"this estimate is not to be trusted: {doubt}")


def _print_rows(record: dict[str, Any]) -> None:
    """The best mixtures, each teacher alone, and the one to take."""
    from sdretrieval.report.page import dev_name, number, p_value, signed, span
    from sdretrieval.report.words import price

    by = "predicted" if record["predicted"] else "difference"
    best = sorted(record["rows"], key=lambda row: -row[by])
    shown = [
        row for place, row in enumerate(best)
        if place < SHOWN or max(row["weights"]) == 1 or row["weights"] == record["weights"]
    ]  # fmt: skip
    value = f"{dev_name(record['estimate'], record['judge'])} {record['measure']}"
    columns = ["teacher", value, "headroom", "95 % interval", "p (Holm)"]
    cells = [
        [row["teacher"], number(row["value"]), signed(row["difference"]), span(row["interval95"]),
         p_value(row["p_holm"])]
        for row in shown
    ]  # fmt: skip
    if record["predicted"]:
        columns.append("predicted")
        cells = [[*one, signed(row["predicted"])] for one, row in zip(cells, shown, strict=True)]
    prices = [
        price([one for one, weight in zip(record["members"], row["weights"], strict=True) if weight > 0])
        for row in shown
    ]
    if any(prices):
        columns.append("to score the lists")
        cells = [[*one, cost] for one, cost in zip(cells, prices, strict=True)]
    print_table(columns, cells, right=[value, "headroom", "p (Holm)", "predicted", "to score the lists"])
    if left := len(best) - len(shown):
        say(f"and {left} worse ones, which --json lists")
