"""Kinds that compare the query with every document: the vectors themselves, or short codes of them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from sdretrieval.indexes.faiss_library import load_faiss
from sdretrieval.indexes.kinds.base import Compressed, Settings
from sdretrieval.indexes.kinds.codes import check_codes, fitted_bytes

USUAL_RESCORE = 4


@dataclass(frozen=True)
class ExactSettings(Settings):
    """The vectors as float32: no setting, nothing lost."""

    kind: ClassVar[str] = "exact"

    def factory_string(self) -> str:
        """Flat."""
        return "Flat"

    def memory_bytes(self, count: int, dims: int) -> float:
        """float32."""
        return 4 * dims


@dataclass(frozen=True)
class Sq8Settings(Compressed):
    """One byte a dimension, spread between the least and the largest value: a quarter, and next to nothing lost."""

    kind: ClassVar[str] = "sq8"
    no_gpu: ClassVar[str] = "faiss has no scalar quantiser without inverted lists on the GPU"

    def factory_string(self) -> str:
        """SQ8."""
        return "SQ8"

    def memory_bytes(self, count: int, dims: int) -> float:
        """A byte a dimension."""
        return dims


@dataclass(frozen=True)
class PqSettings(Compressed):
    """A code of `bytes` bytes a vector, each byte one of 256 centroids of its share of the dims.

    bytes: must divide the dims; None = the largest up to 32 that does.
    """

    kind: ClassVar[str] = "pq"
    no_gpu: ClassVar[str] = "faiss has no product quantiser without inverted lists on the GPU"

    bytes: int | None = None

    def check(self, dims: int, count: int | None = None) -> None:
        """Raise RequestError where the dims cannot be cut so, or there are too few vectors."""
        check_codes(self.kind, self.bytes, dims, count)

    def fitted(self, count: int, dims: int, half: bool) -> PqSettings:
        """With the number of bytes."""
        return replace(self, bytes=fitted_bytes(self.bytes, dims))

    def factory_string(self) -> str:
        """PQ32, for example."""
        return f"PQ{self.bytes}"

    def memory_bytes(self, count: int, dims: int) -> float:
        """The code, and a share of the centroids."""
        return fitted_bytes(self.bytes, dims) + 4 * 256 * dims / count


@dataclass(frozen=True)
class OpqSettings(PqSettings):
    """`pq` after a rotation that makes the shares equally rich (Ge, He, Ke and Sun, 2013): better, slower to train."""

    kind: ClassVar[str] = "opq"

    def factory_string(self) -> str:
        """OPQ32,PQ32, for example."""
        return f"OPQ{self.bytes},PQ{self.bytes}"

    def memory_bytes(self, count: int, dims: int) -> float:
        """The rotation is shared by all."""
        return super().memory_bytes(count, dims) + 4 * dims * dims / count


@dataclass(frozen=True)
class BinarySettings(Compressed):
    """The sign of each dimension, compared by Hamming distance; the best `rescore` x k are ranked again by vectors.

    Signs alone rank too coarsely to be served, so there is no binary index without rescoring.
    """

    kind: ClassVar[str] = "binary"
    no_gpu: ClassVar[str] = "faiss compares sign bits of float vectors on the CPU only"

    rescore: int | None = field(default=USUAL_RESCORE, kw_only=True)

    def factory_string(self) -> str:
        """LSH: with as many bits as dims and no rotation, faiss' name for the signs."""
        return "LSH"

    def empty(self, dims: int) -> Any:
        """faiss files Hamming distance under L2; `rescore` turns the hits into inner products."""
        faiss = load_faiss()
        return faiss.index_factory(dims, self.factory_string(), faiss.METRIC_L2)

    def memory_bytes(self, count: int, dims: int) -> float:
        """A bit a dimension."""
        return -(-dims // 8)
