"""FAISS used plainly against `VectorIndex`: recall@100, milliseconds a query in a batch and alone, bytes, build time.

Three kinds: every document compared, a graph (HNSW), inverted lists (IVF). FAISS's side takes its default breadth
(`efSearch` 16, `nprobe` 1), as its documentation's first examples do, and once more the breadth that reaches the recall
that ours is fitted to, found by doubling, as a careful user would. Lists are 4 sqrt(N), as FAISS's guidelines say: it
has no default there. The same library searches on both sides: at equal recall, only what ours adds can differ.

Legend: Q queries, N documents, D dims, k hits.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.inputs import Asked
from benchmarks.record import Record, Row
from benchmarks.sides import Side, Work
from benchmarks.text_like_vectors import write_vectors
from sdretrieval.files import write_json
from sdretrieval.indexes import VectorIndex, exact_search, recall
from sdretrieval.indexes.faiss_library import load_faiss
from sdretrieval.indexes.vector import TARGET_RECALL

ROUNDS = 3
DOCUMENTS, DIMS = 1_000_000, 384
QUERIES = 300
"""Measured; as many others fit a breadth."""
DEPTH, FIRST = 100, 10
"""Hits of a query in a batch, and of one alone."""
ALONE = 50
"""Queries asked alone each round."""
KINDS = {"exact": "exact", "hnsw": "HNSW32,Flat", "ivf": "IVF,Flat"}
"""Names of the table, and what ours are asked for."""
NEIGHBOURS = 32
"""Of a graph's node, on both sides."""

Search = Callable[[NDArray[Any], int], NDArray[Any]]
"""(queries (Q, D), k) -> rows (Q, k)."""


class Found(NamedTuple):
    """One round of a side."""

    rows_Qk: NDArray[Any]
    batch_ms: float
    alone_ms: float


def prepare(folder: Path, asked: Asked) -> None:
    """Vectors that look like embeddings, the true hits, and every index built once, one after the other."""
    vectors_ND, queries_QD = write_vectors(folder, asked.count(DOCUMENTS), DIMS, 2 * QUERIES, asked.seed)
    np.save(folder / "fitting.npy", queries_QD[::2])
    np.save(folder / "queries.npy", queries_QD[1::2])
    for name in ("fitting", "queries"):
        truth = exact_search(vectors_ND, np.load(folder / f"{name}.npy"), DEPTH)
        np.save(folder / f"{name}-truth.npy", truth.rows_Qk)
    for kind in KINDS:
        for name, build in (("faiss", build_plainly), ("ours", build_ours)):
            (folder / name / kind).mkdir(parents=True)
            seconds = build(kind, vectors_ND, folder)
            size = (folder / name / kind / "index.faiss").stat().st_size
            facts = {"build_seconds": seconds, "bytes_per_vector": size / len(vectors_ND)}
            write_json(folder / name / kind / "built.json", facts)


def build_plainly(kind: str, vectors_ND: NDArray[Any], folder: Path) -> float:
    """As FAISS's documentation builds it; the seconds it took."""
    faiss = load_faiss()
    dims = vectors_ND.shape[1]
    started = time.perf_counter()
    vectors_ND = np.ascontiguousarray(vectors_ND, dtype=np.float32)
    if kind == "exact":
        index = faiss.IndexFlatIP(dims)
    elif kind == "hnsw":
        index = faiss.IndexHNSWFlat(dims, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
    else:
        lists = round(4 * len(vectors_ND) ** 0.5)
        index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dims), dims, lists, faiss.METRIC_INNER_PRODUCT)
        index.train(vectors_ND)
    index.add(vectors_ND)
    seconds = time.perf_counter() - started
    faiss.write_index(index, str(folder / "faiss" / kind / "index.faiss"))
    return seconds


def build_ours(kind: str, vectors_ND: NDArray[Any], folder: Path) -> float:
    """`VectorIndex` with its defaults; the seconds of its card."""
    index = VectorIndex.build(vectors_ND, KINDS[kind], "cpu", queries_QD=np.load(folder / "fitting.npy"))
    index.save(folder / "ours" / kind)
    return index.card.build_seconds


def plain(kind: str, *, broad: bool) -> Callable[[Path], Work]:
    """`index.search`; `broad`: with the breadth that reaches our recall on other queries."""

    def side(folder: Path) -> Work:
        index = load_faiss().read_index(str(folder / "faiss" / kind / "index.faiss"))
        if broad:
            broaden(index, folder)
        return measured(lambda queries_QD, k: index.search(queries_QD, k)[1], folder)

    return side


def broaden(index: Any, folder: Path) -> None:
    """Double `nprobe` or `efSearch` until recall@100 is what ours is fitted to."""
    queries_QD, truth_Qk = np.load(folder / "fitting.npy"), np.load(folder / "fitting-truth.npy")
    holder, name, most = (index, "nprobe", index.nlist) if hasattr(index, "nprobe") else (index.hnsw, "efSearch", 16384)
    while recall(index.search(queries_QD, DEPTH)[1], truth_Qk) < TARGET_RECALL and getattr(holder, name) < most:
        setattr(holder, name, 2 * getattr(holder, name))


