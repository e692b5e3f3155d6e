"""How well runs were foretold: for each finished run its stages' work, bytes, seconds and memory, foretold over found.

    python -m benchmarks.foretold RUN [RUN ...]

Reads `forecast` of each report.json. Stages that took less than SHORT seconds are together in one row: of what takes a
second, the machine's mood is half.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdretrieval.store.run_folder import find_run, read_report

SHORT = 5.0
SECONDS_WITHIN, WORK_WITHIN = 0.30, 0.05
COLUMNS = ("stage", "work", "foretold / found", "bytes", "seconds foretold", "found", "ratio", "memory, GB")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def ratio(pair: Sequence[float] | None) -> float | None:
    """Foretold over found; None where nothing was."""
    return pair[0] / pair[1] if pair and pair[1] else None


def shown(value: float | None, digits: int = 3) -> str:
    """A ratio as the table has it."""
    return "" if value is None else f"{value:.{digits}f}"


def row(stage: dict[str, Any]) -> str:
    """A stage's line."""
    work = f"{stage['amount'][1]:,} {stage['unit']}" if stage["amount"] else ""
    told, found = stage["seconds"]
    memory = " / ".join(f"{size / 1e9:.2f}" for size in stage["peak_rss_bytes"])
    amounts = [shown(ratio(stage[name])) for name in ("amount", "bytes")]
    seconds = [f"{told:.1f}", f"{found:.1f}", shown(ratio(stage["seconds"]), 2)]
    return f"| {' | '.join([stage['stage'], work, *amounts, *seconds, memory])} |"


def table(forecast: Sequence[dict[str, Any]]) -> str:
    """All stages of a run, the short ones summed."""
    long = [stage for stage in forecast if stage["seconds"][1] >= SHORT]
    short = [stage for stage in forecast if stage["seconds"][1] < SHORT]
    told, found = (sum(stage["seconds"][side] for stage in short) for side in (0, 1))
    together = shown(ratio((told, found)), 2)
    rest = f"| {len(short)} stages under {SHORT:g} s each | | | | {told:.1f} | {found:.1f} | {together} | |"
    whole = [sum(stage["seconds"][side] for stage in forecast) for side in (0, 1)]
    total = f"| **all** | | | | {whole[0]:.1f} | {whole[1]:.1f} | **{shown(ratio(whole), 2)}** | |"
    return "\n".join([HEAD, *map(row, long), rest, total, "", verdict(forecast, long)])


def verdict(forecast: Sequence[dict[str, Any]], long: Sequence[dict[str, Any]]) -> str:
    """How many stages lie within what was promised, and which do not."""
    work = {
        f"{stage['stage']} {name}": found
        for stage in forecast
        for name in ("amount", "bytes")
        if (found := ratio(stage[name])) is not None
    }
    late = {stage["stage"]: found for stage in long if (found := ratio(stage["seconds"])) is not None}
    return "\n".join(
        [
            _within("amounts of work and bytes", work, WORK_WITHIN),
            _within(f"stages of {SHORT:g} s or more, seconds", late, SECONDS_WITHIN),
        ]
    )


def _within(what: str, ratios: dict[str, float], most: float) -> str:
    beyond = [f"{name} {value:.2f}" for name, value in ratios.items() if abs(value - 1) > most]
    told = f"* {len(ratios) - len(beyond)} of {len(ratios)} {what} within {most:.0%}"
    return f"{told}; beyond: {', '.join(beyond)}" if beyond else told


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    for name in parser.parse_args(arguments).runs:
        report = read_report(find_run(name))
        print(f"**{report['name']}** ({report['corpus']})\n\n{table(report['forecast'])}\n", flush=True)


if __name__ == "__main__":
    main()
