"""Several ways to do one piece of work, measured in turn: each in a process of its own, never two at a time.

The machine's other load hits all sides of a round alike, so that what is compared is a ratio within a round.
"""

from __future__ import annotations

import importlib
import multiprocessing
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sdretrieval.progress import Progress
from sdretrieval.store.memory import peak_of_work

Work = Callable[[], Any]
"""One round of a side; what it returns is what the sides are compared by."""

PATIENCE = 10.0
"""Seconds for a side's process to end by itself."""


@dataclass
class Side:
    """A side's measurements: seconds and result of each round, peak bytes of the first."""

    name: str
    seconds: list[float] = field(default_factory=list)
    peak_bytes: int = 0
    results: list[Any] = field(default_factory=list)

    @property
    def result(self) -> Any:
        """Of the first round."""
        return self.results[0]


def measure(module: str, names: Sequence[str], folder: Path, rounds: int) -> dict[str, Side]:
    """Run `SIDES[name](folder)` of `module`, each prepared in its own process, then `rounds` times in turn.

    The first side's turn moves on by one each round. A side that fails ends the measurement: RuntimeError with its
    traceback.
    """
    workers = {name: _Worker(module, name, folder) for name in names}
    sides = {name: Side(name) for name in names}
    try:
        with Progress(f"{module.rpartition('.')[2]}: measure", rounds * len(workers), "turns") as progress:
            for number in range(rounds):
                for name in _turned(list(names), number):
                    seconds, peak, result = workers[name].run()
                    side = sides[name]
                    side.seconds.append(seconds)
                    side.results.append(result)
                    if number == 0:
                        side.peak_bytes = peak
                    progress.advance(1)
    finally:
        for worker in workers.values():
            worker.end()
    return sides


def _turned(names: list[str], number: int) -> list[str]:
    start = number % len(names)
    return names[start:] + names[:start]


class _Worker:
    """A process that prepares one side and then does its work whenever asked."""

    def __init__(self, module: str, name: str, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, module, name, folder), daemon=True)
        self._process.start()
        theirs.close()
        self._answer()

    def run(self) -> tuple[float, int, Any]:
        """Seconds, peak bytes and result of one round."""
        self._pipe.send("run")
        seconds, peak, result = self._answer()
        return seconds, peak, result

    def end(self) -> None:
        """Stop the process: ask first, since one that is killed leaves semaphores behind, and says so."""
        with suppress(OSError):  # it may be gone
            self._pipe.send("end")
        self._process.join(timeout=PATIENCE)
        self._process.terminate()
        self._process.join()

    def _answer(self) -> Any:
        try:
            kind, value = self._pipe.recv()
        except EOFError:
            raise RuntimeError(f"a side's process ended with {self._process.exitcode}: out of memory?") from None
        if kind == "failed":
            raise RuntimeError(value)
        return value


def _serve(pipe: Connection, module: str, name: str, folder: Path) -> None:
    try:
        work: Work = importlib.import_module(module).SIDES[name](folder)
        pipe.send(("ready", None))
        while pipe.recv() == "run":
            with peak_of_work() as peak:
                start = time.perf_counter()
                result = work()
                seconds = time.perf_counter() - start
            pipe.send(("done", (seconds, peak.rss_bytes, result)))
    except BaseException:
        pipe.send(("failed", f"{module}, side {name}:\n{traceback.format_exc()}"))
