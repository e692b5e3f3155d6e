"""Make the CPU index of faiss out of vectors that may lie in a memory map, and fit its search breadth.

Legend: N documents, D dims, Q sampled queries, k hits per query.
"""

from __future__ import annotations

import logging
import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import RequestError
from sdretrieval.indexes.blocks import Floats, check_finite, float32_blocks
from sdretrieval.indexes.exact import recall
from sdretrieval.indexes.faiss_library import load_faiss
from sdretrieval.indexes.hits import Rows
from sdretrieval.indexes.settings import HnswSettings, IvfSettings, Settings
from sdretrieval.progress import Progress

logger = logging.getLogger("sdretrieval")

TRAIN_VECTORS_A_LIST = 64
"""k-means sees at most this many vectors per centroid, which bounds its memory and time; faiss itself warns below
39 and subsamples above 256."""
POINTS_A_LIST = 39
LEAST_EF = 128
"""faiss searches HNSW at least k wide, so for recall@100 a smaller `ef_search` changes nothing."""


def resolved(settings: Settings, vectors_ND: NDArray[Any], on_gpu: bool) -> Settings:
    """Settings with `lists` and `storage` fitted to the data. Raises RequestError for more lists than vectors."""
    if not isinstance(settings, IvfSettings):
        return settings
    count = len(vectors_ND)
    lists = settings.lists or max(1, min(round(4 * math.sqrt(count)), count // POINTS_A_LIST))
    if lists > count:
        raise RequestError(f"ivf lists is {lists} but there are {count} vectors; at most one list a vector")
    half = on_gpu or vectors_ND.dtype == np.float16
    storage = ("float16" if half else "float32") if settings.storage == "auto" else settings.storage
    probes = min(settings.probes, lists) if settings.probes else None
    return replace(settings, lists=lists, storage=storage, probes=probes)


def make_index(vectors_ND: NDArray[Any], settings: Settings, seed: int, gpus: int = 0) -> Any:
    """A trained CPU index by inner product that holds all vectors; k-means runs on `gpus` GPUs where there are any.

    Raises NumericError for NaN or infinity.
    """
    index = _empty_index(vectors_ND.shape[1], settings)
    if isinstance(settings, IvfSettings):
        _train(index, vectors_ND, seed, gpus)
    with Progress("indexing", len(vectors_ND), "vectors") as progress:
        for _, block_BD in float32_blocks(vectors_ND, "document vectors"):
            index.add(block_BD)
            progress.advance(len(block_BD))
    return index


def _empty_index(dims: int, settings: Settings) -> Any:
    faiss = load_faiss()
    metric = faiss.METRIC_INNER_PRODUCT
    if isinstance(settings, HnswSettings):
        index = faiss.IndexHNSWFlat(dims, settings.links, metric)
        index.hnsw.efConstruction = settings.ef_construction
        return index
    if not isinstance(settings, IvfSettings):
        return faiss.IndexFlatIP(dims)
    centroids = faiss.IndexFlatIP(dims)
    if settings.storage == "float16":
        half = faiss.ScalarQuantizer.QT_fp16
        return faiss.IndexIVFScalarQuantizer(centroids, dims, settings.lists, half, metric, False)
    return faiss.IndexIVFFlat(centroids, dims, settings.lists, metric)


def _train(index: Any, vectors_ND: NDArray[Any], seed: int, gpus: int) -> None:
    faiss = load_faiss()
    index.cp.seed = seed
    index.cp.min_points_per_centroid = 1  # the number of lists is the caller's choice; no warning on standard error
    sample_BD = sample_rows(vectors_ND, index.nlist * TRAIN_VECTORS_A_LIST, seed)
    check_finite(sample_BD, "sampled document vectors")
    logger.info("k-means of %d lists on %d sampled vectors", index.nlist, len(sample_BD))
    if not gpus:
        index.train(sample_BD)
        return
    assigner = faiss.index_cpu_to_gpus_list(faiss.IndexFlatIP(index.d), ngpu=gpus)
    index.clustering_index = assigner
    index.train(sample_BD)
    index.clustering_index = None  # lives on the GPU; must not be reached from the CPU index that is saved


def sample_rows(vectors_ND: NDArray[Any], size: int, seed: int) -> Floats:
    """At most `size` rows as float32, drawn without replacement, in row order."""
    count = len(vectors_ND)
    rows = np.sort(np.random.default_rng(seed).choice(count, min(size, count), replace=False))
    return np.ascontiguousarray(vectors_ND[rows], dtype=np.float32)


def fit_breadth(index: Any, settings: Settings, queries_QD: Floats, true_rows_Qk: Rows, target: float) -> Settings:
    """Set the search breadth on `index`: as asked, else the smallest power of two that reaches `target` recall."""
    if isinstance(settings, IvfSettings):
        probes = settings.probes or _smallest(index, "nprobe", settings.lists or 1, queries_QD, true_rows_Qk, target)
        index.nprobe = probes
        return replace(settings, probes=probes)
    if isinstance(settings, HnswSettings):
        most = max(LEAST_EF, min(index.ntotal, 4096))
        breadth = settings.ef_search or _smallest(index, "efSearch", most, queries_QD, true_rows_Qk, target)
        index.hnsw.efSearch = breadth
        return replace(settings, ef_search=breadth)
    return settings


def _smallest(index: Any, name: str, most: int, queries_QD: Floats, true_rows_Qk: Rows, target: float) -> int:
    holder = index.hnsw if name == "efSearch" else index
    value, found = (LEAST_EF if name == "efSearch" else 1), 0.0
    while True:
        value = min(value, most)
        setattr(holder, name, value)
        found = recall(index.search(queries_QD, true_rows_Qk.shape[1])[1], true_rows_Qk)
        if found >= target or value == most:
            break
        value *= 2
    log = logger.info if found >= target else logger.warning
    log("%s = %d: recall@%d %.3f on the sample, target %.2f", name, value, true_rows_Qk.shape[1], found, target)
    return value


def bytes_per_vector(index: Any) -> float:
    """Bytes of the saved index for each vector: vectors, ids, centroids, links."""
    faiss = load_faiss()
    count = max(index.ntotal, 1)
    if isinstance(index, faiss.IndexIVF):
        return float(index.code_size + 8 + index.nlist * 4 * index.d / count)
    if isinstance(index, faiss.IndexHNSW):
        links = 4 * index.hnsw.neighbors.size() + 8 * index.hnsw.offsets.size() + 4 * index.hnsw.levels.size()
        return float(4 * index.d + links / count)
    return float(4 * index.d)
