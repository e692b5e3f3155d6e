"""A graph of near neighbours (Malkov and Yashunin, 2016), over the vectors or over short codes of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, get_args

from sdretrieval.errors import RequestError
from sdretrieval.indexes.faiss_library import load_faiss
from sdretrieval.indexes.kinds.base import Compressed
from sdretrieval.indexes.kinds.codes import CENTROIDS, check_codes, fitted_bytes

HnswStorage = Literal["auto", "float32", "sq8", "pq"]


@dataclass(frozen=True)
class HnswSettings(Compressed):
    """A graph, on the CPU only; it takes inserts one by one and answers single queries fast.

    links: neighbours kept per vector and layer. ef_construction: breadth of the search while building.
    ef_search: breadth while searching (never below k); None = fitted to the target recall.
    storage: what the links lie over; auto = float32. bytes: of a code where storage is pq, as for pq.
    Built by several threads the graph differs a little from run to run: one thread makes it repeatable.
    """

    kind: ClassVar[str] = "hnsw"
    no_gpu: ClassVar[str] = "faiss has no HNSW on the GPU"

    links: int = 32
    ef_construction: int = 100
    ef_search: int | None = None
    storage: HnswStorage = "auto"
    bytes: int | None = None

    @property
    def one_thread(self) -> bool:
        """Links depend on who came first."""
        return True

    @property
    def breadth(self) -> Literal["probes", "ef_search"]:
        """Candidates held."""
        return "ef_search"

    @property
    def lossy(self) -> bool:
        """Over codes."""
        return self.storage in ("sq8", "pq")

    def checked(self) -> HnswSettings:
        """Itself. Raises RequestError where a value is out of range."""
        if self.storage not in get_args(HnswStorage):
            raise RequestError(f"hnsw storage {self.storage!r} is unknown; one of {', '.join(get_args(HnswStorage))}")
        if self.bytes is not None and self.storage != "pq":
            raise RequestError(
                f"index setting bytes is {self.bytes}, but hnsw has storage {self.storage}; set storage to pq, or "
                "leave bytes out"
            )
        super().checked()
        if self.links < 2:
            raise RequestError(f"hnsw links is {self.links}; expected at least 2, usual are 16 to 64")
        return self

    def check(self, dims: int, count: int | None = None) -> None:
        """Raise RequestError where codes cannot be cut so, or there are too few vectors to train them."""
        if self.storage == "pq":
            check_codes("hnsw with storage pq", self.bytes, dims, count)

    def fitted(self, count: int, dims: int, half: bool) -> HnswSettings:
        """With storage and bytes."""
        storage: HnswStorage = "float32" if self.storage == "auto" else self.storage
        return replace(self, storage=storage, bytes=fitted_bytes(self.bytes, dims) if storage == "pq" else None)

    def factory_string(self) -> str:
        """HNSW32,SQ8, for example."""
        over = {"sq8": "SQ8", "pq": f"PQ{self.bytes}"}.get(self.storage, "Flat")
        return f"HNSW{self.links},{over}"

    def empty(self, dims: int) -> Any:
        """Codes are linked by L2: whatever it is asked for, faiss compares two codes by their L2 distance."""
        index = super().empty(dims)
        index.hnsw.efConstruction = self.ef_construction
        return index

    def complete(self, index: Any) -> None:
        """A graph linked by L2 is walked by inner product: among vectors of length 1 both know the same neighbours."""
        faiss = load_faiss()
        index.metric_type = index.storage.metric_type = faiss.METRIC_INNER_PRODUCT
        if hasattr(index.hnsw, "is_similarity"):  # versions before 1.14 ask metric_type alone
            index.hnsw.is_similarity = True

    def memory_bytes(self, count: int, dims: int) -> float:
        """Vector or code, and the links: twice as many on the lowest layer."""
        codes = fitted_bytes(self.bytes, dims) + 4 * CENTROIDS * dims / count
        vector = {"sq8": dims, "pq": codes}.get(self.storage, 4 * dims)
        return vector + 8 * self.links + 16
