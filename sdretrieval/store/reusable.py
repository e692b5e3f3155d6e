"""Artifacts to copy rows from: finished ones of the same stage and settings, of which the texts alone differ.

Rows of the same texts are the same in all of them, so that a stage may copy instead of computing. A key holds neither
which artifact was copied from nor whether any was: it names what the rows are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sdretrieval.errors import DamagedArtifact
from sdretrieval.store.fingerprint import canonical
from sdretrieval.store.manifest import Manifest


class Reusable(NamedTuple):
    """One of them: its key, its folder, and `sound`, which compares its files with its manifest before use."""

    key: str
    path: Path
    sound: Callable[[], bool]


def find_reusable(
    root: Path, stage: str, describe: Mapping[str, Any], is_sound: Callable[[str], bool]
) -> list[Reusable]:
    """The newest first: it is the likeliest to hold what a corpus has grown from. `root`: of the store; `describe` as
    in `Store.make`; `is_sound`: by key."""
    inputs = tuple(describe.get("inputs", ()))
    wanted = canonical([describe.get("version"), dict(describe.get("identity", {})), inputs[1:]])
    candidates: list[tuple[str, str, Path]] = []
    for folder in sorted(root.glob("artifacts/*/[!.]*")):
        try:
            manifest = Manifest.read(folder, folder.name)
        except (DamagedArtifact, PermissionError):
            continue  # the stage that needs it says so, and makes it again
        if manifest.stage != stage or manifest.inputs[:1] == inputs[:1]:
            continue
        if canonical([manifest.stage_version, dict(manifest.identity), manifest.inputs[1:]]) == wanted:
            candidates.append((manifest.finished, manifest.key, folder))
    candidates.sort(key=lambda one: one[0], reverse=True)
    return [Reusable(key, folder, partial(is_sound, key)) for _, key, folder in candidates]
