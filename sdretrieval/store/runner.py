"""Stages: a plain function from artifacts to one artifact, remembered by the store under the key of what went in.

A dry runner is given the same calls: it makes nothing, and notes whether the store has each artifact.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sdretrieval.errors import DamagedArtifact
from sdretrieval.files import read_json
from sdretrieval.formatting import quantity
from sdretrieval.progress import check_interrupt, run_progress
from sdretrieval.store import Ledger, Store, Work, key_of
from sdretrieval.units import Address, dev_figure, stage_line

logger = logging.getLogger("sdretrieval")

NOT_MADE = "not made yet"


@dataclass(frozen=True)
class Artifact:
    """A stage's result: its key, and if it is, or would be."""

    key: str
    path: Path


class Stopped(Exception):
    """`--until` was reached: everything up to that stage is in the store."""


@dataclass(frozen=True)
class Planned:
    """One line of a plan. `seconds`: what it took when it was made last, if it ever was."""

    address: str
    cached: bool
    why: str
    seconds: float | None
    key: str = ""


@dataclass
class Runner:
    """Runs stages; with `dry` it only says, in `planned`, what it would run. `until`: a stage address such as `2/mine`.

    `assume`: a dry run that takes every gate and probe to say yes, whatever they said earlier.
    `mark`: added to the address of what a repetition makes again, such as `@14`. What the first pass has made already
    keeps its address.
    """

    store: Store
    ledger: Ledger
    dry: bool = False
    assume: bool = False
    until: str | None = None
    mark: str = ""
    before: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    records: list[dict[str, Any]] = field(default_factory=list)
    planned: list[Planned] = field(default_factory=list)
    reused: int = 0
    """Stages that the store already had, since this was last said."""
    _known: dict[tuple[str, str], Artifact] = field(default_factory=dict)
    """What was asked for already, by address and key."""

    def stage(
        self,
        address: str,
        version: int,
        identity: Mapping[str, Any],
        inputs: Sequence[Artifact | str],
        build: Callable[[Work], None],
        *,
        resumable: bool = False,
    ) -> Artifact:
        """The artifact of one stage, made by `build` if the store lacks it. `address` = generation/stage."""
        name = Address.of(address).stage
        keys = [one if isinstance(one, str) else one.key for one in inputs]
        key = key_of(name, version, identity, keys)
        for known in ((address, key), (address + self.mark, key)):
            if known in self._known:
                return self._known[known]
        address += self.mark
        describe = {"version": version, "identity": dict(identity), "inputs": keys}
        if self.dry:
            self._plan(address, key, describe, resumable)
        else:
            self._run(address, name, key, describe, build, resumable)
        if self.until == address:
            self.say_reused()
            raise Stopped(address)
        self._known[address, key] = Artifact(key, self.store.path_of(key))
        return self._known[address, key]

    def after(self, artifact: Artifact, check: Callable[[], object]) -> None:
        """Run a `check` of what a stage made; a dry run skips it if that is not made yet, or is damaged."""
        if self.dry:
            try:
                made = self.store.get(artifact.key)
            except DamagedArtifact:
                return
            if made is None:
                return
        check()

    def say(self, message: Callable[[], object]) -> None:
        """Tell the log something; a dry run says nothing."""
        if not self.dry:
            message()

    def result(self, artifact: Artifact, file: str, assumed: dict[str, Any]) -> dict[str, Any]:
        """What a stage wrote into one of its JSON files; `assumed` in a dry run, if it is not made or is damaged."""
        if self.dry:
            try:
                made = None if self.assume else self.store.get(artifact.key)
            except DamagedArtifact:
                made = None
            if made is None:
                return assumed
        return read_json(artifact.path / file)

    def _run(
        self,
        address: str,
        name: str,
        key: str,
        describe: dict[str, Any],
        build: Callable[[Work], None],
        resumable: bool,
    ) -> None:
        check_interrupt()
        run_progress.begin(address)
        why = self._why(address, key, describe, resumable)
        if not self.store.path_of(key).exists():
            if all(record["cached"] for record in self.records):
                logger.info("Stages are GENERATION/STAGE; those of 0 are shared by all generations.")
            self.say_reused()
            logger.debug("%s begins (%s)", address, why)
        made = self.store.ensure(key, name, describe, build, resumable=resumable)
        record = {
            "stage": address,
            "key": key,
            "cached": made.cached,
            "seconds": made.seconds,
            "counts": dict(made.counts),
            "peak_rss_bytes": made.peak_rss_bytes,
            "peak_is_own": made.peak_is_own,
            "identity": describe["identity"],
            "inputs": describe["inputs"],
        }
        run_progress.figures.update(dev_figure(address, made.counts))
        self.ledger.append(record)
        self.records.append(record)
        if not made.cached:
            # A first time needs no reason.
            logger.info("%s", stage_line(address, made.counts, made.seconds, "" if why == NOT_MADE else why))
        elif not any(earlier["key"] == key for earlier in self.records[:-1]):  # counted once, however many stages ask
            self.reused += 1

    def say_reused(self) -> None:
        """Log how many stages the store already had since this was last said: one line for all of them."""
        if self.reused:
            logger.info("%s from the store", quantity(self.reused, "stages"))
        self.reused = 0

    def _plan(self, address: str, key: str, describe: dict[str, Any], resumable: bool) -> None:
        seconds = self.before.get(address, {}).get("seconds")
        if self.store.path_of(key).exists():
            try:
                self.store.verify(key, deep=False)
                made = Planned(address, True, "finished earlier", self.store.manifest(key).seconds, key)
            except DamagedArtifact:
                made = Planned(address, False, "its artifact is damaged", seconds, key)
            self.planned.append(made)
            return
        maker = next((one.address for one in self.planned if one.key == key), None)
        why = f"made by {maker}" if maker else self._why(address, key, describe, resumable)
        self.planned.append(Planned(address, False, why, seconds, key))

    def _why(self, address: str, key: str, describe: Mapping[str, Any], resumable: bool) -> str:
        if self.store.partial_of(key).exists():
            return f"was not finished; {'continues' if resumable else 'starts over'}"
        before = self.before.get(address)
        if before is None:
            return NOT_MADE
        if before["key"] == key:
            return "its artifact was damaged or removed"
        changed = sorted(
            name
            for name in {**before["identity"], **describe["identity"]}
            if before["identity"].get(name) != describe["identity"].get(name)
        )
        if changed:
            return f"changed: {', '.join(changed)}"
        return "an earlier stage changed"


def ledger_by_address(ledger: Ledger) -> dict[str, dict[str, Any]]:
    """The last line of each stage address in an earlier ledger, without damaged ones: it only says why a stage runs."""
    return {record["stage"]: record for record in ledger.read(skip_damaged=True) if "stage" in record}
