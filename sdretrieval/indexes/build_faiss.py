"""Make the CPU index of faiss out of vectors that may lie in a memory map, and fit its search breadth.

Legend: N documents, D dims, Q sampled queries, k hits per query.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import RequestError
from sdretrieval.indexes.blocks import Floats, check_finite, float32_blocks
from sdretrieval.indexes.exact import recall
from sdretrieval.indexes.faiss_library import load_faiss, reason_of
from sdretrieval.indexes.hits import Rows
from sdretrieval.indexes.kinds.base import Settings
from sdretrieval.indexes.kinds.codes import CENTROIDS, warn_of_few
from sdretrieval.progress import Progress

logger = logging.getLogger("sdretrieval")

TRAIN_VECTORS_A_LIST = 64
"""k-means sees at most this many vectors per centroid, which bounds its memory and time; faiss itself warns below
39 and subsamples above 256."""
TRAIN_VECTORS_OF_CODES = 128 * CENTROIDS
"""Codes have few centroids, shared by all vectors, so they may see more; twice as many take twice as long."""
ROTATION_VECTORS, ROTATION_ROUNDS = 64 * CENTROIDS, 20
"""faiss' own are four times as many and 50 rounds, for little more recall."""
LEAST_EF = 128
"""faiss searches HNSW at least k wide, so for recall@100 a smaller `ef_search` changes nothing."""
MOST_EF = 4096
FAISS_NAMES = {"probes": "nprobe", "ef_search": "efSearch"}

Searching = Callable[[Floats, int], Rows]


def make_index(vectors_ND: NDArray[Any], settings: Settings, seed: int, gpus: int = 0) -> Any:
    """A trained CPU index of `settings` (fitted) that holds all vectors; k-means runs on `gpus` GPUs if there are any.

    Raises NumericError for NaN or infinity, RequestError where faiss cannot build what a factory string asks for.
    """
    index = settings.empty(vectors_ND.shape[1])
    with _refusals(settings):
        if not index.is_trained:
            _train(index, vectors_ND, seed, gpus)
        with Progress("indexing", len(vectors_ND), "vectors") as progress:
            for _, block_BD in float32_blocks(vectors_ND, "document vectors"):
                index.add(block_BD)
                progress.advance(len(block_BD))
    settings.complete(index)
    return index


@contextmanager
def _refusals(settings: Settings) -> Iterator[None]:
    """faiss says only while building what some factory strings lack: enough vectors, or ids."""
    try:
        yield
    except RuntimeError as error:
        asked = settings.factory_string()
        raise RequestError(f"faiss cannot build an index {asked!r} of these vectors: {reason_of(error)}") from error


def _train(index: Any, vectors_ND: NDArray[Any], seed: int, gpus: int) -> None:
    faiss = load_faiss()
    lists, coded = _seed(index, seed)
    size = max(lists * TRAIN_VECTORS_A_LIST, TRAIN_VECTORS_OF_CODES if coded or not lists else 0)
    sample_BD = sample_rows(vectors_ND, size, seed)
    check_finite(sample_BD, "sampled document vectors")
    if coded:
        warn_of_few(len(sample_BD))
    logger.info(
        "training on %d sampled vectors: %s",
        len(sample_BD), f"k-means of {lists} lists" if lists else "codes",
    )  # fmt: skip
    if not gpus:
        with _rotations(index, seed):
            index.train(sample_BD)
        return
    assigner = faiss.index_cpu_to_gpus_list(faiss.IndexFlatIP(index.d), ngpu=gpus)
    index.clustering_index = assigner
    index.train(sample_BD)
    index.clustering_index = None  # lives on the GPU; must not be reached from the CPU index that is saved


def _seed(index: Any, seed: int) -> tuple[int, bool]:
    """Seed all that is drawn while training; number of inverted lists, and whether there are codes to train."""
    faiss = load_faiss()
    lists, coded = 0, False
    for part in _parts(index):
        if isinstance(part, faiss.IndexIVF):
            lists = part.nlist
        if isinstance(getattr(part, "pq", None), faiss.ProductQuantizer):
            coded = True
            _seed_clustering(part.pq.cp, seed)
            if hasattr(part, "do_polysemous_training"):  # minutes of annealing, of use only to a Hamming filter
                part.do_polysemous_training = False
        if isinstance(getattr(part, "cp", None), faiss.ClusteringParameters):
            _seed_clustering(part.cp, seed)
    return lists, coded


