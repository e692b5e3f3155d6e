"""Folders that are either absent or finished."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def finished_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `target` that is renamed to `target` when the block ends without an error.

    A kill at any point leaves no half-written `target`. `target` must be absent or empty.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        yield temporary
        temporary.chmod(0o755)  # mkdtemp allows the owner alone
        temporary.replace(target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
