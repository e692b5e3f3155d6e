"""A finished run as a benchmark reads it: which one is asked for, and what its stages left in the store."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sdretrieval.cli.show import finished_stages
from sdretrieval.store import Store
from sdretrieval.store.run_folder import find_run


def asked_run(description: str | None, arguments: Sequence[str] | None) -> tuple[Path, int]:
    """Folder of RUN, and the generation, from a command line `RUN [--generation N]`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument("--generation", type=int, default=1)
    asked = parser.parse_args(arguments)
    return find_run(asked.run), asked.generation


def stages_of(folder: Path) -> dict[str, dict[str, Any]]:
    """The ledger's records of what the run was finished with, by address."""
    return finished_stages(folder)


def artifact_of(folder: Path, stages: Mapping[str, Mapping[str, Any]], address: str) -> Path:
    """Where a stage's artifact lies. Raises SystemExit where the run had no such stage."""
    if address not in stages:
        raise SystemExit(f"{folder} has no stage {address}")
    return Store(folder.parent / "store").path_of(str(stages[address]["key"]))
