"""Digests: blake2b, 160 bits, in hex. What things are known by instead of by their names, and how a change shows."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

DIGEST_BYTES = 20
SEAL = "blake2b"
"""In a sealed record: the digest of all else in it."""


def digest_file(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=DIGEST_BYTES)).hexdigest()


def sealed(record: dict[str, Any]) -> dict[str, Any]:
    """The record as JSON gives it back, with its own digest. Raises TypeError for what is no JSON value."""
    plain = json.loads(json.dumps(record, default=_number))
    return {**plain, SEAL: _digest(plain)}


def unsealed(record: Any) -> dict[str, Any]:
    """What was sealed. Raises ValueError if the record has no digest, or not that of its contents."""
    if not isinstance(record, dict) or SEAL not in record:
        raise ValueError("found no digest in it")
    plain = {name: value for name, value in record.items() if name != SEAL}
    if (found := _digest(plain)) != record[SEAL]:
        raise ValueError(f"expected digest {record[SEAL]}, found {found}")
    return plain


def _digest(plain: dict[str, Any]) -> str:
    return hashlib.blake2b(json.dumps(plain, sort_keys=True).encode("ascii"), digest_size=DIGEST_BYTES).hexdigest()


def _number(value: Any) -> Any:
    """numpy's numbers, which stages like to count with, as Python's."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"found a {type(value).__name__}; expected JSON values")
