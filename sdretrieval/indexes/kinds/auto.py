"""`auto`: a rule of thumb that picks a kind from the number of vectors, their dims, and the memory there is.

The choice is by these three alone, so that it is the same on every machine. The order of preference within each row is
that of the measured cards in `indexes/cards/`: what finds most at bearable cost comes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from sdretrieval.errors import RequestError
from sdretrieval.indexes.kinds.base import Choice, Settings
from sdretrieval.indexes.kinds.codes import CENTROIDS, possible_bytes
from sdretrieval.indexes.kinds.flat import BinarySettings, ExactSettings, OpqSettings, Sq8Settings
from sdretrieval.indexes.kinds.graph import HnswSettings
from sdretrieval.indexes.kinds.lists import IvfPqSettings, IvfSettings

EXACT_NUMBERS = 20_000_000
"""Numbers (vectors x dims) that a core multiplies within some 10 ms: up to here exact search is fast enough."""
GRAPH_VECTORS = 400_000
"""Up to here a graph answers sooner than inverted lists at the same recall, by interpolation between the cards: 2.2
against 3.5 ms at 10^5 vectors, but 23 against 17 ms at 10^6, where it also takes more memory and time to build."""
RESCORE = 4
UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
SIZE = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*([KMGT]I?)?B?\s*", re.IGNORECASE)


class Regime(NamedTuple):
    """What a corpus of some size wants, best first."""

    why: str
    kinds: list[Settings]


def memory_size(text: str | int, what: str = "index setting max_memory") -> int:
    """Bytes of `2GB`, `512 MiB` or a plain number. Raises RequestError, naming `what`, for all else, and for 0."""
    found = SIZE.fullmatch(str(text))
    size = int(float(found[1]) * UNITS[(found[2] or "").upper()]) if found else 0
    if size < 1:
        raise RequestError(f"{what} is {text!r}; expected a size such as 2GB, 512MB or 1.5GiB")
    return size


def readable(size: float) -> str:
    """Bytes as people read them."""
    for unit, factor in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size:.0f} bytes"


@dataclass(frozen=True)
class AutoSettings(Settings):
    """A kind chosen by count, dims and memory; the card says which and why.

    max_memory: of the index, such as `2GB`; None = no limit. Vectors that hits are rescored with lie on the disk, and
    do not count.
    """

    kind: ClassVar[str] = "auto"
    no_gpu: ClassVar[str] = "kind auto may choose an index that is searched on the CPU only"

    max_memory: str | int | None = None

    def checked(self) -> AutoSettings:
        """Itself. Raises RequestError where the limit is no size."""
        if self.max_memory is not None:
            memory_size(self.max_memory)
        return self

    def check(self, dims: int, count: int | None = None) -> None:
        """Raise RequestError where no kind fits into the memory."""
        if count is not None:
            self.chosen(count, dims)

    def chosen(self, count: int, dims: int) -> Choice:
        """The first kind of the regime that fits. Raises RequestError where none does, saying what is needed."""
        limit = None if self.max_memory is None else memory_size(self.max_memory)
        regime = _regime(count, dims)
        skipped: list[str] = []
        sizes = [(settings, count * settings.memory_bytes(count, dims)) for settings in regime.kinds]
        for settings, size in sizes:
            if limit is None or size <= limit:
                return Choice(settings, _reason(settings, size, regime, count, dims, limit, skipped))
            skipped.append(f"{named(settings)} would need {readable(size)}")
        smallest, size = min(sizes, key=lambda found: found[1])
        raise RequestError(
            f"index setting max_memory is {self.max_memory}, but {count:,} vectors of {dims} dims need at least "
            f"{readable(size)} ({named(smallest)}); raise max_memory to {readable(1.05 * size)}, or take fewer "
            "documents"
        )

    def memory_bytes(self, count: int, dims: int) -> float:
        """At most that of a graph over float32 vectors."""
        return HnswSettings().memory_bytes(count, dims)


def _regime(count: int, dims: int) -> Regime:
    if count * dims <= EXACT_NUMBERS:
        why = f"{count:,} x {dims} numbers are few enough ({EXACT_NUMBERS:,}) to compare every document"
        return Regime(why, [ExactSettings(), Sq8Settings(), *_codes(count, dims)])
    if count <= GRAPH_VECTORS:
        why = f"{count:,} vectors are too many to compare each, and few enough ({GRAPH_VECTORS:,}) to build a graph"
        graphs: list[Settings] = [HnswSettings(), HnswSettings(storage="sq8", rescore=RESCORE)]
        return Regime(why, [*graphs, *_codes(count, dims)])
    why = f"{count:,} vectors are too many for a graph to be the fastest (above {GRAPH_VECTORS:,}), so inverted lists"
    lists: list[Settings] = [IvfSettings(), IvfSettings(storage="float16"), IvfSettings(storage="sq8", rescore=RESCORE)]
    coded = [IvfPqSettings(bytes=size, rotate=True, rescore=RESCORE) for size in _code_sizes(dims)]
    return Regime(why, [*lists, *coded])


def _codes(count: int, dims: int) -> list[Settings]:
    """Short codes for what is compared one by one, the finest first; too few vectors cannot train them."""
    coded: list[Settings] = [BinarySettings()]
    if count >= CENTROIDS:
        coded += [OpqSettings(bytes=size, rescore=RESCORE) for size in _code_sizes(dims)]
    return sorted(coded, key=lambda settings: -settings.memory_bytes(count, dims))


def _code_sizes(dims: int) -> Iterator[int]:
    """About a sixth of the dims, and then ever shorter."""
    sizes = [size for size in possible_bytes(dims) if size <= dims // 6]
    kept: list[int] = []
    for size in reversed(sizes):
        if not kept or size <= kept[-1] * 0.75:
            kept.append(size)
    yield from kept[:4]


def named(settings: Settings) -> str:
    """The settings as a config has them: `opq, bytes: 32, rescore: 4`; what is left out is as usual."""
    usual = type(settings)()
    set_ = {name: getattr(settings, name) for name in settings.names()}
    told = [f"{name}: {str(value).lower()}" for name, value in set_.items() if value != getattr(usual, name)]
    return ", ".join([settings.kind, *told])


def _reason(
    settings: Settings, size: float, regime: Regime, count: int, dims: int, limit: int | None, skipped: list[str]
) -> str:
    room = "no limit of memory" if limit is None else f"{readable(size)} of the {readable(limit)} allowed"
    return "; ".join([f"{named(settings)}: {regime.why}", *skipped, room])
