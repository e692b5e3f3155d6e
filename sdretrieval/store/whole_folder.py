"""A folder that a user named, written whole or not at all: made beside its place under a lock, then put there.

.NAME.partial-X    being written, or left by a kill
.NAME.replaced-X   what is just being replaced, or is to be put back after a kill between the two renames
.NAME.lock         who writes NAME (exists only meanwhile)
"""

from __future__ import annotations

import logging
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sdretrieval.errors import RequestError
from sdretrieval.files import apply_umask, sync, sync_tree
from sdretrieval.formatting import readable_bytes
from sdretrieval.store.disk import check_can_write
from sdretrieval.store.lock import held

logger = logging.getLogger("sdretrieval")


def check_target(target: Path, what: str) -> None:
    """Raise RequestError, naming `what`, if the folder `target` could not be made or replaced by `whole_folder`."""
    place = target.resolve()
    if Path.cwd().is_relative_to(place) or place.is_mount():
        where = "a mount point" if place.is_mount() else "the folder you are in, or above it"
        raise RequestError(
            f"{what} {target}: that is {where}, which cannot be replaced by a folder made beside it; name a new folder "
            f"in it, such as {target / 'new'}"
        )
    check_can_write(place, f"{what} {target}")


@contextmanager
def whole_folder(target: Path, check: Callable[[], object] = lambda: None) -> Iterator[Path]:
    """A folder to write into, which takes the place of `target` if the block ends without an error.

    One process at a time writes `target`, another waits for it. `check`, which raises if what is at `target` must not
    be replaced, is asked once nobody else can write there, and again at the end. What killed commands left is removed,
    and said; what one was just replacing is put back first. Raises what `check` raises, and OSError.
    """
    target = target.resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    with held(target.with_name(f".{target.name}.lock"), f"writing {target}", wait=True):
        _tidy(target)
        check()
        end = secrets.token_hex(4)
        work, old = (target.with_name(f".{target.name}.{state}-{end}") for state in ("partial", "replaced"))
        work.mkdir()
        try:
            yield work
            apply_umask(work)
            sync_tree(work)
            check()
            if target.exists():
                target.rename(old)
            work.rename(target)
            sync(target.parent)
        finally:
            if old.exists() and not target.exists():
                old.rename(target)
            for left in (work, old):
                shutil.rmtree(left, ignore_errors=True)


def set_aside(target: Path) -> Path | None:
    """What a killed command was just replacing at `target`, where nothing is now; the newest, if there are several."""
    if target.exists():
        return None
    left = [path for path in _beside(target) if path.name.startswith(f".{target.name}.replaced-")]
    return max(left, key=lambda path: path.stat().st_ctime, default=None)


def _tidy(target: Path) -> None:
    if (old := set_aside(target)) is not None:
        old.rename(target)
        logger.warning("%s: put back; a command was killed while it replaced it", target)
    left = _beside(target)
    size = sum(path.stat().st_size for folder in left for path in folder.rglob("*") if path.is_file())
    for folder in left:
        shutil.rmtree(folder, ignore_errors=True)
    if left:
        logger.info("%s: removed what a killed command left beside it (%s)", target, readable_bytes(size))


def _beside(target: Path) -> list[Path]:
    starts = tuple(f".{target.name}.{state}-" for state in ("partial", "replaced"))
    return sorted(path for path in target.parent.glob(".*") if path.name.startswith(starts) and path.is_dir())
