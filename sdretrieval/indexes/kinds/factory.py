"""Any other index of faiss, by its factory string (https://github.com/facebookresearch/faiss/wiki/The-index-factory)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from sdretrieval.errors import RequestError
from sdretrieval.indexes.faiss_library import load_faiss, reason_of
from sdretrieval.indexes.kinds.base import Compressed

GRAPH = re.compile(r"HNSW|NSG")
LISTS = re.compile(r"(^|,)I(VF|MI)")


@dataclass(frozen=True)
class FactorySettings(Compressed):
    """The index that faiss makes of `factory`, by inner product.

    probes (lists looked into) and ef_search (candidates held) are for strings with IVF and HNSW; None = fitted.
    """

    kind: ClassVar[str] = "factory"
    no_gpu: ClassVar[str] = "an index by factory string is searched on the CPU"

    factory: str = ""
    probes: int | None = None
    ef_search: int | None = None

    @property
    def one_thread(self) -> bool:
        """Links depend on who came first."""
        return bool(GRAPH.search(self.factory))

    @property
    def breadth(self) -> Literal["probes", "ef_search"] | None:
        """Lists, before a graph that only finds them."""
        if LISTS.search(self.factory):
            return "probes"
        return "ef_search" if "HNSW" in self.factory else None

    def checked(self) -> FactorySettings:
        """Itself. Raises RequestError where there is no string, or a breadth that it does not have."""
        if not isinstance(self.factory, str) or not self.factory.strip():
            raise RequestError(
                f"index setting factory is {self.factory!r}; expected a FAISS factory string, such as "
                "OPQ16_64,IVF1024,PQ16"
            )
        for name, part in (("probes", "IVF"), ("ef_search", "HNSW without IVF")):
            if getattr(self, name) is not None and self.breadth != name:
                raise RequestError(
                    f"index setting {name} is {getattr(self, name)}, but the factory string {self.factory!r} has no "
                    f"{part}; leave {name} out"
                )
        return super().checked()

    def check(self, dims: int, count: int | None = None) -> None:
        """Raise RequestError where faiss makes no index by inner product of it."""
        self.empty(dims)

    def factory_string(self) -> str:
        """As given."""
        return self.factory

    def empty(self, dims: int) -> Any:
        """What faiss makes of the string. Raises RequestError with faiss' reason where it makes nothing."""
        faiss = load_faiss()
        try:
            index = faiss.index_factory(dims, self.factory, faiss.METRIC_INNER_PRODUCT)
        except RuntimeError as error:
            raise RequestError(
                f"index factory {self.factory!r} makes no index by inner product of {dims} dims: {reason_of(error)}; "
                "see github.com/facebookresearch/faiss/wiki/The-index-factory"
            ) from None
        if index.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise RequestError(
                f"index factory {self.factory!r} makes an index that faiss cannot search by inner product; expected "
                "another one (HNSW over codes: kind hnsw with storage pq)"
            )
        return index

    def memory_bytes(self, count: int, dims: int) -> float:
        """Nothing is known before it is built: taken for float32 vectors with links, to be on the safe side."""
        return 4 * dims + 272
