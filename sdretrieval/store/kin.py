"""Kin of an artifact: finished ones of the same stage and settings whose first input alone, the texts, is another.

Rows of the same texts are the same in all of them, so that a stage may copy instead of computing. A key holds neither
who was copied from nor whether anything was: it names what the rows are.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from sdretrieval.errors import DamagedArtifact
from sdretrieval.store.fingerprint import canonical
from sdretrieval.store.manifest import Manifest

if TYPE_CHECKING:
    from sdretrieval.store.artifacts import Store

logger = logging.getLogger("sdretrieval")


class Kin(NamedTuple):
    """One of them: its key, its folder, and `sound`, which compares its files with its manifest before use."""

    key: str
    path: Path
    sound: Callable[[], bool]


def find_kin(store: Store, stage: str, describe: Mapping[str, Any]) -> list[Kin]:
    """The newest first: it is the likeliest to hold what a corpus has grown from. `describe` as in `Store.make`."""
    inputs = tuple(describe.get("inputs", ()))
    wanted = _settings(describe.get("version"), describe.get("identity", {}), inputs)
    found = [
        manifest
        for manifest in _manifests(store.root)
        if manifest.stage == stage
        and manifest.inputs[:1] != inputs[:1]
        and _settings(manifest.stage_version, manifest.identity, manifest.inputs) == wanted
    ]
    found.sort(key=lambda manifest: manifest.finished, reverse=True)
    return [Kin(one.key, store.path_of(one.key), partial(_is_sound, store, one.key)) for one in found]


def _settings(version: Any, identity: Mapping[str, Any], inputs: tuple[str, ...]) -> bytes:
    return canonical([version, dict(identity), inputs[1:]])


def _manifests(root: Path) -> Iterator[Manifest]:
    for folder in sorted(root.glob("artifacts/*/*")):
        try:
            yield Manifest.read(folder, folder.name)
        except DamagedArtifact:
            continue  # whoever needs it is told, and makes it again


def _is_sound(store: Store, key: str) -> bool:
    try:
        return store.get(key) is not None
    except DamagedArtifact as damage:
        logger.warning("%s; nothing is copied from it", damage)
        return False
