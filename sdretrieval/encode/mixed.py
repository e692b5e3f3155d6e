"""Documents' vectors of which some are a new model's and the others still an earlier model's, or carried from there.

Whoever asks decides row by row what is encoded anew, by what was seen so far; after a kill the same questions are asked
again, and what was computed is read back: chunk after chunk, in the order in which they were asked for.

Legend: N documents (one window each), R rows asked for, D dims.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from sdretrieval.encode.encoder import WINDOWS_PER_CHUNK
from sdretrieval.encode.known import DIGEST_BYTES, DIGESTS
from sdretrieval.errors import WorkError
from sdretrieval.ragged import Array

VECTORS, WINDOWS, CHUNKS, SEEN = "vectors.npy", "windows.npy", "chunks", "seen.npy"
Rows = NDArray[np.int64]


@dataclass
class MixedVectors:
    """`vectors_ND` (float32, memory-mapped) in `folder`; where `fresh_N`, they are those that `encode` gives.

    `encode(rows_R)`: the new model's vectors of documents, `rows_R` ascending.
    """

    folder: Path
    encode: Callable[[Rows], Array]
    old_ND: Array
    vectors_ND: Array
    fresh_N: NDArray[np.bool_]
    seen_ND: Array
    """New vectors that were only looked at, where `seen_N`; on the disk too, since they may be most of them."""
    seen_N: NDArray[np.bool_]
    _chunks: int = 0

    @staticmethod
    def begin(folder: Path, old: Path, encode: Callable[[Rows], Array]) -> MixedVectors:
        """A copy of the vectors in `old`, none of them fresh. Raises WorkError where documents have several windows."""
        folder.mkdir(exist_ok=True)
        (folder / CHUNKS).mkdir(exist_ok=True)
        for name in (VECTORS, WINDOWS):
            shutil.copyfile(old / name, folder / name)
        vectors_ND = open_memmap(folder / VECTORS, mode="r+")
        documents = len(np.load(folder / WINDOWS, mmap_mode="r")) - 1
        if len(vectors_ND) != documents:
            raise WorkError(
                f"{old}: {len(vectors_ND)} vectors of {documents} documents; expected one vector each: only those of "
                "the student's own view can be refreshed in part"
            )
        old_ND = np.load(old / VECTORS, mmap_mode="r")
        seen_ND = open_memmap(folder / SEEN, mode="w+", dtype=np.float32, shape=vectors_ND.shape)
        fresh_N, seen_N = np.zeros(documents, dtype=bool), np.zeros(documents, dtype=bool)
        return MixedVectors(folder, encode, old_ND, vectors_ND, fresh_N, seen_ND, seen_N)

    @property
    def encoded(self) -> Rows:
        """Rows whose new vectors were computed, whether written or only looked at, ascending."""
        return np.flatnonzero(self.fresh_N | self.seen_N)

    def look(self, rows: Rows) -> Array:
        """New vectors of some documents, whose old ones stay: shape (len(rows), D)."""
        for block in _blocks(self._unknown(rows)):
            self.seen_ND[block], self.seen_N[block] = self._computed(block), True
        seen_R1 = self.seen_N[rows][:, None]
        return np.where(seen_R1, self.seen_ND[rows], self.vectors_ND[rows])

    def renew(self, rows: Rows) -> int:
        """Give documents their new vectors; returns how many did not have theirs."""
        stale = np.unique(rows[~self.fresh_N[rows]])
        for block in _blocks(self._unknown(stale)):
            self.vectors_ND[block] = self._computed(block)
        for block in _blocks(stale[self.seen_N[stale]]):
            self.vectors_ND[block] = self.seen_ND[block]
        self.fresh_N[stale] = True
        return len(stale)

    def carry(self, where: Callable[[Array], Array]) -> None:
        """Put the documents that are not fresh where their old vectors are taken."""
        for block in _blocks(np.flatnonzero(~self.fresh_N)):
            self.vectors_ND[block] = where(np.asarray(self.old_ND[block]))

    def revert(self) -> None:
        """Give all documents their old vectors again; what was computed stays known."""
        for block in _blocks(np.flatnonzero(self.fresh_N)):
            self.seen_ND[block], self.seen_N[block] = self.vectors_ND[block], True
        self.fresh_N[:] = False
        self.carry(lambda old: old)

    def finish(self, digests_R: Array) -> None:
        """Write the vectors to the disk, and `digests_R` of what the fresh documents' were made from, so that a later
        encoding may copy these, and no other, from here."""
        digests_N = np.zeros(len(self.fresh_N), dtype=f"S{DIGEST_BYTES}")
        digests_N[self.fresh_N] = digests_R
        np.save(self.folder / DIGESTS, digests_N)
        if isinstance(self.vectors_ND, np.memmap):
            self.vectors_ND.flush()
        (self.folder / SEEN).unlink()
        shutil.rmtree(self.folder / CHUNKS)

    def _unknown(self, rows: Rows) -> Rows:
        wanted = np.unique(rows).astype(np.int64)
        return np.asarray(wanted[~(self.fresh_N | self.seen_N)[wanted]], dtype=np.int64)

    def _computed(self, rows: Rows) -> Array:
        """What an earlier call computed as this chunk, if it was of the same rows; computed and kept otherwise."""
        path = self.folder / CHUNKS / f"{self._chunks:06d}.npz"
        self._chunks += 1
        if (kept := _kept(path)) is not None and np.array_equal(kept[0], rows):
            return kept[1]
        vectors = self.encode(rows)
        temporary = path.with_suffix(".new")
        with temporary.open("wb") as stream:
            np.savez(stream, rows=rows, vectors=vectors)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        return vectors


def _kept(path: Path) -> tuple[Array, Array] | None:
    """Rows and vectors of a chunk; None where there is none, or what a crash of the machine left of one."""
    try:
        with path.open("rb") as stream, np.load(stream) as chunk:
            return np.asarray(chunk["rows"]), np.asarray(chunk["vectors"])
    except (OSError, ValueError, EOFError, KeyError, BadZipFile):
        return None


def _blocks(rows: Rows) -> list[Rows]:
    return [rows[start : start + WINDOWS_PER_CHUNK] for start in range(0, len(rows), WINDOWS_PER_CHUNK)]
