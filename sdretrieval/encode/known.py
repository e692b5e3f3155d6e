"""What an earlier collection's result already holds of this one: rows found by the digest of their content.

Legend: N rows wanted, M rows of a donor. Row numbers, texts' order and what else stands in a collection play no part.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.ragged import Array

logger = logging.getLogger(__name__)

DIGESTS = "digests.npy"
DIGEST_BYTES = 16
WORTH_CHECKING = 1e-3
"""A donor's files are read through before they are trusted: not for less than this share of its rows."""
ROWS_PER_COPY = 65_536


@dataclass(frozen=True)
class Donor:
    """Folder of a finished result of the same computation over another collection; `sound` checks it before use."""

    folder: Path
    sound: Callable[[], bool] = lambda: True


class Known(NamedTuple):
    """`rows_N` of what is wanted are `their_rows_N` of the result in `folder`."""

    folder: Path
    rows_N: NDArray[np.int64]
    their_rows_N: NDArray[np.int64]

    def blocks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Both, so many rows at a time that a copy of them is small."""
        for start in range(0, len(self.rows_N), ROWS_PER_COPY):
            block = slice(start, start + ROWS_PER_COPY)
            yield self.rows_N[block], self.their_rows_N[block]


def digest_of(content: bytes) -> bytes:
    """16 bytes of blake2b: two contents that share them are not to be met with."""
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()


def digests_of(contents: Iterable[bytes], count: int) -> Array:
    """Digest of each of `count` contents, shape (count,), fixed 16-byte strings, which numpy sorts and compares."""
    return np.fromiter(map(digest_of, contents), dtype=f"S{DIGEST_BYTES}", count=count)


def text_digests(texts: Sequence[str]) -> Array:
    """Digests of exact texts, shape (len(texts),)."""
    return digests_of((text.encode("utf8", "surrogatepass") for text in texts), len(texts))


def find_known(digests_N: Array, donors: Iterable[Donor]) -> list[Known]:
    """Where each known row is to be had; no row is in two answers. The first donor that has a row gives it.

    Donors without digests (made by an earlier version) give nothing.
    """
    found: list[Known] = []
    missing = np.arange(len(digests_N))
    for donor in donors:
        if not len(missing) or not (donor.folder / DIGESTS).is_file():
            continue
        theirs_M = np.load(donor.folder / DIGESTS)
        at = _places(theirs_M, digests_N[missing])
        has = at >= 0
        if has.sum() > WORTH_CHECKING * len(theirs_M) and donor.sound():
            found.append(Known(donor.folder, missing[has], at[has]))
            missing = missing[~has]
    return found


def _places(theirs_M: Array, wanted_N: Array) -> NDArray[np.int64]:
    """Position of each wanted digest among theirs, -1 where it is not there."""
    if not len(theirs_M):
        return np.full(len(wanted_N), -1, dtype=np.int64)
    order_M = np.argsort(theirs_M, kind="stable")
    at = order_M[np.minimum(np.searchsorted(theirs_M, wanted_N, sorter=order_M), len(theirs_M) - 1)]
    return np.where(theirs_M[at] == wanted_N, at, -1).astype(np.int64)


def unknown_rows(count: int, known: Iterable[Known]) -> NDArray[np.int64]:
    """Rows of `count` that no donor gives, ascending."""
    new_N = np.ones(count, dtype=bool)
    for one in known:
        new_N[one.rows_N] = False
    return np.flatnonzero(new_N).astype(np.int64)


def say_known(description: str, reused: int, count: int, unit: str) -> None:
    """Log how much need not be computed."""
    if reused:
        logger.info("%s: %s of %s %s known already", description, f"{reused:,}", f"{count:,}", unit)
