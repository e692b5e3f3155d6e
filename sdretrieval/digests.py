"""Digest of a file's bytes: blake2b, 160 bits, in hex. What things are known by instead of by their names."""

from __future__ import annotations

import hashlib
from pathlib import Path

DIGEST_BYTES = 20


def digest_file(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()
