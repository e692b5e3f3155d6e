"""Scores of (query, document) pairs that a costly teacher has given before, kept across runs and generations.

Keys are digests of the texts, so that a later generation, a grown corpus or another run scores only new pairs. Each
call of `add` writes one shard, whole or not at all: a killed run loses at most the pairs since the last shard.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from sdretrieval.errors import NumericError
from sdretrieval.ragged import Array

logger = logging.getLogger(__name__)


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
        """Remember scores, on disk and here. Raises NumericError for NaN, which stands for an unknown pair."""
        from safetensors.numpy import save_file

        if not len(keys):
            return
        _check_numbers(scores)
        name = hashlib.blake2b(b"".join(keys), digest_size=8).hexdigest()
        temporary = self._folder / f"{name}.{os.getpid()}.new"
        packed = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), 16)
        save_file({"keys": packed.copy(), "scores": np.asarray(scores, dtype=np.float32)}, temporary)
        temporary.replace(self._folder / f"{name}.safetensors")
        self._scores.update(zip(keys, np.asarray(scores, dtype=np.float32).tolist(), strict=True))


def _check_numbers(scores: Array) -> None:
    unknown = int(np.isnan(scores).sum())
    if unknown:
        raise NumericError(
            f"pair cache: {unknown} of {len(scores)} scores are NaN, expected numbers; score again in float32"
        )


def _read(shard: Path) -> dict[bytes, float]:
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        stored = load_file(shard)
    except SafetensorError as problem:
        logger.warning("%s is damaged (%s); its pairs are scored again", shard, problem)
        return {}
    packed = stored["keys"].tobytes()
    return {packed[16 * i : 16 * i + 16]: score for i, score in enumerate(stored["scores"].tolist())}
