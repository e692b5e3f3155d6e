"""Commands as processes of their own, watched from outside: seconds, the most memory of the whole tree of processes,
and when each line of a file came."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

POLL = 0.25
"""Seconds between looks: memory that is held for less may be missed, and times are no finer."""
PATIENCE = 10.0
"""Seconds for a command to end by itself once asked."""
SHOWN = 2_000
"""Of the log of a command that failed."""


@dataclass
class Child:
    """A command. `lines_of` is the file whose lines are timed; `threads`: None leaves it to the machine."""

    name: str
    command: Sequence[str]
    log: Path
    threads: int | None = None
    lines_of: Path | None = None
    seconds: float = 0.0
    peak_bytes: int = 0
    stamps: list[float] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None
    _began: float = 0.0

    def start(self) -> None:
        """Begin; what it prints goes to the log."""
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=self._environment()
            )
        self._began = time.perf_counter()

    def _environment(self) -> Mapping[str, str]:
        one = {"TOKENIZERS_PARALLELISM": "false"}
        if self.threads is not None:
            names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
            one |= dict.fromkeys(names, str(self.threads))
        return {**os.environ, **one}

    def look(self) -> bool:
        """Whether it still runs. Raises RuntimeError, with the end of its log, where it failed."""
        assert self._process is not None
        if self._process.returncode is not None:
            return False
        code = self._process.poll()
        elapsed = time.perf_counter() - self._began
        self._stamp(elapsed)
        if code is None:
            self.peak_bytes = max(self.peak_bytes, tree_bytes(self._process.pid))
            return True
        self.seconds = elapsed
        if code:
            shown = self.log.read_text(encoding="utf8", errors="replace")[-SHOWN:]
            raise RuntimeError(f"{self.name} ended with {code} after {elapsed:.0f} s:\n{shown}")
        return False

    def _stamp(self, elapsed: float) -> None:
        if self.lines_of is not None and self.lines_of.exists():
            lines = self.lines_of.read_bytes().count(b"\n")
            self.stamps += [elapsed] * (lines - len(self.stamps))

    def end(self) -> None:
        """Stop it where it still runs: ask first, so that it may tidy up."""
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def watch(children: Sequence[Child]) -> None:
    """Run all of them at once, to their ends; one that fails, or a signal to this process, ends the others."""
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        for child in children:
            child.start()
        while sum(child.look() for child in children):  # not any(): each is looked at
            time.sleep(POLL)
    finally:
        for child in children:
            child.end()
        signal.signal(signal.SIGTERM, before)


def tree_bytes(pid: int) -> int:
    """Resident memory of a process and of all that it started."""
    try:
        root = psutil.Process(pid)
        members = [root, *root.children(recursive=True)]
    except psutil.Error:
        return 0
    return sum(map(_resident, members))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it ended meanwhile
        return 0
