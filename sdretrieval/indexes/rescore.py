"""Hits of a coarse index ranked again by the documents' vectors, which are kept beside it on the disk, memory-mapped.

Legend: Q queries, N documents, C candidates of each query, D dims, B vectors of a block.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.encode.reuse import new_memmap
from sdretrieval.errors import DamagedArtifact
from sdretrieval.indexes.exact import Floats, float32_blocks
from sdretrieval.indexes.hits import PADDING_ROW, Rows, Scores
from sdretrieval.indexes.settings import RESCORE_BYTES, RescoreStorage

VECTORS_FILE, SCALES_FILE = "rescore.npy", "rescore_scales.npy"
GATHERED_BYTES = 64 << 20
"""Of candidates' vectors in memory at a time."""
INT8_MOST = 127


class Rescorer:
    """Inner products with the vectors as they are stored: the same before saving and after loading.

    `source_ND` holds the vectors themselves, or what `save` wrote (`stored`); scales_D, for int8: one step of each dim.
    """

    def __init__(
        self, source_ND: NDArray[Any], storage: RescoreStorage, scales_D: Floats | None, stored: bool = False
    ) -> None:
        self._source_ND, self._storage, self._scales_D, self._stored = source_ND, storage, scales_D, stored

    @classmethod
    def of(cls, vectors_ND: NDArray[Any], storage: RescoreStorage) -> Rescorer:
        """Over `vectors_ND` (numpy or memory map), which must stay as they are."""
        if storage != "int8":
            return cls(vectors_ND, storage, None)
        # The step of each dim: its largest value is 127 of them.
        largest_D = np.zeros(vectors_ND.shape[1], dtype=np.float32)
        for _, block_BD in float32_blocks(vectors_ND, "document vectors"):
            largest_D = np.maximum(largest_D, np.abs(block_BD).max(axis=0))
        scales_D = np.where(largest_D > 0, largest_D, 1).astype(np.float32) / np.float32(INT8_MOST)
        return cls(vectors_ND, storage, scales_D)

    @property
    def bytes_per_vector(self) -> int:
        """On the disk."""
        return RESCORE_BYTES[self._storage] * int(self._source_ND.shape[1])

    def scores(self, queries_QD: Floats, rows_QC: Rows) -> Scores:
        """Scores (Q, C) of the documents `rows_QC`; minus infinity if a row is padding."""
        scores_QC = np.full(rows_QC.shape, -np.inf, dtype=np.float32)
        at_once = max(1, GATHERED_BYTES // (4 * max(rows_QC.shape[1], 1) * queries_QD.shape[1]))
        for start in range(0, len(queries_QD), at_once):
            part = slice(start, start + at_once)
            rows = rows_QC[part]
            vectors_BCD = self._vectors(np.maximum(rows, 0).ravel()).reshape(*rows.shape, -1)
            products = np.matmul(vectors_BCD, queries_QD[part][:, :, None])[:, :, 0]
            scores_QC[part] = np.where(rows == PADDING_ROW, -np.inf, products)
        return scores_QC

    def _vectors(self, rows_B: NDArray[np.int64]) -> Floats:
        """As float32, rounded as they are stored."""
        order = np.argsort(rows_B, kind="stable")  # a disk is read forwards
        taken_BD = np.empty((len(rows_B), self._source_ND.shape[1]), dtype=self._source_ND.dtype)
        taken_BD[order] = self._source_ND[rows_B[order]]
        coded_BD = taken_BD if self._stored else self._coded(taken_BD)
        vectors_BD: Floats = coded_BD.astype(np.float32)
        if self._scales_D is not None:
            vectors_BD *= self._scales_D
        return vectors_BD

    def _coded(self, vectors_BD: NDArray[Any]) -> NDArray[Any]:
        if self._scales_D is None:
            return vectors_BD.astype(self._storage)
        steps = np.rint(vectors_BD.astype(np.float32) / self._scales_D)
        coded_BD: NDArray[Any] = np.clip(steps, -INT8_MOST, INT8_MOST).astype(np.int8)
        return coded_BD

    def save(self, folder: Path) -> None:
        """Write rescore.npy (N, D), and rescore_scales.npy (D) for int8, into `folder`."""
        shape = self._source_ND.shape
        target = new_memmap(folder / VECTORS_FILE, np.dtype(self._storage), shape)
        size = max(1, GATHERED_BYTES // (4 * shape[1]))
        for first in range(0, shape[0], size):
            block = self._source_ND[first : first + size]
            target[first : first + size] = block if self._stored else self._coded(block)
        if isinstance(target, np.memmap):
            target.flush()
        if self._scales_D is not None:
            np.save(folder / SCALES_FILE, self._scales_D)

    @classmethod
    def open(cls, folder: Path, storage: RescoreStorage, count: int, dims: int) -> Rescorer:
        """What `save` wrote, memory-mapped. Raises DamagedArtifact if it is missing or does not fit."""
        try:
            vectors_ND = np.load(folder / VECTORS_FILE, mmap_mode="r")
            scales_D = np.load(folder / SCALES_FILE) if storage == "int8" else None
        except (OSError, ValueError) as error:
            raise DamagedArtifact(
                f"{folder} lacks the vectors that hits are rescored with ({error}); build the index again"
            ) from error
        if vectors_ND.shape != (count, dims) or vectors_ND.dtype != storage:
            raise DamagedArtifact(
                f"{folder / VECTORS_FILE} holds {vectors_ND.shape} of {vectors_ND.dtype}, expected {(count, dims)} of "
                f"{storage}; build the index again"
            )
        return cls(vectors_ND, storage, scales_D, stored=True)
