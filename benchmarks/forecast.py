"""How good forecasts were: for each finished run its stages' work, seconds and memory, predicted over actual.

    python -m benchmarks.forecast RUN [RUN ...]

Reads `forecast` of each report.json. Seconds are predicted of stages that encode, read pairs or train; those that took
less than SHORT seconds are together in one row: of what takes a second, the machine's mood is half.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdretrieval.store.run_folder import find_run, read_report

SHORT = 5.0
SECONDS_WITHIN, WORK_WITHIN = 0.30, 0.05
COLUMNS = ("stage", "work", "predicted / actual", "seconds predicted", "actual", "ratio", "memory, GB")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def ratio(stage: dict[str, Any], name: str) -> float | None:
    """Predicted over actual; None if it was not predicted."""
    predicted, actual = stage["predicted"][name], stage["actual"][name]
    return predicted / actual if predicted is not None and actual else None


def shown(value: float | None, digits: int = 3) -> str:
    """A ratio as the table has it."""
    return "" if value is None else f"{value:.{digits}f}"


def row(stage: dict[str, Any]) -> str:
    """A stage's line."""
    predicted, actual = stage["predicted"], stage["actual"]
    work = f"{actual['amount']:,} {stage['unit']}" if stage["unit"] else ""
    seconds = [f"{predicted['seconds']:.1f}", f"{actual['seconds']:.1f}", shown(ratio(stage, "seconds"), 2)]
    memory = " / ".join(f"{side['peak_rss_bytes'] / 1e9:.2f}" for side in (predicted, actual))
    return f"| {' | '.join([stage['stage'], work, shown(ratio(stage, 'amount')), *seconds, memory])} |"


def total(stages: Sequence[dict[str, Any]], name: str) -> str:
    """A line of seconds together."""
    predicted, actual = (sum(stage[side]["seconds"] for stage in stages) for side in ("predicted", "actual"))
    return f"| {name} | | | {predicted:.1f} | {actual:.1f} | {shown(predicted / actual if actual else None, 2)} | |"


def table(forecast: Sequence[dict[str, Any]]) -> str:
    """All stages of a run whose seconds were predicted, the short ones summed."""
    timed = [stage for stage in forecast if stage["predicted"]["seconds"] is not None]
    long = [stage for stage in timed if stage["actual"]["seconds"] >= SHORT]
    short = [stage for stage in timed if stage["actual"]["seconds"] < SHORT]
    rest = sum(stage["actual"]["seconds"] for stage in forecast if stage["predicted"]["seconds"] is None)
    work = {stage["stage"]: value for stage in forecast if (value := ratio(stage, "amount")) is not None}
    seconds = {stage["stage"]: value for stage in long if (value := ratio(stage, "seconds")) is not None}
    return "\n".join(
        [
            HEAD,
            *map(row, long),
            total(short, f"{len(short)} stages under {SHORT:g} s each"),
            total(timed, "**all that are predicted**"),
            "",
            _within("amounts of work", work, WORK_WITHIN),
            _within(f"stages of {SHORT:g} s or more, seconds", seconds, SECONDS_WITHIN),
            f"* {len(forecast) - len(timed)} stages whose seconds are not predicted: {rest:.1f} s",
        ]
    )


def _within(what: str, ratios: dict[str, float], most: float) -> str:
    beyond = [f"{name} {value:.2f}" for name, value in ratios.items() if abs(value - 1) > most]
    within = f"* {len(ratios) - len(beyond)} of {len(ratios)} {what} within {most:.0%}"
    return f"{within}; beyond: {', '.join(beyond)}" if beyond else within


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    for name in parser.parse_args(arguments).runs:
        report = read_report(find_run(name))
        print(f"**{report['name']}** ({report['corpus']})\n\n{table(report['forecast'])}\n", flush=True)


if __name__ == "__main__":
    main()
