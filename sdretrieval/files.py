"""Small files, JSON above all: a kill leaves the old or the new. Whom the umask lets read a file can read it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, TypeVar

from sdretrieval.errors import DamagedArtifact

Record = TypeVar("Record")


def write_json(path: Path, record: Any) -> None:
    """As `write_text`."""
    write_text(path, json_text(record))


def json_text(record: Any) -> str:
    """What `write_json` writes."""
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write beside, then rename: on the disk for good when this returns. Straight into what is no plain file, as
    /dev/stdout: it must not be replaced. Half of a surrogate pair, which UTF-8 lacks, is written as its escape."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_text(text, encoding="utf8", errors="backslashreplace")
        return
    temporary = path.with_name(f"{path.name}.new")
    try:
        temporary.write_text(text, encoding="utf8", errors="backslashreplace")
        sync(temporary)
        temporary.replace(path)
    except OSError:
        temporary.unlink(missing_ok=True)  # a full disk keeps the old file, and no half of the new one
        raise
    sync(path.parent)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object. Raises DamagedArtifact if it holds anything else, or is not there."""
    try:
        record = json.loads(path.read_text(encoding="utf8"))
    except (FileNotFoundError, ValueError, RecursionError) as problem:
        raise DamagedArtifact(f"{path} cannot be read as JSON ({problem})") from problem
    if not isinstance(record, dict):
        raise DamagedArtifact(f"{path} holds a {type(record).__name__}; expected a JSON object")
    return record


def read_as(path: Path, kind: type[Record]) -> Record:
    """A JSON file as a dataclass. Raises DamagedArtifact if it is not there, or as `record_of` does."""
    try:
        return record_of(path.read_bytes(), kind, path)
    except FileNotFoundError as problem:
        raise DamagedArtifact(f"{path} cannot be read as JSON ({problem})") from problem


def record_of(text: str | bytes, kind: type[Record], what: object) -> Record:
    """JSON as a dataclass. Strict: a text is no number, and null is nothing but null.

    Raises DamagedArtifact, naming `what` and the first field that is missing, unknown or not what it must be.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(kind).validate_json(text, strict=True, extra="forbid")
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"])) or "it"
        plain = first["input"] is None or isinstance(first["input"], bool | int | float | str)
        instead = f", found {json.dumps(first['input']):.40}" if first["loc"] and plain else ""
        raise DamagedArtifact(f"{what}: {place}: {first['msg']}{instead}") from error


def sync(path: Path) -> None:
    """Make a file's bytes, or a folder's names, durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """Make a folder with all that is below it durable."""
    for path in (*folder.rglob("*"), folder):
        if path.is_file() or path.is_dir():
            sync(path)


def apply_umask(folder: Path) -> None:
    """Let every file under `folder` (or the file itself) be read and written by whom the umask lets: safetensors
    writes files that their owner alone can read. No permission is taken away."""
    mask = os.umask(0o077)
    os.umask(mask)
    wanted = 0o666 & ~mask
    for path in (folder, *folder.rglob("*")):
        if path.is_file() and path.stat().st_mode & wanted != wanted:
            path.chmod(path.stat().st_mode | wanted)