def _seed_clustering(parameters: Any, seed: int) -> None:
    parameters.seed = seed
    parameters.min_points_per_centroid = 1  # we say ourselves where vectors are few; no warning on standard error


@contextmanager
def _rotations(index: Any, seed: int) -> Iterator[None]:
    """Inside, OPQ fits its rotation on fewer vectors and in fewer rounds than faiss would, by codes of our seed."""
    faiss = load_faiss()
    transforms = []
    if isinstance(index, faiss.IndexPreTransform):
        places = range(index.chain.size())
        transforms = [faiss.downcast_VectorTransform(index.chain.at(place)) for place in places]
    rotations = [(one, faiss.ProductQuantizer(one.d_out, one.M, 8)) for one in transforms if hasattr(one, "pq")]
    for rotation, codes in rotations:
        rotation.max_train_points, rotation.niter = ROTATION_VECTORS, ROTATION_ROUNDS
        _seed_clustering(codes.cp, seed)
        rotation.pq = codes
    try:
        yield
    finally:
        for rotation, _ in rotations:
            rotation.pq = None  # ours, and gone when this ends


def _parts(index: Any) -> Iterator[Any]:
    """The index, what lies below its transforms, and what a graph lies over."""
    faiss = load_faiss()
    while index is not None:
        index = faiss.downcast_index(index)
        yield index
        if isinstance(index, faiss.IndexPreTransform | faiss.IndexIDMap):
            index = index.index
        elif isinstance(index, faiss.IndexRefine):
            index = index.base_index
        else:
            index = index.storage if isinstance(index, faiss.IndexHNSW) else None


def sample_rows(vectors_ND: NDArray[Any], size: int, seed: int) -> Floats:
    """At most `size` rows as float32, drawn without replacement, in row order."""
    count = len(vectors_ND)
    rows = np.sort(np.random.default_rng(seed).choice(count, min(size, count), replace=False))
    return np.ascontiguousarray(vectors_ND[rows], dtype=np.float32)


def fit_breadth(
    index: Any, settings: Settings, search: Searching, queries_QD: Floats, true_rows_Qk: Rows, target: float
) -> Settings:
    """Set the search breadth on `index`: as asked, else the smallest power of two that reaches `target` recall.

    Codes cannot reach it at any breadth: there, `target` is the share of what the broadest search finds.
    `search(queries_QD, k)` gives rows as a user of the index gets them, rescoring included.
    """
    name = settings.breadth
    if name is None:
        return settings
    asked = getattr(settings, name)
    if asked is not None:
        _set_breadth(index, name, asked)
        return settings

    def found(value: int) -> float:
        _set_breadth(index, name, value)
        return recall(search(queries_QD, true_rows_Qk.shape[1]), true_rows_Qk)

    least, most = _range(index, name)
    reachable = found(most) if settings.lossy else 1.0
    return replace(settings, **{name: _smallest(name, found, least, most, target * reachable)})


def _set_breadth(index: Any, name: str, value: int) -> None:
    load_faiss().ParameterSpace().set_index_parameter(index, FAISS_NAMES[name], value)


def _range(index: Any, name: str) -> tuple[int, int]:
    if name == "probes":
        return 1, int(load_faiss().extract_index_ivf(index).nlist)
    return LEAST_EF, max(LEAST_EF, min(index.ntotal, MOST_EF))


def _smallest(name: str, found: Callable[[int], float], least: int, most: int, target: float) -> int:
    value = least
    while True:
        value = min(value, most)
        share = found(value)
        if share >= target or value == most:
            break
        value *= 2
    log = logger.info if share >= target else logger.warning
    log("%s = %d: recall@100 %.3f on the sample, target %.2f", name, value, share, target)
    return value


def bytes_per_vector(index: Any) -> float:
    """Bytes of the saved index for each vector: vectors or codes, ids, centroids, links. Counted, not kept."""
    faiss = load_faiss()
    written = 0

    def count(block: bytes) -> None:
        nonlocal written
        written += len(block)

    faiss.write_index(index, faiss.PyCallbackIOWriter(count))
    return float(written / max(index.ntotal, 1))


def stored_vectors(index: Any) -> Floats:
    """What an exact index holds, shape (N, D), without a copy: valid while the index lives."""
    faiss = load_faiss()
    flat = faiss.downcast_index(index)
    return np.asarray(faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d), dtype=np.float32).reshape(-1, flat.d)
