"""Rows that need not be computed again: found in another collection's artifacts by the digest of their content.

Legend: N rows wanted, M rows of a donor. Row numbers and the order of texts do not matter.
"""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from sdretrieval.ragged import Array

logger = logging.getLogger(__name__)

DIGESTS = "digests.npy"
DIGEST_BYTES = 16
WORTH_CHECKING = 1e-3
"""A donor's files are read through before they are trusted: not for less than this share of its rows."""
ROWS_PER_COPY = 65_536


@dataclass(frozen=True)
class ReusableArtifact:
    """A reusable artifact: the folder of the same computation over another collection; `sound` checks it before use."""

    folder: Path
    sound: Callable[[], bool] = lambda: True


class ReusedRows(NamedTuple):
    """`rows_N` of what is wanted are `their_rows_N` of the artifact in `folder`."""

    folder: Path
    rows_N: NDArray[np.int64]
    their_rows_N: NDArray[np.int64]

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Both, so many rows at a time that a copy of them is small."""
        for start in range(0, len(self.rows_N), ROWS_PER_COPY):
            block = slice(start, start + ROWS_PER_COPY)
            yield self.rows_N[block], self.their_rows_N[block]


def new_memmap(path: Path, dtype: Any, shape: tuple[int, ...]) -> Array:
    """A `.npy` file of that shape to be written through memory. Its disk space is taken now, an OSError if there is
    none: a sparse file would end the process at a later page."""
    array: Array = open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array


def digest_of(content: bytes) -> bytes:
    """16 bytes of blake2b: nobody will meet two contents that share them."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def digests_of(contents: Iterable[bytes], count: int) -> Array:
    """Digest of each of `count` contents, shape (count,), fixed 16-byte strings, which numpy sorts and compares."""
    return np.fromiter(map(digest_of, contents), dtype=f"S{DIGEST_BYTES}", count=count)


def text_digests(texts: Sequence[str]) -> Array:
    """Digests of exact texts, shape (len(texts),)."""
    return digests_of((text.encode("utf8", "surrogatepass") for text in texts), len(texts))


def find_reused(digests_N: Array, reusable: Iterable[ReusableArtifact]) -> list[ReusedRows]:
    """Which rows can be copied, and from where; the first donor that has a row gives it. Donors without digests give
    nothing."""
    parts: list[ReusedRows] = []
    missing = np.arange(len(digests_N))
    for donor in reusable:
        if not len(missing) or not (donor.folder / DIGESTS).is_file():
            continue
        theirs_M = np.load(donor.folder / DIGESTS)
        if not len(theirs_M):
            continue
        # Where each wanted digest would stand among theirs if these were sorted: there it is, or nowhere.
        wanted, order_M = digests_N[missing], np.argsort(theirs_M, kind="stable")
        at = order_M[np.minimum(np.searchsorted(theirs_M, wanted, sorter=order_M), len(theirs_M) - 1)].astype(np.int64)
        has = theirs_M[at] == wanted
        if has.sum() > WORTH_CHECKING * len(theirs_M) and donor.sound():
            parts.append(ReusedRows(donor.folder, missing[has], at[has]))
            missing = missing[~has]
    return parts


def rows_to_make(count: int, reused: Iterable[ReusedRows]) -> NDArray[np.int64]:
    """Rows of `count` that no donor gives, ascending."""
    new_N = np.ones(count, dtype=bool)
    for part in reused:
        new_N[part.rows_N] = False
    return np.flatnonzero(new_N).astype(np.int64)


def log_reused(description: str, reused: int, count: int, unit: str) -> None:
    """Log how much need not be computed."""
    if reused:
        logger.info("%s: %s of %s %s reused", description, f"{reused:,}", f"{count:,}", unit)
