"""Kills at random moments over a run, an evaluation, an export, a conversion: continued, each ends as if left alone."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.faults.forks import Ended
from tests.faults.place import (
    Call,
    Place,
    contents,
    evaluate_of,
    expect_done,
    export_of,
    results_of,
    run_of,
)
from tests.faults.tally import Tally

KILLED = -14
"""By SIGALRM, which nothing catches."""
IN_A_ROW = 6
"""Kills of one piece of work before it may come to its end."""


@dataclass(frozen=True)
class Work:
    """A command whose kills are tried; each attempt has a folder of its own.

    `begin` makes what it needs there, `arguments` is the command line, `result` what it left. `always`: what must hold
    after any kill, else why not.
    """

    name: str
    share: float
    begin: Callable[[Path], object]
    arguments: Callable[[Path], Sequence[object]]
    result: Callable[[Path, Ended], Any]
    always: Callable[[Path, Call], str | None] = lambda folder, call: None


def works(place: Place) -> list[Work]:
    """What is killed, and which share of the kills it gets."""

    def copy_runs(folder: Path) -> None:
        shutil.copytree(place.runs, folder / "runs")

    def old_bundle(folder: Path) -> None:
        shutil.copytree(place.bundle, folder / "bundle")

    return [
        Work("run", 0.5, lambda folder: None, lambda folder: run_of(place, folder / "runs"),
             lambda folder, ended: results_of(folder / "runs"), _no_report_of_half_a_run),
        Work("run again with a change", 0.1, copy_runs,
             lambda folder: (*run_of(place, folder / "runs"), "--set", "train.epochs=2"),
             lambda folder, ended: results_of(folder / "runs")),
        Work("evaluate", 0.15, lambda folder: None, lambda folder: evaluate_of(place, folder / "runs"),
             lambda folder, ended: json.loads(ended.out)),
        Work("export", 0.15, lambda folder: None, lambda folder: export_of(place, folder / "bundle"),
             lambda folder, ended: contents(folder / "bundle"), _whole_bundle_or_none),
        Work("export over a bundle", 0.05, old_bundle, lambda folder: export_of(place, folder / "bundle"),
             lambda folder, ended: contents(folder / "bundle"), _whole_bundle_or_none),
        Work("corpus convert", 0.05, lambda folder: None,
             lambda folder: ("corpus", "convert", place.corpus, folder / "converted"),
             lambda folder, ended: contents(folder / "converted")),
    ]  # fmt: skip


def _no_report_of_half_a_run(folder: Path, call: Call) -> str | None:
    if not (folder / "runs" / "tiny" / "report.json").exists():
        return None
    shown = call("show", "tiny", "--runs", folder / "runs", "--json")
    return None if shown.code == 0 else f"show fails on what has a report: {shown.err.strip()[-200:]}"


def _whole_bundle_or_none(folder: Path, call: Call) -> str | None:
    if not (folder / "bundle").exists():
        return None
    checked = call("verify", folder / "bundle")
    return None if checked.code == 0 else f"a kill left a bundle that fails verify: {checked.err.strip()[-200:]}"


def try_kills(place: Place, call: Call, kills: int, seed: int, until: float) -> Tally:
    """So many kills, fewer if time is up; a chain of kills of one piece of work counts as held if its end is right."""
    tally, chance = Tally("kills"), random.Random(seed)
    for work in works(place):
        folder = place.scratch()
        work.begin(folder)
        undisturbed = expect_done(call(*work.arguments(folder)))
        expected = work.result(folder, undisturbed)
        wanted = tally.tried + max(1, round(kills * work.share))
        while tally.tried < wanted and time.monotonic() < until:
            _chain(work, place, call, tally, chance, (undisturbed.seconds, expected, wanted))
        shutil.rmtree(folder)
    tally.cut_short = time.monotonic() > until
    return tally


def _chain(
    work: Work, place: Place, call: Call, tally: Tally, chance: random.Random, known: tuple[float, Any, int]
) -> None:
    """Kill one piece of work a few times, then let it come to its end."""
    seconds, expected, wanted = known
    folder = place.scratch()
    work.begin(folder)
    moments: list[str] = []
    problem = None
    ended = None
    while len(moments) < min(IN_A_ROW, wanted - tally.tried) and problem is None:
        moment = chance.uniform(0.01, seconds)
        ended = call(*work.arguments(folder), kill_after=moment)
        if ended.code != KILLED:  # it came to its end before, or failed
            break
        moments.append(f"{moment:.2f} s")
        problem = work.always(folder, call)
    if ended is None or ended.code == KILLED:
        ended = call(*work.arguments(folder))
    if problem is None and ended.code != 0:
        problem = f"it does not go on: exit code {ended.code}, {ended.err.strip()[-300:]}"
    if problem is None and work.result(folder, ended) != expected:
        problem = "it ends with other results than undisturbed work"
    for number in range(len(moments)):
        tally.add(f"{work.name}, killed after {', '.join(moments[: number + 1])}", problem)
    shutil.rmtree(folder)
