"""Digests: of a stage's inputs (its key), of a set of files. All blake2b, 160 bits, in hex."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdretrieval.digests import DIGEST_BYTES, digest_file


def canonical(data: object) -> bytes:
    """JSON in which key order and layout cannot differ. Raises TypeError or ValueError on NaN and objects."""
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def key_of(name: str, version: int | str, identity: Mapping[str, Any], inputs: Sequence[str]) -> str:
    """Key of what stage `name` in `version` makes from settings `identity` and the keys or digests `inputs`.

    The order of `inputs` counts (their places mean something), that of `identity` does not. Raises TypeError where
    `identity` holds something that JSON cannot, since no text of an object is sure to be the same in the next process.
    """
    if isinstance(inputs, str):
        raise TypeError(f"inputs of stage {name}: found one text ({inputs!r}); expected a list of keys")
    recipe = {"name": name, "version": version, "identity": dict(identity), "inputs": list(inputs)}
    try:
        text = canonical(recipe)
    except (TypeError, ValueError) as error:
        raise TypeError(f"identity of stage {name} cannot be made a key: {error}; expected JSON values") from None
    return hashlib.blake2b(text, digest_size=DIGEST_BYTES).hexdigest()


def digest_files(folder: Path, names: Iterable[str]) -> str:
    """One digest of several files under `folder`: their names (with `/`) and bytes, whatever the order given."""
    return key_of("files", 1, {name: digest_file(folder / name) for name in names}, [])