def ours(kind: str) -> Callable[[Path], Work]:
    """`VectorIndex.search`, its breadth fitted when it was built."""

    def side(folder: Path) -> Work:
        index = VectorIndex.load(folder / "ours" / kind, "cpu")
        return measured(lambda queries_QD, k: index.search(queries_QD, k).rows_Qk, folder)

    return side


def measured(search: Search, folder: Path) -> Work:
    """All queries in a batch, then some alone, timed apart."""
    queries_QD = np.load(folder / "queries.npy")
    search(queries_QD[:2], DEPTH)

    def work() -> Found:
        started = time.perf_counter()
        rows_Qk = search(queries_QD, DEPTH)
        batch = time.perf_counter() - started
        started = time.perf_counter()
        for query_D in queries_QD[:ALONE]:
            search(query_D[None], FIRST)
        alone = time.perf_counter() - started
        return Found(rows_Qk, 1000 * batch / len(queries_QD), 1000 * alone / len(queries_QD[:ALONE]))

    return lambda: (work(), *facts(folder))


def facts(folder: Path) -> tuple[NDArray[Any], dict[str, Any]]:
    """What the report must know and only the folder holds: the truth, and each index' size and build time."""
    built = {
        f"{path.parent.name}, {path.parent.parent.name}": json.loads(path.read_text(encoding="utf8"))
        for path in sorted(folder.glob("*/*/built.json"))
    }
    return np.load(folder / "queries-truth.npy"), built


GROUPS = [
    ["exact, faiss", "exact, ours"],
    ["hnsw, faiss", "hnsw, faiss as broad as ours", "hnsw, ours"],
    ["ivf, faiss", "ivf, faiss as broad as ours", "ivf, ours"],
]
"""Kinds one after the other: only so many indexes must fit into the memory at a time."""
SIDES: dict[str, Callable[[Path], Work]] = {
    **{f"{kind}, faiss": plain(kind, broad=False) for kind in KINDS},
    **{f"{kind}, faiss as broad as ours": plain(kind, broad=True) for kind in ("hnsw", "ivf")},
    **{f"{kind}, ours": ours(kind) for kind in KINDS},
}


def report(sides: Mapping[str, Side], asked: Asked) -> Record:
    """Two rows a pair: in a batch, and alone."""
    _, truth_Qk, built = next(iter(sides.values())).result
    rows = [
        row
        for name, side in sides.items()
        if not name.endswith(", ours")
        for row in rows_of(name, side, sides[f"{name.partition(', ')[0]}, ours"], truth_Qk)
    ]
    title = (
        f"{asked.count(DOCUMENTS):,} vectors of {DIMS} dims, {QUERIES} queries, {DEPTH} hits in a batch, {FIRST} alone"
    )
    figures = {
        name: {**_times(side), "recall_at_100": recall(side.result[0].rows_Qk, truth_Qk)}
        for name, side in sides.items()
    }
    return Record("search", title, rows, [_built(built)], sides, {"built": built, "sides": figures})


def rows_of(name: str, peer: Side, own: Side, truth_Qk: NDArray[Any]) -> list[Row]:
    """Milliseconds of ours and theirs, and how many of the true hits each finds."""
    found = [recall(side.result[0].rows_Qk, truth_Qk) for side in (own, peer)]
    memory = f"{own.peak_bytes / 1e9:.2f} against {peer.peak_bytes / 1e9:.2f} GB"
    rows = []
    for how, field in (("in a batch", "batch_ms"), ("alone", "alone_ms")):
        pairs = zip(own.results, peer.results, strict=True)
        ratios = [getattr(other[0], field) / getattr(one[0], field) for one, other in pairs]
        ms = f"{_times(own)[field]:.2f} against {_times(peer)[field]:.2f} ms"
        agreement = f"{ms}, recall@{DEPTH} {found[0]:.3f} against {found[1]:.3f}"
        rows.append(Row(f"{name}, a query {how}", ratios, None, memory, agreement))
    return rows


def _times(side: Side) -> dict[str, float]:
    return {field: float(np.median([getattr(r[0], field) for r in side.results])) for field in ("batch_ms", "alone_ms")}


def _built(built: Mapping[str, Mapping[str, float]]) -> str:
    parts = [
        f"{kind} {built[f'{kind}, ours']['bytes_per_vector']:.0f} against "
        f"{built[f'{kind}, faiss']['bytes_per_vector']:.0f} bytes a vector, built in "
        f"{built[f'{kind}, ours']['build_seconds']:.1f} against {built[f'{kind}, faiss']['build_seconds']:.1f} s"
        for kind in KINDS
    ]
    return f"Ours against FAISS's own: {'; '.join(parts)}. Ours counts no fitting of its breadth as building."
