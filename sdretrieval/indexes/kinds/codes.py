"""Product quantisation (Jegou, Douze and Schmid, 2011): how many bytes a vector, and what training them needs."""

from __future__ import annotations

import logging

from sdretrieval.errors import RequestError

logger = logging.getLogger("sdretrieval")

CENTROIDS = 256
"""Of each byte of a code."""
USUAL_BYTES = 32
"""A vector where nothing is said: about a fiftieth of 384 float32 dims."""
FEW_VECTORS = 39 * CENTROIDS
"""faiss asks for 39 vectors a centroid; with fewer, codes fit the sample rather than the corpus."""


def possible_bytes(dims: int) -> list[int]:
    """Bytes a vector of `dims` dims can be coded in: each codes the same number of dims."""
    return [count for count in range(1, dims + 1) if dims % count == 0]


def fitted_bytes(asked: int | None, dims: int) -> int:
    """`asked`, or the largest usual number that divides `dims`."""
    return asked or max(count for count in possible_bytes(dims) if count <= USUAL_BYTES)


def check_codes(kind: str, asked: int | None, dims: int, count: int | None) -> None:
    """Raise RequestError where `dims` cannot be cut into `asked` parts, or `count` vectors cannot train the codes."""
    if asked is not None and dims % asked:
        listed = ", ".join(map(str, possible_bytes(dims)))
        raise RequestError(
            f"{kind} index: bytes is {asked}, but {dims} dims cannot be cut into {asked} equal parts; expected one of "
            f"{listed}"
        )
    if count is not None and count < CENTROIDS:
        raise RequestError(
            f"{kind} index: {count} vectors cannot train {CENTROIDS} centroids a byte; expected at least {CENTROIDS}, "
            f"better {FEW_VECTORS}; take kind exact, or sq8, for so few"
        )


def warn_of_few(count: int) -> None:
    """Log a warning where so few vectors train the codes that they will not serve others well."""
    if count < FEW_VECTORS:
        logger.warning(
            "codes of %d centroids a byte trained on %d vectors: expected %d or more; recall may be poor on new texts",
            CENTROIDS, count, FEW_VECTORS,
        )  # fmt: skip
