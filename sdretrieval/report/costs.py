"""What each later generation cost beside the first, stage by stage: work and seconds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sdretrieval.units import UNITS, Address

OF_GENERATIONS = {
    **{stage: UNITS[stage] for stage in ("encode", "index", "mine", "score", "targets", "train")},
    "score": ("pairs newly scored", ("newly_scored_pairs",)),
}
"""Stages that every generation has: unit and counts. Pairs that a free teacher judges cost nothing."""

NOTHING: Mapping[str, Any] = {"counts": {}, "seconds": 0.0}


def generation_costs(records: Iterable[Mapping[str, Any]], generations: int) -> list[dict[str, Any]]:
    """From the ledger's records: each stage's work in each of `generations`, in the order of the stages.

    `amount` is in `unit`; `over_first` is (amount, seconds) over those of generation 1, None if these are 0. What the
    first generation made and a later one reused (a teacher that does not move, lists of a student that stayed) cost
    nothing there. What only one generation has is not compared, nor is what only measures. The last row of a
    generation, `all`, adds up the seconds of the others.
    """
    records_of: dict[str, dict[int, Mapping[str, Any]]] = {}
    for generation, stage, record in _made(records):
        if generation <= generations and Address.of(stage).stage in OF_GENERATIONS:
            records_of.setdefault(stage, {})[generation] = record
    return [row for number in range(2, generations + 1) for row in _generation(records_of, number)]


def _made(records: Iterable[Mapping[str, Any]]) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """(generation, stage, record) of what each made itself: an artifact belongs to the first stage that needed it, but
    that of an accepted mixture, which was made to be tried (`1m0.5/encode`), the next generation's."""
    records = list(records)
    first = {record["key"]: record for record in reversed(records)}
    for record in records:
        address, maker = Address.of(record["stage"]), first[record["key"]]
        if address.seed:  # the first seed's generations are compared
            continue
        its_own = maker["stage"] == record["stage"] or Address.of(maker["stage"]).generation is None
        if address.generation and its_own:
            yield address.generation, record["stage"].partition("/")[2], maker


def _generation(records_of: Mapping[str, Mapping[int, Mapping[str, Any]]], number: int) -> list[dict[str, Any]]:
    """Each stage of generation `number` beside the first's, then all of them."""
    rows = []
    for stage, made in records_of.items():
        again = ":" not in stage or stage.startswith("encode:teacher")  # in all generations
        if 1 in made and (again or number in made):
            rows.append(_compared(stage, number, made[1], made.get(number, NOTHING)))
    seconds = [round(sum(row[name] for row in rows), 2) for name in ("seconds_first", "seconds")]
    total = {"stage": "all", "generation": number, "unit": None, "amount_first": None, "amount": None}
    return [*rows, total | {"seconds_first": seconds[0], "seconds": seconds[1], "over_first": [None, _ratio(seconds)]}]


def forecast_held(
    records: Iterable[Mapping[str, Any]], forecast: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """What was predicted beside what came, of each stage of the forecast: amount, seconds and peak memory each.

    `forecast`: as `forecast.json` holds it, by stage address.
    """
    rows = []
    for record in records:
        one = forecast.get(record["stage"])
        if one is None or one["key"] != record["key"]:
            continue
        amount = sum(int(record["counts"].get(name, 0)) for name in one["counts"]) if one["counts"] else None
        actual = {
            "amount": amount,
            "seconds": round(float(record["seconds"]), 2),
            "peak_rss_bytes": record["peak_rss_bytes"],
        }
        rows.append(
            {"stage": record["stage"], "unit": one["unit"], "predicted": dict(one["predicted"]), "actual": actual}
        )
    return rows


def _compared(stage: str, number: int, first: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    unit, names = OF_GENERATIONS[Address.of(stage).stage]
    amounts = [sum(int(record["counts"].get(name, 0)) for name in names) for record in (first, later)]
    seconds = [float(record["seconds"]) for record in (first, later)]
    return {
        "stage": stage,
        "generation": number,
        "unit": unit,
        "amount_first": amounts[0],
        "amount": amounts[1],
        "seconds_first": round(seconds[0], 2),
        "seconds": round(seconds[1], 2),
        "over_first": [_ratio(amounts), _ratio(seconds)],
    }


def _ratio(pair: list[Any]) -> float | None:
    return round(pair[1] / pair[0], 3) if pair[0] else None
