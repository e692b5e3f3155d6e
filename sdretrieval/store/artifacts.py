"""The store: each artifact is under the key of what it was made from, and is finished or is not there.

ROOT/artifacts/<key[:2]>/<key>/   finished: its files and manifest.json
ROOT/partial/<key>/               being made, or left by a kill: the same key finds it again
ROOT/claims/<key>                 who is making it (exists only meanwhile)
ROOT/lock, ROOT/workers           who runs a pipeline here (one), who works for one (many)
ROOT/trash/                       damaged or unused artifacts on their way out
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sdretrieval.errors import DamagedArtifact, ResourceError, WorkError
from sdretrieval.files import sync, sync_tree
from sdretrieval.store.lock import CLOSED, held, holder_of
from sdretrieval.store.manifest import MANIFEST, Manifest, difference, git_commit, record_files, versions
from sdretrieval.store.memory import peak_of_work
from sdretrieval.store.reusable import Reusable, find_reusable

logger = logging.getLogger("sdretrieval")

STALE_PARTIAL_S = 7 * 24 * 3600.0
"""Younger partial work may yet be resumed; gc leaves it."""


@dataclass
class Work:
    """Where a stage writes (`folder`) and what it reports of itself (`counts`, JSON values, into the manifest).

    `reusable` looks up what it may copy rows from.
    """

    folder: Path
    counts: dict[str, Any] = field(default_factory=dict)
    reusable: Callable[[], list[Reusable]] = list


class Made(NamedTuple):
    """An artifact that is there now: `cached` says that it was there before, `seconds` what making it took.

    `peak_rss_bytes` and `peak_is_own`: the memory that making it took, as its manifest says.
    """

    path: Path
    cached: bool
    seconds: float
    counts: Mapping[str, Any]
    peak_rss_bytes: int | None
    peak_is_own: bool


class Removed(NamedTuple):
    """Something gc removed."""

    key: str
    bytes: int


class Store:
    """Artifacts under `root`, which is made when first written to. Safe for several processes that share the folder."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)
        self._sound: set[str] = set()

    def path_of(self, key: str) -> Path:
        """Where the finished artifact is, or would be."""
        return self.root / "artifacts" / key[:2] / key

    def partial_of(self, key: str) -> Path:
        """Where the artifact is being made."""
        return self.root / "partial" / key

    def manifest(self, key: str) -> Manifest:
        """Manifest of a finished artifact. Raises DamagedArtifact if it is missing or unreadable."""
        folder = self.path_of(key)
        manifest = Manifest.read(folder, key)
        if manifest.key != key:
            raise DamagedArtifact(f"artifact {key}: its manifest names {manifest.key}; it must be made again")
        return manifest

    def get(self, key: str) -> Path | None:
        """Folder of the finished artifact, or None. Sizes are checked each time, digests at the first use in a process.

        Raises DamagedArtifact; `get_or_discard` and `ensure` deal with that.
        """
        if not self.path_of(key).exists():
            return None
        self.verify(key, deep=key not in self._sound)
        return self.path_of(key)

    def verify(self, key: str, *, deep: bool = True) -> None:
        """Compare a finished artifact's files with its manifest: sizes, and digests if `deep`.

        Raises DamagedArtifact naming artifact, file, what was expected and what was found.
        """
        manifest = self.manifest(key)
        if damage := difference(self.path_of(key), manifest.files, deep=deep):
            raise DamagedArtifact(f"artifact {key} ({manifest.stage}), {damage}; it must be made again")
        if deep:
            self._sound.add(key)

    def get_or_discard(self, key: str) -> Path | None:
        """As `get`, but a damaged artifact is named in a warning and removed, so that the caller makes it again."""
        try:
            return self.get(key)
        except DamagedArtifact as damage:
            logger.warning("%s", damage)
            try:
                self.discard(key)
            except OSError as problem:
                if problem.errno not in CLOSED:  # in a store that we may only read it stays
                    raise
            return None

    def discard(self, key: str) -> int:
        """Remove an artifact, whole at once for every onlooker; returns its bytes (0 if there was none)."""
        self._sound.discard(key)
        return self._trash(self.path_of(key))

    def ensure(
        self,
        key: str,
        stage: str,
        describe: Mapping[str, Any],
        build: Callable[[Work], None],
        *,
        resumable: bool = True,
    ) -> Made:
        """The artifact of `key`, made by `build` if it is missing or damaged.

        Where another process is just making it, this one waits and takes what it made. `describe` and `resumable` as
        in `make`.
        """
        path = None
        with suppress(
            DamagedArtifact
        ):  # named and removed below, under the claim: another may be making it again already
            path = self.get(key)
        if path is None:
            with self.claim(key, stage):
                path = self.get_or_discard(key)
                if path is None:
                    with self._making(key, stage, describe, resumable=resumable) as work:
                        build(work)
                    return self._made(key, cached=False)
        return self._made(key, cached=True)

    def _made(self, key: str, *, cached: bool) -> Made:
        manifest = self.manifest(key)
        return Made(
            self.path_of(key), cached, manifest.seconds, manifest.counts, manifest.peak_rss_bytes, manifest.peak_is_own
        )

    @contextmanager
    def make(self, key: str, stage: str, describe: Mapping[str, Any], *, resumable: bool = True) -> Iterator[Work]:
        """Claim `key` and yield the folder to write into; on success everything becomes visible at once, manifest last.

        `describe`: `version`, `identity` (settings) and `inputs` (keys), for the manifest. After a kill or an error the
        written files stay, and the same key finds them again; a stage that cannot use them says `resumable=False` and
        gets an empty folder. An artifact that was there already is replaced. Raises WorkError if the stage writes a
        `manifest.json` of its own.
        """
        with self.claim(key, stage), self._making(key, stage, describe, resumable=resumable) as work:
            yield work

    def _is_sound(self, key: str) -> bool:
        try:
            return self.get(key) is not None
        except (DamagedArtifact, PermissionError) as damage:
            logger.warning("%s; nothing is copied from it", damage)
            return False

    @contextmanager
    def _making(self, key: str, stage: str, describe: Mapping[str, Any], *, resumable: bool) -> Iterator[Work]:
        work = Work(self.partial_of(key), reusable=partial(find_reusable, self.root, stage, describe, self._is_sound))
        if not resumable and work.folder.exists():
            self._trash(work.folder)
        work.folder.mkdir(parents=True, exist_ok=True)
        (work.folder / MANIFEST).unlink(missing_ok=True)  # a kill between manifest and rename
        started = time.monotonic()
        with peak_of_work() as peak:
            yield work
        if (work.folder / MANIFEST).exists():
            raise WorkError(f"stage {stage} wrote a file {MANIFEST}; the store keeps that name for itself")
        Manifest(
            key=key,
            stage=stage,
            stage_version=describe.get("version"),
            identity=describe.get("identity", {}),
            inputs=tuple(describe.get("inputs", ())),
            versions=versions(),
            commit=git_commit(),
            finished=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
            seconds=round(time.monotonic() - started, 3),
            counts=work.counts,
            files=record_files(work.folder),
            peak_rss_bytes=peak.rss_bytes,
            peak_is_own=peak.own,
        ).write(work.folder)
        self._publish(key)

    def _publish(self, key: str) -> None:
        final = self.path_of(key)
        final.parent.mkdir(parents=True, exist_ok=True)
        if os.path.lexists(final):  # a link to nowhere, too
            self._trash(final)
        _move(self.partial_of(key), final)
        sync(final.parent)
        self._sound.add(key)

    def _trash(self, folder: Path) -> int:
        trash = self.root / "trash" / f"{folder.name}-{os.getpid()}-{time.monotonic_ns()}"
        trash.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.replace(trash)
        except FileNotFoundError:
            return 0
        except OSError as problem:
            if problem.errno != errno.EXDEV:
                raise
            trash = folder.replace(folder.with_name(f".{trash.name}"))  # on the file system that it is on
        if trash.is_symlink():
            logger.warning("%s was a link to %s; what is there is left as it is", folder, trash.readlink())
            trash.unlink()
            return 0
        size = _bytes_of(trash)
        shutil.rmtree(trash)
        return size

    @contextmanager
    def claim(self, key: str, stage: str) -> Iterator[None]:
        """Hold the right to make `key`; waits while another process has it, and logs whom it waits for."""
        with held(self.root / "claims" / key, stage, wait=True):
            yield

    @contextmanager
    def lock(self, command: str, *, exclusive: bool = True) -> Iterator[None]:
        """Use the store: `exclusive` for a run (one at a time), not so for a worker beside it (any number).

        A worker makes artifacts under their claims, and only keeps gc out. Raises ResourceError naming the holder.
        """
        if not exclusive:
            with held(self.root / "workers", command, shared=True, wait=True):
                yield
            return
        path = self.root / "lock"
        with held(path, command) as mine:
            if not mine:
                raise ResourceError(
                    f"the store {self.root} is locked by {holder_of(path)}; wait until it ends, stop it, "
                    "or give this run a store of its own with --runs"
                )
            yield

    def gc(
        self, keep: Callable[[], Collection[str]], *, stale_after_s: float = STALE_PARTIAL_S, pretend: bool = False
    ) -> list[Removed]:
        """Remove artifacts that are not in `keep()`, and partial work older than `stale_after_s`; returns what went.

        `keep` is asked once no run or worker can add to it any more.
        `pretend` only says what would go. Raises ResourceError while a run or a worker uses the store.
        """
        with self.lock("gc"), held(self.root / "workers", "gc") as alone:
            if not alone:
                raise ResourceError(f"workers use the store {self.root}; wait until they end, then run gc again")
            kept = keep()
            unused = [path for path in self.root.glob("artifacts/*/*") if path.name not in kept]
            newest_stale = time.time() - stale_after_s
            stale = [path for path in self.root.glob("partial/*") if _newest(path) < newest_stale]
            if pretend:
                return [Removed(path.name, _bytes_of(path)) for path in (*unused, *stale)]
            self._sound -= {path.name for path in unused}
            shutil.rmtree(self.root / "trash", ignore_errors=True)
            return [Removed(path.name, self._trash(path)) for path in (*unused, *stale)]


def _move(source: Path, target: Path) -> None:
    """Rename a folder; to another file system (artifacts/ may be a link to a larger disk) it is copied beside `target`
    first, under a hidden name that gc removes after a kill."""
    try:
        source.replace(target)
    except OSError as problem:
        if problem.errno != errno.EXDEV:
            raise
        beside = target.with_name(f".{target.name}-{os.getpid()}")
        shutil.rmtree(beside, ignore_errors=True)
        shutil.copytree(source, beside)
        sync_tree(beside)
        beside.replace(target)
        shutil.rmtree(source)


def _bytes_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _newest(folder: Path) -> float:
    return max(path.lstat().st_mtime for path in (folder, *folder.rglob("*")))
