"""What every kind of index answers, so that building, cards, GPUs, disk and `auto` ask it instead of its name.

A kind is a FAISS factory string, a search breadth where it has one, and rescoring where its codes lose something.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal, NamedTuple, TypeVar, get_args

from sdretrieval.errors import RequestError
from sdretrieval.indexes.faiss_library import load_faiss

RescoreStorage = Literal["float16", "float32", "int8"]
VECTOR_BYTES = {"float32": 4, "float16": 2, "sq8": 1, "int8": 1}
"""Of one dimension."""
TEXT_FIELDS = ("storage", "rescore_storage", "factory", "rotate", "max_memory")

Own = TypeVar("Own", bound="Settings")


class Choice(NamedTuple):
    """What is built, and why where a rule chose it."""

    settings: Settings
    reason: str


class Rescoring(NamedTuple):
    """The best `factor` x k documents by the codes are ranked again by their vectors in `storage`."""

    factor: int
    storage: RescoreStorage


@dataclass(frozen=True)
class Settings:
    """Base of every kind. `None` in a field means "fitted to the data": see the field's text.

    no_gpu: why it stays on the CPU; empty where GPUs can hold it. one_thread: several threads build another index each
    time. breadth: the setting that trades time for recall, if there is one.
    """

    kind: ClassVar[str]
    no_gpu: ClassVar[str] = ""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of what can be set, its own first."""
        return tuple(each.name for each in sorted(fields(cls), key=lambda each: bool(each.kw_only)))

    @property
    def one_thread(self) -> bool:
        """Whether only one thread builds the same index again."""
        return False

    @property
    def breadth(self) -> Literal["probes", "ef_search"] | None:
        """The field that says how broadly is searched."""
        return None

    @property
    def lossy(self) -> bool:
        """Whether it searches codes that are not the vectors."""
        return False

    @property
    def rescoring(self) -> Rescoring | None:
        """How hits are ranked again, if they are."""
        return None

    def checked(self: Own) -> Own:
        """Itself. Raises RequestError where a value is out of range."""
        for each in fields(self):
            value = getattr(self, each.name)
            if each.name in TEXT_FIELDS or (value is None and each.default is None):
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise RequestError(f"index setting {each.name} is {value!r}; expected a whole number of at least 1")
        return self

    def check(self, dims: int, count: int | None = None) -> None:
        """Raise RequestError where vectors of `dims` dims, or so few of them, cannot be indexed this way."""

    def chosen(self, count: int, dims: int) -> Choice:
        """What is built from `count` vectors of `dims` dims: itself, unless it is a rule that chooses."""
        return Choice(self, "")

    def fitted(self: Own, count: int, dims: int, half: bool) -> Own:
        """With open fields fitted to the data, search breadth apart. `half`: float16 loses nothing, or is a GPU's."""
        return self

    def factory_string(self) -> str:
        """The FAISS factory string of fitted settings."""
        raise NotImplementedError

    def empty(self, dims: int) -> Any:
        """An untrained faiss index by inner product."""
        faiss = load_faiss()
        return faiss.index_factory(dims, self.factory_string(), faiss.METRIC_INNER_PRODUCT)

    def complete(self, index: Any) -> None:
        """Last touch on the index that holds all vectors."""

    def memory_bytes(self, count: int, dims: int) -> float:
        """Bytes of memory a vector, before anything is built."""
        raise NotImplementedError

    def disk_bytes(self, count: int, dims: int) -> float:
        """Bytes on the disk a vector: the index, and the vectors that hits are rescored with."""
        rescoring = self.rescoring
        return self.memory_bytes(count, dims) + (VECTOR_BYTES[rescoring.storage] * dims if rescoring else 0)


@dataclass(frozen=True)
class Compressed(Settings):
    """Base of kinds whose codes can lose something.

    rescore: the best `rescore` x k hits by the codes are ranked again by the vectors themselves; None = never.
    rescore_storage: how these vectors lie beside the index: on the disk, memory-mapped, so that they cost no memory
    that the system does not have to spare. int8 has one scale a dimension.
    """

    rescore: int | None = field(default=None, kw_only=True)
    rescore_storage: RescoreStorage = field(default="float16", kw_only=True)

    @property
    def lossy(self) -> bool:
        """Codes, unless a kind knows better."""
        return True

    @property
    def rescoring(self) -> Rescoring | None:
        """As asked for."""
        return Rescoring(self.rescore, self.rescore_storage) if self.rescore else None

    def checked(self: Own) -> Own:
        """Itself. Raises RequestError where a value is out of range, or rescoring has nothing to mend."""
        super().checked()
        _check_rescoring(self)
        return self


def _check_rescoring(settings: Any) -> None:
    if settings.rescore_storage not in get_args(RescoreStorage):
        known = ", ".join(get_args(RescoreStorage))
        raise RequestError(f"index setting rescore_storage is {settings.rescore_storage!r}; expected one of {known}")
    if settings.rescore and not settings.lossy:
        raise RequestError(
            f"index setting rescore is {settings.rescore}, but {settings.kind} with storage {settings.storage} holds "
            "the vectors themselves, so there is nothing to rescore; leave rescore out"
        )
    if settings.rescore_storage != "float16" and not settings.rescore:
        raise RequestError(
            f"index setting rescore_storage is {settings.rescore_storage!r}, but nothing is rescored; set rescore to "
            "4, for example, or leave rescore_storage out"
        )
