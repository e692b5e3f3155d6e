"""Which stages a run has, known before it makes any: what `--until` may name, and what will need disk."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from sdretrieval.config import Config
from sdretrieval.run.generations import Pipeline
from sdretrieval.store import Ledger, Store
from sdretrieval.store.runner import Runner, Stopped


class Outlined(NamedTuple):
    """A stage's key, and whether the store has it."""

    key: str
    finished: bool


@dataclass
class Outline(Runner):
    """Walks the pipeline as if nothing were there: every generation is accepted, every probe finds something to learn.

    A plan opens what was finished; this does not, so that a damaged artifact, which a run makes anew, cannot stop it.
    """

    stages: dict[str, Outlined] = field(default_factory=dict)

    def _place(self, key: str) -> Path:
        """Where nothing lies."""
        return self.store.root / "outline" / key

    def _plan(self, address: str, key: str, describe: dict[str, Any], resumable: bool) -> None:
        self.stages[address] = Outlined(key, self.store.path_of(key).exists())


def outline(
    config: Config, store: Store, until: str | None = None, walk: Callable[[Pipeline], object] = Pipeline.run
) -> tuple[dict[str, Outlined], bool]:
    """Stages by address, in the order in which they are asked for, and whether `until` was met; merges are not in it.

    Raises CorpusError and ModelError where source or student are not there.
    """
    runner = Outline(store, Ledger(store.root / "outline.jsonl"), planning=True, until=until)
    try:
        walk(Pipeline(config, store, runner))
    except Stopped:
        return runner.stages, True
    return runner.stages, False
