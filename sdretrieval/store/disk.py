"""Whether there is room on the disk, asked before long work begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from sdretrieval.errors import ResourceError
from sdretrieval.formatting import readable_bytes


def check_disk(path: Path, need_bytes: int) -> None:
    """Raise ResourceError if the disk of `path` (which need not exist yet) has less than `need_bytes` free."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < need_bytes:
        raise ResourceError(
            f"too little disk at {path}: {readable_bytes(free)} free, {readable_bytes(need_bytes)} needed; make room "
            "(`sdretrieval gc` removes what no run uses), or choose another place with --runs"
        )
