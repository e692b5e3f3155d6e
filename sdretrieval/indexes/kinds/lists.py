"""Kinds with inverted lists around k-means centroids: a query looks into the nearest lists only."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from sdretrieval.errors import RequestError
from sdretrieval.indexes.kinds.base import VECTOR_BYTES, Compressed
from sdretrieval.indexes.kinds.codes import check_codes, fitted_bytes

IvfStorage = Literal["auto", "float32", "float16", "sq8"]
POINTS_A_LIST = 39
FACTORY_NAMES = {"float32": "Flat", "float16": "SQfp16", "sq8": "SQ8"}


def fitted_lists(asked: int | None, count: int) -> int:
    """`asked`, or 4 sqrt(N), but at least 39 vectors a list, which faiss asks for training."""
    return asked or max(1, min(round(4 * math.sqrt(count)), count // POINTS_A_LIST))


def check_lists(kind: str, lists: int | None, count: int | None) -> None:
    """Raise RequestError for more lists than vectors."""
    if lists and count is not None and lists > count:
        raise RequestError(f"{kind} lists is {lists} but there are {count} vectors; at most one list a vector")


@dataclass(frozen=True)
class IvfSettings(Compressed):
    """Inverted lists that hold the vectors, or a byte a dimension.

    lists: number of centroids; None = 4 sqrt(N), but at least 39 vectors a list.
    probes: lists that a query looks into; None = fitted to the target recall.
    storage: float16 halves memory, sq8 quarters it; auto = float16 where the vectors are float16 (lossless) or the
    index is on a GPU, else float32.
    """

    kind: ClassVar[str] = "ivf"

    lists: int | None = None
    probes: int | None = None
    storage: IvfStorage = "auto"

    @property
    def breadth(self) -> Literal["probes", "ef_search"]:
        """Lists looked into."""
        return "probes"

    @property
    def lossy(self) -> bool:
        """Rounding to float16 is no loss that rescoring could mend."""
        return self.storage == "sq8"

    def checked(self) -> IvfSettings:
        """Itself. Raises RequestError where a value is out of range."""
        if self.storage not in get_args(IvfStorage):
            raise RequestError(f"ivf storage {self.storage!r} is unknown; one of {', '.join(get_args(IvfStorage))}")
        return super().checked()

    def check(self, dims: int, count: int | None = None) -> None:
        """Raise RequestError for more lists than vectors."""
        check_lists(self.kind, self.lists, count)

    def fitted(self, count: int, dims: int, half: bool) -> IvfSettings:
        """With lists and storage."""
        lists = fitted_lists(self.lists, count)
        storage: IvfStorage = ("float16" if half else "float32") if self.storage == "auto" else self.storage
        return replace(self, lists=lists, storage=storage, probes=min(self.probes, lists) if self.probes else None)

    def factory_string(self) -> str:
        """IVF1024,SQfp16, for example."""
        return f"IVF{self.lists},{FACTORY_NAMES[self.storage]}"

    def empty(self, dims: int) -> Any:
        """float16 holds the vectors themselves, not their differences to the centroid: nothing is gained by those."""
        index = super().empty(dims)
        if self.storage == "float16":
            index.by_residual = False
        return index

    def memory_bytes(self, count: int, dims: int) -> float:
        """Vector, id, and a share of the centroids; float32 where the storage is open."""
        vector = VECTOR_BYTES.get(self.storage, 4) * dims
        return vector + 8 + 4 * dims * fitted_lists(self.lists, count) / count


@dataclass(frozen=True)
class IvfPqSettings(Compressed):
    """Inverted lists that hold codes of the differences to their centroids: for tens of millions of vectors.

    lists, probes: as for ivf; probes left open are fitted to what the codes can find at all. bytes: as for pq.
    rotate: OPQ's rotation before everything.
    """

    kind: ClassVar[str] = "ivf_pq"
    no_gpu: ClassVar[str] = "codes in lists are not cut into GPU shards (faiss has some code sizes only there)"

    lists: int | None = None
    probes: int | None = None
    bytes: int | None = None
    rotate: bool = False

    @property
    def breadth(self) -> Literal["probes", "ef_search"]:
        """Lists looked into."""
        return "probes"

    def checked(self) -> IvfPqSettings:
        """Itself. Raises RequestError where a value is out of range."""
        if not isinstance(self.rotate, bool):
            raise RequestError(f"index setting rotate is {self.rotate!r}; expected true or false")
        return super().checked()

    def check(self, dims: int, count: int | None = None) -> None:
        """Raise RequestError where the dims cannot be cut so, or there are too few vectors."""
        check_codes(self.kind, self.bytes, dims, count)
        check_lists(self.kind, self.lists, count)

    def fitted(self, count: int, dims: int, half: bool) -> IvfPqSettings:
        """With lists and bytes."""
        lists = fitted_lists(self.lists, count)
        probes = min(self.probes, lists) if self.probes else None
        return replace(self, lists=lists, probes=probes, bytes=fitted_bytes(self.bytes, dims))

    def factory_string(self) -> str:
        """OPQ32,IVF1024,PQ32, for example."""
        return f"{f'OPQ{self.bytes},' if self.rotate else ''}IVF{self.lists},PQ{self.bytes}"

    def memory_bytes(self, count: int, dims: int) -> float:
        """Code, id, and a share of the centroids and of the rotation."""
        shared = 4 * dims * (fitted_lists(self.lists, count) + 256 + (dims if self.rotate else 0))
        return fitted_bytes(self.bytes, dims) + 8 + shared / count
