"""Small files, JSON above all: written beside and renamed, so that a kill leaves the old or the new."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def write_json(path: Path, record: Any) -> None:
    """As `write_text`."""
    write_text(path, json.dumps(record, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write beside, then rename; straight into what is no plain file, as /dev/stdout: it must not be replaced."""
    if path.is_symlink() or (path.exists() and not path.is_file()):
        path.write_text(text, encoding="utf8")
        return
    temporary = path.with_suffix(path.suffix + ".new")
    temporary.write_text(text, encoding="utf8")
    temporary.replace(path)


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file that holds an object."""
    return dict(json.loads(path.read_text(encoding="utf8")))
