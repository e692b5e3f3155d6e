"""Whether there is room on the disk, asked before long work begins."""

from __future__ import annotations

import shutil
from pathlib import Path

from sdretrieval.errors import ResourceError


def readable_bytes(size: float) -> str:
    """`1234567` as `1.2 MB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} TB"


def check_disk(path: Path, need_bytes: int) -> None:
    """Raise ResourceError where the disk of `path` (which need not exist yet) has less than `need_bytes` free."""
    existing = path.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if free < need_bytes:
        raise ResourceError(
            f"too little disk at {path}: {readable_bytes(free)} free, {readable_bytes(need_bytes)} needed; make room "
            "(`sdretrieval gc` removes what no run uses), or choose another place with --runs"
        )
