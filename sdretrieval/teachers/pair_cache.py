"""Scores of (query, document) pairs that a costly teacher has given before, kept across runs and generations.

Keys are digests of the texts, so that a later generation, a grown corpus or another run scores only new pairs. Each call
of `add` writes one shard, whole or not at all: a killed run loses at most the pairs since the last shard.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sdretrieval.ragged import Array


def pair_key(query: str, document: str) -> bytes:
    """16 bytes that stand for the two texts."""
    hasher = hashlib.blake2b(query.encode("utf8", "surrogatepass"), digest_size=16)
    hasher.update(b"\x1f" + document.encode("utf8", "surrogatepass"))
    return hasher.digest()


class PairCache:
    """Pair scores of one teacher under one view, in `folder` (named by the caller after the teacher's digest)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._scores: dict[bytes, float] = {}
        for shard in sorted(folder.glob("*.safetensors")):
            self._scores.update(_read(shard))

    def __len__(self) -> int:
        return len(self._scores)

    def get(self, keys: Iterable[bytes]) -> Array:
        """Known scores, float32, NaN where a pair is new."""
        return np.fromiter((self._scores.get(key, np.nan) for key in keys), dtype=np.float32)

    def add(self, keys: Sequence[bytes], scores: Array) -> None:
        """Remember scores, on disk and here."""
        if not len(keys):
            return
        from safetensors.numpy import save_file

        name = hashlib.blake2b(b"".join(keys), digest_size=8).hexdigest()
        temporary = self._folder / f"{name}.{os.getpid()}.new"
        packed = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), 16)
        save_file({"keys": packed.copy(), "scores": np.asarray(scores, dtype=np.float32)}, temporary)
        temporary.replace(self._folder / f"{name}.safetensors")
        self._scores.update(zip(keys, np.asarray(scores, dtype=np.float32).tolist(), strict=True))


def _read(shard: Path) -> dict[bytes, float]:
    from safetensors.numpy import load_file

    stored = load_file(shard)
    packed = stored["keys"].tobytes()
    return {packed[16 * i : 16 * i + 16]: score for i, score in enumerate(stored["scores"].tolist())}
