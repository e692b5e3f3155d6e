"""Locks between processes, also on two machines that share a folder: flock, so that a killed process leaves none.

A lock file says who holds it. It is the flock that locks, never the file: a file left behind by a crash locks nothing.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from sdretrieval.errors import ResourceError

logger = logging.getLogger("sdretrieval")

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.02, 1.0
"""Waiting for another process: short pauses first, so that a quick stage costs no second."""

CLOSED = (errno.EACCES, errno.EPERM, errno.EROFS)
"""What a file system says of a folder that we may only read."""

_descriptors: set[int] = set()
"""Locks that this process holds."""


def _forget_in_child() -> None:
    """A forked child shares its parent's locks, and would keep them after the parent was killed: let go of them."""
    for descriptor in _descriptors:
        os.close(descriptor)
    _descriptors.clear()


os.register_at_fork(after_in_child=_forget_in_child)


class Holder(NamedTuple):
    """Who holds a lock."""

    pid: int
    host: str
    command: str
    since: str

    def __str__(self) -> str:
        here = "" if self.host == socket.gethostname() else f" on {self.host}"
        return f"process {self.pid}{here} ({self.command}, since {self.since})"


def _me(command: str) -> Holder:
    since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return Holder(os.getpid(), socket.gethostname(), command, since)


def holder_of(path: Path) -> str:
    """The holder that a lock file names, as text."""
    try:
        return str(Holder(**json.loads(path.read_text(encoding="utf8"))))
    except (OSError, ValueError, TypeError):
        return "another process"  # it is just writing its name, or has just let go


@contextmanager
def held(path: Path, command: str, *, shared: bool = False, wait: bool = False) -> Iterator[bool]:
    """Hold the lock file `path`; yields whether it could be had (always True with `wait`).

    An exclusive holder writes its name into the file and removes the file at the end. `shared` holders exclude only
    exclusive ones; who may only read the folder holds the lock if the file is there, and needs none if it is not.
    Raises ResourceError if the folder cannot be written but must be.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _acquire(path, command, shared=shared, wait=wait)
    except OSError as problem:
        if problem.errno not in CLOSED:
            raise
        if not shared or not path.parent.is_dir():
            raise ResourceError(
                f"{path} cannot be written ({problem.strerror}), which {command} needs; ask the owner of the folder "
                "for that permission, or name a folder of your own with --runs"
            ) from problem
        yield True
        return
    if descriptor is None:
        yield False
        return
    _descriptors.add(descriptor)
    try:
        if not shared:
            os.ftruncate(descriptor, 0)
            os.write(descriptor, json.dumps(_me(command)._asdict()).encode("utf8"))
        yield True
    finally:
        if descriptor in _descriptors:  # else a forked child passes here, whose parent still holds the lock
            if not shared:
                path.unlink(missing_ok=True)  # while still held: who waits on it sees that it is gone, and opens again
            _descriptors.discard(descriptor)
            os.close(descriptor)


def _acquire(path: Path, command: str, *, shared: bool, wait: bool) -> int | None:
    flag, access = (fcntl.LOCK_SH, os.O_RDONLY) if shared else (fcntl.LOCK_EX, os.O_RDWR)
    pause, announced = FIRST_PAUSE_S, False
    while True:
        descriptor = os.open(path, access | os.O_CREAT, 0o666)
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, flag | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):  # the last holder may have removed the file in between
                if path.stat().st_ino == os.fstat(descriptor).st_ino:
                    return descriptor
            os.close(descriptor)
            continue
        os.close(descriptor)
        if not wait:
            return None
        if not announced:
            logger.info("%s: waiting for %s", command, holder_of(path))
            announced = True
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
