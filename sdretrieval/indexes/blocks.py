"""Vectors read block by block, so that a memory map larger than memory never becomes one float32 array.

Legend: N vectors, B vectors of a block, D dims.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import NumericError, RequestError

logger = logging.getLogger("sdretrieval")
Floats = NDArray[np.float32]

BLOCK_BYTES = 16 << 20
"""Size of one float32 block: large enough for BLAS, small beside any index."""


def check_matrix(vectors_ND: NDArray[Any], what: str, dims: int | None = None) -> None:
    """Raise RequestError unless `vectors_ND` is a float matrix, of `dims` columns where that is given."""
    if vectors_ND.ndim != 2 or vectors_ND.dtype.kind != "f":
        raise RequestError(
            f"{what} must be a matrix (rows, dims) of floats, found shape {vectors_ND.shape} of {vectors_ND.dtype}"
        )
    if dims is not None and vectors_ND.shape[1] != dims:
        raise RequestError(
            f"{what} have {vectors_ND.shape[1]} dims but the index holds {dims}: "
            "encode them with the model that the index was built from, or build the index anew"
        )


def float32_blocks(vectors_ND: NDArray[Any], what: str) -> Iterator[tuple[int, Floats]]:
    """Yield (first row, block_BD) in row order as contiguous float32. Raises NumericError at NaN or infinity."""
    size = max(1, BLOCK_BYTES // (4 * max(vectors_ND.shape[1], 1)))
    for first in range(0, len(vectors_ND), size):
        block_BD = np.ascontiguousarray(vectors_ND[first : first + size], dtype=np.float32)
        check_finite(block_BD, what, first)
        yield first, block_BD


def check_finite(block_BD: Floats, what: str, first: int = 0) -> None:
    """Raise NumericError that names the first rows holding NaN or infinity; `first` is the row of the block's start."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = block_BD.sum()  # finite only where all are, and three times as fast to find as each by itself
    if np.isfinite(total) or np.isfinite(block_BD).all():
        return
    bad = first + np.flatnonzero(~np.isfinite(block_BD).all(axis=1))
    listed = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
    raise NumericError(
        f"{what} hold NaN or infinity in {len(bad)} of rows {first} to {first + len(block_BD) - 1}: rows {listed}; "
        "look at these texts and at the encoder's precision (float16 overflows at 65504), then encode again"
    )


def warn_unless_unit(sample_BD: Floats) -> None:
    """Log a warning where sampled vectors are not of length 1: the scores then are inner products, not cosines."""
    norms = np.linalg.norm(sample_BD, axis=1)
    off = np.abs(norms - 1) > 0.01
    if off.any():
        logger.warning(
            "%d of %d sampled vectors are not of length 1 (lengths %.3g to %.3g): scores are inner products, "
            "and IVF or HNSW may find less; normalise the vectors where the model means cosine similarity",
            int(off.sum()), len(norms), norms.min(), norms.max(),
        )  # fmt: skip
