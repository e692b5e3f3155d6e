"""What an index is: a FAISS factory string, how broadly it is searched, and how its hits are rescored.

Everything that must be known before the index is built is read off the string, or off the empty index that faiss makes
of it (https://github.com/facebookresearch/faiss/wiki/The-index-factory).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from sdretrieval.errors import RequestError
from sdretrieval.indexes.faiss_library import codebook_size, load_faiss, parts_of, reason_of

RescoreStorage = Literal["float16", "float32", "int8"]
RESCORE_BYTES = {"float32": 4, "float16": 2, "int8": 1}
"""Of one dimension."""
KIND = re.compile(r"exact|auto|[A-Z].{0,199}")
KIND_TEXT = "exact, auto or a FAISS factory string such as HNSW32, IVF,Flat, SQ8 or OPQ32,PQ32"
OPEN_LISTS = re.compile(r"\bIVF(?=[,_(]|$)")
NUMBERED_LISTS = re.compile(r"\bIVF(\d+)(?![\dk])")
LISTS = re.compile(r"\bI(VF|MI)")
GRAPH = re.compile(r"HNSW|NSG")
WHOLE_VECTORS = re.compile(r"exact|auto|(IVF\d*k?(_HNSW\d*)?|HNSW\d*)?,?(Flat|SQfp16)?")
"""Kinds that hold the vectors themselves; rounding to float16 is no loss that rescoring could mend."""
ON_GPUS = re.compile(r"exact|Flat|IVF\d*k?,(Flat|SQfp16|SQ8)")
POINTS_A_LIST = POINTS_A_CENTROID = 39
"""faiss asks for as many vectors a centroid; with fewer, codes fit the sample rather than the corpus."""
EF_CONSTRUCTION = 100
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
SIZE = re.compile(r"\s*(\d{1,15}\.?\d{0,15}|\.\d{1,15})\s*([KMGT]I?)?B?\s*", re.IGNORECASE)


def memory_size(text: str | int, what: str = "index setting max_memory") -> int:
    """Bytes of `2GB`, `512 MiB` or a plain number. Raises RequestError, naming `what`, for all else, and for 0."""
    match = SIZE.fullmatch(str(text))
    size = int(float(match[1]) * UNITS[(match[2] or "").upper()]) if match else 0
    if size < 1:
        raise RequestError(f"{what} is {text!r}; expected a size such as 2GB, 512MB or 1.5GiB")
    return size


@dataclass(frozen=True)
class IndexSettings:
    """One index. `None` means "fitted to the data", or "not used".

    kind: `exact` (all vectors are compared), `auto` (see `auto.choose`), or a FAISS factory string, searched by inner
    product. `IVF` without a number takes 4 sqrt(N) lists, but at least 39 documents a list.
    nprobe: inverted lists that a query looks into (IVF); None = the fewest that reach the target recall.
    ef_search: candidates held while a graph is searched (HNSW), never below k; None as for nprobe.
    ef_construction: candidates held while a graph is built (HNSW); None = 100.
    rescore: the best `rescore` x k hits by the codes are ranked again by the vectors themselves; None = never.
    rescore_storage: how these vectors are kept beside the index, on the disk, memory-mapped, so that they cost no
    memory that the system does not have to spare. int8 has one scale a dimension.
    max_memory: of an index that `auto` chooses, such as `2GB`; None = no limit. Vectors for rescoring do not count.
    """

    kind: str = "exact"
    nprobe: int | None = None
    ef_search: int | None = None
    ef_construction: int | None = None
    rescore: int | None = None
    rescore_storage: RescoreStorage = "float16"
    max_memory: str | int | None = None

    def __str__(self) -> str:
        return ", ".join([self.kind, *(f"{name}: {value}" for name, value in self.given().items())])

    def problems(self) -> Iterator[tuple[str, str]]:
        """(setting, what is wrong with it) of values out of range, and of settings that `kind` has no use for."""
        if not isinstance(self.kind, str) or not KIND.fullmatch(self.kind):
            yield "kind", f"found {json.dumps(self.kind)}; expected {KIND_TEXT}"
            return
        for name in ("nprobe", "ef_search", "ef_construction", "rescore"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                yield name, f"found {json.dumps(value)}; expected a whole number of at least 1, or nothing"
            elif value is not None and (lacks := self._no_use_for(name)):
                yield name, f"found {value}, but index kind {self.kind} {lacks}; leave {name} out"
        lists = NUMBERED_LISTS.search(self.kind)
        if lists and isinstance(self.nprobe, int) and self.nprobe > int(lists[1]):
            yield "nprobe", f"found {self.nprobe}; expected at most the {lists[1]} lists of {self.kind}"
        found = json.dumps(self.rescore_storage)
        if self.rescore_storage not in get_args(RescoreStorage):
            known = ", ".join(get_args(RescoreStorage))
            yield "rescore_storage", f"found {found}; expected one of {known}"
        elif self.rescore_storage != "float16" and self.rescore is None:
            yield (
                "rescore_storage",
                f"found {found}, but nothing is rescored; set rescore to 4, for example, or leave rescore_storage out",
            )
        found = json.dumps(self.max_memory)
        if self.max_memory is not None and self.kind != "auto":
            yield "max_memory", f"found {found}, but only kind auto chooses by it; leave max_memory out"
        elif self.max_memory is not None:
            try:
                memory_size(self.max_memory, "this")
            except RequestError:
                yield "max_memory", f"found {found}; expected a size such as 2GB, 512MB or 1.5GiB"
        if "LSH" in self.kind and self.rescore is None:
            yield "rescore", f"found nothing, but index kind {self.kind} ranks by signs alone; set rescore to 4 or more"

    def _no_use_for(self, name: str) -> str:
        """Why `kind` has no use for a setting; empty if it has one."""
        if self.kind == "auto":
            return "chooses it itself"
        if name == "nprobe" and self.breadth != "nprobe":
            return "has no inverted lists (IVF)"
        if name.startswith("ef_") and self.breadth != "ef_search":
            return "has no graph of documents (HNSW)"
        return "holds the vectors themselves" if name == "rescore" and not self.lossy else ""

    def checked(self) -> IndexSettings:
        """Itself. Raises RequestError that lists all problems."""
        if problems := [f"index setting {name}: {text}" for name, text in self.problems()]:
            raise RequestError("\n".join(problems))
        return self

    def given(self) -> dict[str, Any]:
        """What differs from the defaults, `kind` apart."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)[1:]}
        return {name: value for name, (value, default) in values.items() if value != default}

    def record(self) -> dict[str, Any]:
        """As a JSON object, for the card of an index whose string is known apart."""
        return self.given() | ({"rescore_storage": self.rescore_storage} if self.rescore else {})

    @property
    def breadth(self) -> Literal["nprobe", "ef_search"] | None:
        """The setting that trades time for recall: lists come before a graph that only finds them."""
        if LISTS.search(self.kind):
            return "nprobe"
        return "ef_search" if "HNSW" in self.kind else None

    @property
    def lossy(self) -> bool:
        """Whether it searches codes that are not the vectors."""
        return not WHOLE_VECTORS.fullmatch(self.kind)

    @property
    def one_thread(self) -> bool:
        """Whether only one thread builds the same index again: a graph's links depend on who came first."""
        return bool(GRAPH.search(self.kind))

    @property
    def no_gpu(self) -> str:
        """Why it is searched on the CPU; empty if GPUs can hold it."""
        if self.kind == "auto":
            return "kind auto may choose an index that is searched on the CPU only"
        if ON_GPUS.fullmatch(self.kind):
            return ""
        return f"GPUs hold exact, and IVF with Flat, SQfp16 or SQ8; {self.kind} is searched on the CPU"

    def fitted(self, count: int) -> IndexSettings:
        """With a factory string as faiss knows it: exact is Flat, and open lists have a number."""
        if self.kind == "exact":
            return replace(self, kind="Flat")
        if self.breadth == "ef_search":
            return replace(self, ef_construction=self.ef_construction or EF_CONSTRUCTION)
        lists = max(1, min(round(4 * math.sqrt(count)), count // POINTS_A_LIST))
        return replace(self, kind=OPEN_LISTS.sub(f"IVF{lists}", self.kind))

    def empty(self, dims: int, count: int) -> Any:
        """The untrained faiss index for `count` vectors, by inner product.

        Raises RequestError with faiss' reason if it makes none.
        """
        faiss = load_faiss()
        fitted = self.fitted(count)
        # faiss files the Hamming distance of signs under L2; rescoring turns the hits into inner products.
        metric = faiss.METRIC_L2 if "LSH" in self.kind else faiss.METRIC_INNER_PRODUCT
        try:
            index = faiss.index_factory(dims, fitted.kind, metric)
        except RuntimeError as error:
            parts = ", ".join(str(number) for number in range(1, dims + 1) if dims % number == 0)
            cut = f" ({dims} dims can be cut into {parts} parts)" if "subquantizers" in str(error) else ""
            raise RequestError(
                f"index kind {self.kind!r} makes no index by inner product of {dims} dims: {reason_of(error)}{cut}; "
                "see github.com/facebookresearch/faiss/wiki/The-index-factory"
            ) from None
        for part in parts_of(index):
            if isinstance(part, faiss.IndexHNSW):
                part.hnsw.efConstruction = fitted.ef_construction
            if isinstance(part, faiss.IndexIVFScalarQuantizer) and part.sq.qtype == faiss.ScalarQuantizer.QT_fp16:
                part.by_residual = False  # float16 holds the vectors themselves: differences to a centroid gain nothing
        return index

    def check(self, dims: int, count: int | None = None, *, unit: bool = True) -> None:
        """Raise RequestError if vectors of `dims` dims, or so few of them, cannot be indexed this way, or, unless all
        have length 1 (`unit`), if the index finds those that point the same way or are near, which is another ranking.

        `auto` fits whatever there is: check what it chooses.
        """
        if self.kind == "auto":
            return
        faiss = load_faiss()
        index = self.empty(dims, count or 1)
        parts = list(parts_of(index))
        graph = any(isinstance(part, faiss.IndexHNSW) for part in parts)  # see `build.make_index`
        if index.metric_type != faiss.METRIC_INNER_PRODUCT and not graph and self.rescore is None:
            raise RequestError(f"index kind {self.kind!r} is not searched by inner product; set rescore to 4 or more")
        if not unit and (index.metric_type != faiss.METRIC_INNER_PRODUCT or "L2norm" in self.kind):
            raise RequestError(
                f"index kind {self.kind} finds neighbours by angle or distance, which rank as inner products do only "
                "if all vectors have length 1, and the model (similarity: dot) does not make them so; take kind exact, "
                "SQ8, HNSW32,Flat or IVF,Flat"
            )
        needed = max(max(getattr(part, "nlist", 0), codebook_size(part)) for part in parts)
        if count is not None and count < needed:
            raise RequestError(
                f"index kind {self.kind}: {count} vectors cannot train {needed} centroids; expected at least {needed}, "
                f"better {POINTS_A_CENTROID * needed}; take kind exact, or SQ8, for so few"
            )

    def memory_bytes(self, count: int, dims: int) -> float:
        """Bytes of memory a vector, before anything is built; for `auto` at most a graph over float32 vectors.

        Codes, ids and links are each vector's own; centroids and rotations are shared by all.
        """
        if self.kind == "auto":
            return replace(self, kind="HNSW32,Flat").memory_bytes(count, dims)
        faiss = load_faiss()
        index = self.empty(dims, count)
        own, shared = 0, 0
        for part in parts_of(index):
            own += getattr(part, "code_size", 0)
            shared += part.d * (getattr(part, "nlist", 0) + codebook_size(part))
            if isinstance(part, faiss.IndexIVF):
                own += 8
            if isinstance(part, faiss.IndexHNSW):
                own += 4 * part.hnsw.nb_neighbors(0) + 16
            if isinstance(part, faiss.IndexPreTransform):
                chain = (faiss.downcast_VectorTransform(part.chain.at(place)) for place in range(part.chain.size()))
                shared += sum(one.d_in * one.d_out for one in chain if isinstance(one, faiss.LinearTransform))
        return own + 4 * shared / count

    def disk_bytes(self, count: int, dims: int) -> float:
        """Bytes on the disk a vector: the index, and the vectors that hits are rescored with."""
        return self.memory_bytes(count, dims) + (RESCORE_BYTES[self.rescore_storage] * dims if self.rescore else 0)
