"""Quality against speed: smaller students of finished runs in one picture.

    python -m benchmarks.smaller_picture RUN ... --out docs/smaller.svg

RUN: a finished run's folder, of one corpus each. A dot is a smaller student's mean over the runs that have it: to the
right, how many times as fast as the final student it encodes a query alone; up, its share of the final student's
measure; its size, bytes of a vector. A line is from the least to the most of the runs. `base` is the untrained student.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 460, 56, 150, 16, 48
STYLE = 'font-family="sans-serif" font-size="12" fill="#444"'
FLOAT32 = 4


class Dot(NamedTuple):
    """What one student has in one run."""

    times: float
    kept: float
    dims: int


def dots_of(report: Mapping[str, Any]) -> dict[str, Dot]:
    """Of a run's report, by name. Raises SystemExit if the run had no smaller students."""
    if not report.get("smaller"):
        raise SystemExit(f"run {report['name']!r} has no smaller students; name a run whose config has `smaller`")
    first = report["smaller"][0]
    means = {name: report["measures"][name][first["measure"]] for name in ("student_0", "final")}
    dims = first["cost"]["final"]["dims"]
    dots = {"final": Dot(1.0, 1.0, dims), "base": Dot(1.0, means["student_0"] / means["final"], dims)}
    for one in report["smaller"]:
        both = one["cost"]
        times = both["final"]["query_ms"] / both["smaller"]["query_ms"]
        dots[one["name"].removeprefix("final-")] = Dot(times, one["kept"], both["smaller"]["dims"])
    return dots


def plot(runs: Sequence[Mapping[str, Dot]]) -> str:
    """The picture as SVG."""
    names = dict.fromkeys(name for run in runs for name in run)
    found = {name: [run[name] for run in runs if name in run] for name in names}
    fastest = max(2.0, *(dot.times for dots in found.values() for dot in dots))
    kept = [dot.kept for dots in found.values() for dot in dots]
    low, high = math.floor(min(kept) * 20) / 20, math.ceil(max(kept) * 20) / 20

    def right(times: float) -> float:
        return LEFT + 12 + (WIDTH - LEFT - RIGHT) * math.log(max(times, 0.9)) / math.log(fastest)

    def up(share: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (share - low) / (high - low)

    parts = [f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>']
    for step in range(round(low * 20), round(high * 20) + 1):
        y, colour = up(step / 20), "#888" if step == 20 else "#ddd"
        parts.append(f'<path d="M{LEFT} {y:.1f}H{WIDTH - 10}" stroke="{colour}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end" {STYLE}>{step * 5} %</text>')
    for times in (1, 2, 5, 10, 20, 50, 100):
        if times <= fastest:
            parts.append(f'<text x="{right(times):.1f}" y="{HEIGHT - 30}" text-anchor="middle" {STYLE}>{times}</text>')
    taken: list[tuple[float, float]] = []
    for name, dots in sorted(found.items(), key=lambda pair: -fmean(dot.kept for dot in pair[1])):
        x, y = right(fmean(dot.times for dot in dots)), up(fmean(dot.kept for dot in dots))
        ends = up(min(dot.kept for dot in dots)), up(max(dot.kept for dot in dots))
        place = y + 4
        while any(abs(x - one) < 150 and abs(place - other) < 13 for one, other in taken):  # labels do not overlap
            place += 2
        taken.append((x, place))
        radius = math.sqrt(dots[0].dims * FLOAT32) / 5
        parts.append(f'<path d="M{x:.1f} {ends[0]:.1f}V{ends[1]:.1f}" stroke="#0a66c2" stroke-opacity=".4"/>')
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius:.1f}" fill="#0a66c2" fill-opacity=".6"/>')
        parts.append(f'<text x="{x + 12:.1f}" y="{place:.1f}" {STYLE}>{name}</text>')
    words = "times as fast as the final student, a query alone"
    parts.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle" {STYLE}>{words}</text>')
    body = "\n".join(parts)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n{body}\n</svg>\n'


def main() -> None:
    """Read and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    asked.out.write_text(plot([dots_of(json.loads((run / "report.json").read_text())) for run in asked.runs]))


if __name__ == "__main__":
    main()
