"""Whether there is room on the disk, and leave to write there, asked before long work begins."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path

from sdretrieval.errors import RequestError, ResourceError
from sdretrieval.formatting import readable_bytes


def check_disk(path: Path, need_bytes: int) -> None:
    """Raise ResourceError if the disk of `path` (which need not exist yet) has less than `need_bytes` free."""
    free = shutil.disk_usage(_existing(path)).free
    if free < need_bytes:
        raise ResourceError(
            f"too little disk at {path}: {readable_bytes(free)} free, {readable_bytes(need_bytes)} needed; make room "
            "(`sdretrieval gc` removes what no run uses), or choose another place with --runs"
        )


def check_can_write(path: Path, what: str) -> None:
    """Raise RequestError, naming `what`, if the file or folder `path` could not be made or replaced.

    It is tried: permissions say nothing to root, nor of a file system that is read-only or takes no such name.
    """
    folder = path.absolute().parent
    try:
        folder = _existing(folder)
        trial = folder / f".{path.absolute().name}.partial-{secrets.token_hex(5)}"
        trial.mkdir()
        trial.rmdir()
    except OSError as problem:
        raise RequestError(
            f"{what}: nothing can be written there ({problem.strerror}: {folder}); name a place that can be written to"
        ) from problem


def _existing(path: Path) -> Path:
    """The nearest folder above `path`, or itself, that is there."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    return existing
