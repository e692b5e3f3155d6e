"""What a kill costs: a run that is killed at random moments and started again, beside one that is left alone."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sdretrieval.config import Config, dump_config
from sdretrieval.progress import Progress
from sdretrieval.store import Ledger, Store
from sdretrieval.store.run_folder import read_json

BEGINS = " begins ("
SECONDS_HELD = ("card.json",)
"""Files that hold seconds: they differ between any two runs."""


@dataclass(frozen=True)
class Kill:
    """`stage` was being made when the process was killed; `lost_s`: seconds since its last step that survived."""

    stage: str
    lost_s: float
    noted: str


@dataclass
class Child:
    """`sdretrieval run` as a process; what it says is noted with the time."""

    config: Path
    runs: Path

    def __post_init__(self) -> None:
        command = [sys.executable, "-m", "sdretrieval", "--verbose", "run", str(self.config), "--runs", str(self.runs)]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        self._begun: list[tuple[str, float]] = []
        self.said: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.said.append(line.rstrip("\n"))
            if BEGINS in line:
                self._begun.append((line.partition(BEGINS)[0].split()[-1], time.time()))

    def ended_within(self, seconds: float) -> bool:
        """Whether it ended by itself before so many seconds after its first stage had begun."""
        while not self._begun and self._process.poll() is None:
            time.sleep(0.05)
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        self._reader.join()
        if self._process.returncode:
            raise RuntimeError("the run failed:\n" + "\n".join(self.said[-20:]))
        return True

    def kill(self) -> Kill:
        """SIGKILL, and what it cost."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        moment = time.time()
        self._reader.join()
        stage, began = self._begun[-1]
        notes = [path for path in (self.runs / "store" / "partial").rglob("*.json") if path.stat().st_mtime > began]
        newest = max(notes, key=lambda path: path.stat().st_mtime, default=None)
        kept = newest.stat().st_mtime if newest else began
        return Kill(stage, moment - kept, f"{newest.name} {newest.read_text()[:80]}" if newest else "stage's beginning")


def run_killed(config: Config, folder: Path, kills: int, seed: int) -> tuple[list[Kill], list[str]]:
    """The kills, and the files of the end that differ from those of a run that was left alone (`address: file`)."""
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "config.yaml"
    written.write_text(dump_config(config), encoding="utf8")
    start = time.monotonic()
    Child(written, folder / "alone").ended_within(float("inf"))
    whole_s = time.monotonic() - start
    chance, found = random.Random(seed), list[Kill]()
    with Progress("kill and resume", kills, "kills") as progress:
        child = Child(written, folder / "killed")
        while not child.ended_within(chance.uniform(0, 2 * whole_s / kills) if len(found) < kills else 1e9):
            found.append(child.kill())
            progress.advance(1)
            child = Child(written, folder / "killed")
    return found, differing(config.name, folder / "alone", folder / "killed")


def differing(name: str, first: Path, second: Path) -> list[str]:
    """Stages whose keys differ, and files of artifacts whose contents do, but for seconds."""
    keys = [_keys(runs / name) for runs in (first, second)]
    differ = [address for address in {**keys[0], **keys[1]} if keys[0].get(address) != keys[1].get(address)]
    stores = [Store(runs / "store") for runs in (first, second)]
    for address in keys[0]:
        if address not in differ:
            files = [store.manifest(keys[0][address]).files for store in stores]
            names = sorted({**files[0], **files[1]})
            differ += [
                f"{address}: {file}"
                for file in names
                if files[0].get(file) != files[1].get(file) and file not in SECONDS_HELD
            ]
    reports = [read_json(runs / name / "report.json")["measures"] for runs in (first, second)]
    return differ + (["report.json: measures"] if reports[0] != reports[1] else [])


def _keys(folder: Path) -> dict[str, str]:
    return {line["stage"]: line["key"] for line in Ledger(folder / "ledger.jsonl").read()}


def table(kills: Sequence[Kill], differ: Sequence[str]) -> str:
    """One line a kill, then what differs."""
    rows = [f"| {kill.stage} | {kill.lost_s:.1f} | {kill.noted} |" for kill in kills]
    same = "every artifact and measure equals those of a run that was left alone"
    end = same if not differ else "differs from a run that was left alone: " + ", ".join(differ)
    return "\n".join(["| killed in | seconds lost | kept |", "|---|---|---|", *rows, "", end])
