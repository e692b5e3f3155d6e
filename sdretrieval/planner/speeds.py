"""How fast this machine does each kind of work: measured by a short trial of the real code, kept for the next time.

A speed belongs to machine, threads, libraries, model and the shape of the work; whatever differs is measured anew.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from sdretrieval.stages.machine import machine_name
from sdretrieval.store.run_folder import write_json

logger = logging.getLogger("sdretrieval")

TRIALS = "trials 4"
"""To be counted up when a trial's figures come to mean something else."""

Figures = Mapping[str, float]
"""What a trial measured, by name: seconds and bytes of a unit."""


@dataclass
class Speeds:
    """Measured figures by what they are of, in `file` (JSON) as well."""

    file: Path
    device: str = "cpu"
    again: bool = False
    """Measure whatever is asked for, though the file knows it."""
    _known: dict[str, dict[str, float]] = field(default_factory=dict)
    _fresh: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._known = self._read()

    def _read(self) -> dict[str, dict[str, float]]:
        """What is there and is what it should be; whatever else is measured again."""
        try:
            found = json.loads(self.file.read_text(encoding="utf8"))
        except (OSError, ValueError):
            return {}
        return {key: one for key, one in found.items() if _are_figures(one)} if isinstance(found, dict) else {}

    def _keep(self, key: str) -> None:
        """For the next process; another one may have added its own meanwhile. Without a cache it is measured again."""
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            fresh = self.file.with_name(f"{self.file.name}.{os.getpid()}")
            write_json(fresh, {**self._read(), key: self._known[key]})
            fresh.replace(self.file)
        except OSError as problem:
            logger.warning("what this machine was measured to do cannot be kept: %s", problem)

    def of(self, work: str, trial: Callable[[], Figures], model: str = "") -> Figures:
        """The figures of `work` with the model of digest `model`, by `trial` where this machine's are not known."""
        key = f"{self._machine} | {model} | {work}"
        if key not in self._known or (self.again and key not in self._fresh):
            logger.info("measuring this machine: %s", work)
            self._known[key] = {name: float(value) for name, value in trial().items()}
            self._fresh.add(key)
            self._keep(key)
        return self._known[key]

    @property
    def _machine(self) -> str:
        import torch

        libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers"))
        return f"{TRIALS}, {machine_name(self.device)}, {torch.get_num_threads()} threads, {libraries}"


def _are_figures(one: object) -> bool:
    return isinstance(one, dict) and bool(one) and all(isinstance(value, int | float) for value in one.values())


def shape(number: float) -> int:
    """A size rounded to a power of two's half steps: speeds depend on it, but not on each token."""
    from math import log2

    return round(2 ** (round(2 * log2(max(number, 1))) / 2))


def median_of(rounds: int, work: Callable[[], float]) -> float:
    """Of several measurements, against what else the machine does meanwhile."""
    return statistics.median(work() for _ in range(rounds))
