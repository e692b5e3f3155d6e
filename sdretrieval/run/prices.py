"""The price of each teacher beside what it knows: in the probe's table and in the report's."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from sdretrieval.planner import CANNOT_FORECAST, Price, Trials, open_calibration, teacher_prices, workload_of
from sdretrieval.stages.run import Run
from sdretrieval.store.runner import Artifact

logger = logging.getLogger("sdretrieval")


def prices_of(run: Run) -> list[Price]:
    """One a member of the config's teacher; none if they cannot be told, which is said. What this machine takes is
    measured if it is not known."""
    made = {one["stage"]: Artifact(one["key"], run.store.path_of(one["key"])) for one in run.runner.records}
    try:
        load = workload_of(run.config, run.student(run.base.student), made)
        device = run.config.student.device
        return teacher_prices(Trials(run.config, load, open_calibration(device), run.batch_tokens))
    except CANNOT_FORECAST as problem:
        logger.warning("what the teachers cost cannot be said (%s: %s)", type(problem).__name__, problem)
        return []


def with_prices(record: Mapping[str, Any], prices: Sequence[Price]) -> dict[str, Any]:
    """The probe's record, its members with their prices, and its rows with the seconds of the members that count."""
    if not prices:
        return dict(record)
    members = [{**one, **price.record()} for one, price in zip(record["members"], prices, strict=True)]

    def seconds(weights: Sequence[float]) -> float | None:
        taken = [one.seconds for one, weight in zip(prices, weights, strict=True) if weight > 0]
        known = [one for one in taken if one is not None]
        return round(sum(known), 1) if len(known) == len(taken) else None

    rows = [{**row, "seconds": seconds(row["weights"])} for row in record["rows"]]
    return {**record, "members": members, "rows": rows}
