"""The manifest of an artifact: what it was made from, by what, and the digest of each of its files."""

from __future__ import annotations

import functools
import json
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from sdretrieval.digests import digest_file, sealed, unsealed
from sdretrieval.errors import DamagedArtifact
from sdretrieval.files import apply_umask, sync_tree, write_json

MANIFEST = "manifest.json"
SCHEMA = 1
PACKAGES = ("sdretrieval", "torch", "numpy", "sentence-transformers", "transformers", "faiss-cpu", "faiss-gpu", "bm25s")


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and blake2b digest of one file."""

    bytes: int
    blake2b: str


@dataclass(frozen=True)
class Manifest:
    """What is written beside a finished artifact; its presence says that the artifact is finished.

    `identity`: the settings that the key was made from; `inputs`: keys and digests of what it was made of; `counts`:
    what the stage reports of itself; `seconds`: of the attempt that finished (earlier, killed ones not counted);
    `files`: by path with `/`; `peak_rss_bytes`: most memory while it was made, with
    `peak_is_own` False if that is the peak of the process up to then.
    """

    key: str
    stage: str
    stage_version: int | str | None
    identity: Mapping[str, Any]
    inputs: tuple[str, ...]
    versions: Mapping[str, str]
    commit: str | None
    finished: str
    seconds: float
    counts: Mapping[str, Any]
    files: Mapping[str, FileRecord]
    schema: int = SCHEMA
    peak_rss_bytes: int | None = None
    peak_is_own: bool = False

    def size(self) -> int:
        """Bytes of all files."""
        return sum(record.bytes for record in self.files.values())

    def write(self, folder: Path) -> None:
        """Write to `folder`, on the disk for good before this returns."""
        write_json(folder / MANIFEST, sealed(asdict(self)))

    @classmethod
    def read(cls, folder: Path, name: str) -> Manifest:
        """Read from `folder`. Raises DamagedArtifact, naming the artifact `name`, if it is no manifest."""
        try:
            data = unsealed(json.loads((folder / MANIFEST).read_text(encoding="utf8")))
            data["files"] = {path: FileRecord(**record) for path, record in data["files"].items()}
            return cls(**{**data, "inputs": tuple(data["inputs"])})
        # Not every OSError: too many open files, or a file of a colleague's that is closed to us, is no damage.
        except (
            FileNotFoundError, NotADirectoryError, IsADirectoryError, ValueError, TypeError, KeyError, AttributeError,
            RecursionError,
        ) as error:  # fmt: skip
            raise DamagedArtifact(
                f"artifact {name}: its {MANIFEST} cannot be read ({error}); it must be made again"
            ) from None


def record_files(folder: Path) -> dict[str, FileRecord]:
    """Size and digest of every file under `folder`; each is on the disk for good, and as readable as the umask says,
    before this returns."""
    apply_umask(folder)
    sync_tree(folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): FileRecord(path.stat().st_size, digest_file(path)) for path in files}


def difference(folder: Path, files: Mapping[str, FileRecord], *, deep: bool = True) -> str | None:
    """The first of `files` under `folder` that is not as recorded, with what was expected and what was found; None if
    all are. Digests are compared only if `deep`."""
    for name, record in files.items():
        path = folder / name
        if not path.is_file():
            return f"file {name}: expected {record.bytes} bytes, found no file"
        if (size := path.stat().st_size) != record.bytes:
            return f"file {name}: expected {record.bytes} bytes, found {size}"
        if deep and (found := digest_file(path)) != record.blake2b:
            return f"file {name}: expected digest {record.blake2b}, found {found}"
    return None


@functools.cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape results; none is imported for it."""
    packages = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            packages[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return packages


@functools.cache
def git_commit() -> str | None:
    """Commit of the checkout that this code runs from (`-dirty` if files differ); None for an installed wheel."""
    checkout = Path(__file__).parents[2]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None
