"""`vectors.npy` while it is being filled: known rows copied first, the others written chunk by chunk, a kill survived.

Legend: W rows (windows), D dims.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from sdretrieval.encode.known import DIGESTS, Donor, find_known, unknown_rows
from sdretrieval.ragged import Array

logger = logging.getLogger(__name__)

VECTORS, NOTE, TODO = "vectors.npy", "chunks.json", "todo.npy"


@dataclass
class VectorFile:
    """`vectors_WD` (float32, memory-mapped) in `folder`; of the rows `todo`, the first `done` are written."""

    folder: Path
    vectors_WD: Array
    todo: NDArray[np.int64]
    done: int = 0

    @staticmethod
    def resume(folder: Path, shape: tuple[int, int]) -> VectorFile | None:
        """What an earlier call left in `folder`, finished or not; None where there is nothing of this shape."""
        try:
            note = json.loads((folder / NOTE).read_text(encoding="utf8"))
            done, new = int(note["done"]), int(note["new"])
            stored = open_memmap(folder / VECTORS, mode="r+")
            # When all rows are written, their list is not needed any more, and may be gone.
            todo = np.load(folder / TODO) if done < new else np.arange(new)
        except (OSError, KeyError, ValueError):  # absent, damaged, or of a version that did not keep these
            return None
        if stored.shape != shape or len(todo) != new:
            return None
        logger.info("%s: continuing after %d of %d windows", folder.name, done, new)
        file = VectorFile(folder, stored, todo, done)
        file._forget_todo()
        return file

    @staticmethod
    def begin(folder: Path, shape: tuple[int, int], digests_W: Array, donors: Sequence[Donor] = ()) -> VectorFile:
        """A new file with the rows that donors know, and the digests beside it, so that it may be a donor itself."""
        (folder / NOTE).unlink(missing_ok=True)  # what it counts is about to be overwritten
        vectors_WD = _allocated(folder / VECTORS, shape)
        known = find_known(digests_W, donors)
        for one in known:
            theirs_MD = np.load(one.folder / VECTORS, mmap_mode="r")
            for rows, their_rows in one.blocks():
                vectors_WD[rows] = theirs_MD[their_rows]
        file = VectorFile(folder, vectors_WD, unknown_rows(shape[0], known))
        np.save(folder / DIGESTS, digests_W)
        np.save(folder / TODO, file.todo)
        file._keep(0)
        return file

    def chunks(self, size: int) -> Iterator[NDArray[np.int64]]:
        """Rows still to be written, `size` at a time, ascending."""
        for start in range(self.done, len(self.todo), size):
            yield self.todo[start : start + size]

    def write(self, block_WD: Array) -> None:
        """Write the next rows of `chunks`, on the disk before they count as done."""
        rows = self.todo[self.done : self.done + len(block_WD)]
        self.vectors_WD[rows] = block_WD
        self._keep(self.done + len(rows))

    def _keep(self, done: int) -> None:
        if isinstance(self.vectors_WD, np.memmap):
            self.vectors_WD.flush()
        self.done = done
        temporary = self.folder / f"{NOTE}.new"
        temporary.write_text(json.dumps({"done": done, "new": len(self.todo)}), encoding="utf8")
        temporary.replace(self.folder / NOTE)
        self._forget_todo()

    def _forget_todo(self) -> None:
        if self.done == len(self.todo):
            (self.folder / TODO).unlink(missing_ok=True)


def _allocated(path: Path, shape: tuple[int, int]) -> Array:
    fresh = open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):
        # Room is taken now, as an OSError where there is none: a sparse file would end the process at some later page.
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return fresh
