"""`auto`: a rule of thumb that picks a factory string from the number of vectors, their dims, and the memory there is.

The choice is by these three alone, so that it is the same on every machine. The order of preference within each row is
that of the measured cards in `indexes/cards/`: what finds most at bearable cost comes first.
"""

from __future__ import annotations

from typing import NamedTuple

from sdretrieval.errors import RequestError
from sdretrieval.formatting import readable_bytes
from sdretrieval.indexes.settings import IndexSettings, memory_size

EXACT_NUMBERS = 20_000_000
"""Numbers (vectors x dims) that a core multiplies within some 10 ms: up to here exact search is fast enough."""
GRAPH_VECTORS = 400_000
"""Up to here a graph answers sooner than inverted lists at the same recall, by interpolation between the cards: 2.2
against 3.5 ms at 10^5 vectors, but 23 against 17 ms at 10^6, where it also takes more memory and time to build."""
RESCORE = 4
CENTROIDS = 256
"""Of a byte of a code: fewer vectors cannot train them."""


class Choice(NamedTuple):
    """What is built, and why if a rule chose it."""

    settings: IndexSettings
    reason: str


def choose(settings: IndexSettings, count: int, dims: int) -> Choice:
    """What is built of `count` vectors of `dims` dims: `settings` itself, unless its kind is `auto`.

    Of the kinds that suit so many vectors, `auto` takes the first that fits into the memory. Raises RequestError if
    none does, saying how much is needed.
    """
    if settings.kind != "auto":
        return Choice(settings, "")
    limit = None if settings.max_memory is None else memory_size(settings.max_memory)
    why, candidates = _candidates(count, dims)
    sizes = [(one, count * one.memory_bytes(count, dims)) for one in candidates]
    skipped: list[str] = []
    for one, size in sizes:
        if limit is None or size <= limit:
            room = "no limit of memory"
            if limit is not None:
                room = f"{readable_bytes(size)} of the {readable_bytes(limit)} allowed"
            return Choice(one, "; ".join([f"{one}: {why}", *skipped, room]))
        skipped.append(f"{one} would need {readable_bytes(size)}")
    smallest, size = min(sizes, key=lambda pair: pair[1])
    raise RequestError(
        f"index setting max_memory is {settings.max_memory}, but {count:,} vectors of {dims} dims need at least "
        f"{readable_bytes(size)} ({smallest}); raise max_memory to {readable_bytes(1.05 * size)}, or take fewer "
        "documents"
    )


def _candidates(count: int, dims: int) -> tuple[str, list[IndexSettings]]:
    """(why these, the kinds that suit so many vectors), best first."""
    # Codes take about a sixth of the dims, and then ever fewer bytes, each a divisor of the dims.
    code_sizes: list[int] = []
    for size in range(dims // 6, 0, -1):
        if dims % size == 0 and (not code_sizes or size <= code_sizes[-1] * 0.75):
            code_sizes.append(size)
    code_sizes = code_sizes[:4]
    # What is compared one by one: the finest code first.
    flat = [IndexSettings("LSH", rescore=RESCORE)]
    if count >= CENTROIDS:
        flat += [IndexSettings(f"OPQ{size},PQ{size}", rescore=RESCORE) for size in code_sizes]
    flat.sort(key=lambda one: -one.memory_bytes(count, dims))
    if count * dims <= EXACT_NUMBERS:
        why = f"{count:,} x {dims} numbers are few enough ({EXACT_NUMBERS:,}) to compare every document"
        return why, [IndexSettings("exact"), IndexSettings("SQ8"), *flat]
    if count <= GRAPH_VECTORS:
        why = f"{count:,} vectors are too many to compare each, and few enough ({GRAPH_VECTORS:,}) to build a graph"
        return why, [IndexSettings("HNSW32,Flat"), IndexSettings("HNSW32,SQ8", rescore=RESCORE), *flat]
    why = f"{count:,} vectors are too many for a graph to be the fastest (above {GRAPH_VECTORS:,}), so inverted lists"
    whole = [IndexSettings("IVF,Flat"), IndexSettings("IVF,SQfp16"), IndexSettings("IVF,SQ8", rescore=RESCORE)]
    return why, whole + [IndexSettings(f"OPQ{size},IVF,PQ{size}", rescore=RESCORE) for size in code_sizes]
