"""Lists of int32 while they are being made: appended chunk by chunk, a kill survived, read back as one memory map.

Legend: R rows to be made, T entries of all lists.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from sdretrieval.encode.known import digest_of
from sdretrieval.ragged import Array, Ragged

logger = logging.getLogger(__name__)

ENTRIES, LENGTHS, NOTE = "made.int32", "made-lengths.int64", "made.json"


@dataclass
class ListFile:
    """Of the `rows_R` to be made, the lists of the first `done` are in `folder`, with `entries` entries in all.

    `digest`: of `rows_R`; what was made of other rows is of no use.
    """

    folder: Path
    rows_R: NDArray[np.int64]
    digest: str
    done: int = 0
    entries: int = 0

    @staticmethod
    def open(folder: Path, rows_R: NDArray[np.int64]) -> ListFile:
        """What an earlier call made of the same rows, or a new beginning."""
        file = ListFile(folder, rows_R, digest_of(rows_R.tobytes()).hex())
        try:
            note = json.loads((folder / NOTE).read_text(encoding="utf8"))
        except (OSError, ValueError):
            note = {}
        if note.get("rows") == file.digest:
            file.done, file.entries = int(note["done"]), int(note["entries"])
            logger.info("%s: continuing after %d of %d texts", folder.name, file.done, len(rows_R))
        file._cut()
        file._keep()
        return file

    def chunks(self, size: int) -> Iterator[NDArray[np.int64]]:
        """Rows whose lists are still to be made, `size` at a time."""
        for start in range(self.done, len(self.rows_R), size):
            yield self.rows_R[start : start + size]

    def write(self, lists: Sequence[Array]) -> None:
        """Append the lists of the next rows, on the disk before they count as done."""
        lengths = np.asarray([len(one) for one in lists], dtype=np.int64)
        values = np.concatenate([np.empty(0, dtype=np.int32), *lists], dtype=np.int32)
        for name, array in ((ENTRIES, values), (LENGTHS, lengths)):
            with (self.folder / name).open("ab") as stream:
                stream.write(array.tobytes())
                stream.flush()
                os.fsync(stream.fileno())
        self.done, self.entries = self.done + len(lists), self.entries + len(values)
        self._keep()

    def read(self) -> Ragged:
        """All lists, by position in `rows_R`; the entries memory-mapped."""
        lengths_R = np.fromfile(self.folder / LENGTHS, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths_R)]).astype(np.int64)
        empty: Array = np.empty(0, dtype=np.int32)  # an empty file cannot be mapped
        values_T = np.memmap(self.folder / ENTRIES, dtype=np.int32, mode="r") if self.entries else empty
        return Ragged(values_T, offsets)

    def _cut(self) -> None:
        """Drop what was appended after the last note."""
        for name, size in ((ENTRIES, 4 * self.entries), (LENGTHS, 8 * self.done)):
            with (self.folder / name).open("ab") as stream:
                stream.truncate(size)

    def _keep(self) -> None:
        fresh = self.folder / f"{NOTE}.new"
        note = {"rows": self.digest, "done": self.done, "entries": self.entries}
        fresh.write_text(json.dumps(note), encoding="utf8")
        fresh.replace(self.folder / NOTE)


def remove_made(folder: Path) -> None:
    """What was made stands elsewhere now."""
    for name in (NOTE, ENTRIES, LENGTHS):
        (folder / name).unlink(missing_ok=True)


def allocate_in(path: Path) -> Callable[[int, Any], Array]:
    """Makes a flat array in a npy file."""

    def allocate(entries: int, dtype: Any) -> Array:
        if entries:
            return open_memmap(path, mode="w+", dtype=dtype, shape=(entries,))
        np.save(path, np.empty(0, dtype=dtype))  # nothing cannot be mapped
        return np.empty(0, dtype=dtype)

    return allocate
