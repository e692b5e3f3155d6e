"""Make the CPU index of faiss out of vectors that may be a memory map, and fit its search breadth.

Legend: N documents, D dims, B sampled vectors, Q sampled queries, k hits per query.
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
from sdretrieval.indexes.exact import Floats, check_finite, float32_blocks, recall
from sdretrieval.indexes.faiss_library import codebook_size, load_faiss, parts_of, reason_of
from sdretrieval.indexes.hits import Rows
from sdretrieval.indexes.settings import POINTS_A_CENTROID, IndexSettings
from sdretrieval.progress import Progress

logger = logging.getLogger("sdretrieval")

TRAIN_VECTORS_A_LIST = 64
"""k-means sees at most this many vectors per centroid, which bounds its memory and time; faiss itself warns below
39 and subsamples above 256."""
CENTROIDS = 256
"""Of each byte of a code."""
TRAIN_VECTORS_OF_CODES = 128 * CENTROIDS
"""Codes have few centroids, shared by all vectors, so they may see more; twice as many take twice as long."""
ROTATION_VECTORS, ROTATION_ROUNDS = 64 * CENTROIDS, 20
"""faiss' own are four times as many and 50 rounds, for little more recall."""
LEAST_EF = 128
"""faiss searches HNSW at least k wide, so for recall@100 a smaller `ef_search` changes nothing."""
MOST_EF = 4096
FAISS_NAMES = {"nprobe": "nprobe", "ef_search": "efSearch"}

Searching = Callable[[Floats, int], Rows]


def make_index(vectors_ND: NDArray[Any], settings: IndexSettings, seed: int, gpus: int = 0) -> Any:
    """A trained CPU index of `settings` that holds all vectors; k-means runs on `gpus` GPUs if there are any.

    Raises NumericError for NaN or infinity, RequestError if faiss cannot build what a factory string asks for.
    """
    faiss = load_faiss()
    index = settings.empty(vectors_ND.shape[1], len(vectors_ND))
    try:
        if not index.is_trained:
            _train(index, vectors_ND, seed, gpus)
        with Progress("indexing", len(vectors_ND), "vectors") as progress:
            for _, block_BD in float32_blocks(vectors_ND, "document vectors"):
                index.add(block_BD)
                progress.advance(len(block_BD))
    except RuntimeError as error:  # only now does faiss say what some strings lack: enough vectors, or ids
        raise RequestError(
            f"faiss cannot build an index {settings.kind!r} of these vectors: {reason_of(error)}"
        ) from error
    # faiss compares two product-quantised codes by their L2 distance, whatever it is asked for. A graph linked by L2 is
    # walked by inner product: among vectors of length 1 both know the same neighbours.
    for part in parts_of(index):
        if isinstance(part, faiss.IndexHNSW):
            index.metric_type = part.metric_type = part.storage.metric_type = faiss.METRIC_INNER_PRODUCT
            if hasattr(part.hnsw, "is_similarity"):  # versions before 1.14 ask metric_type alone
                part.hnsw.is_similarity = True
    return index


def _train(index: Any, vectors_ND: NDArray[Any], seed: int, gpus: int) -> None:
    faiss = load_faiss()
    # Seed all that is drawn while training.
    lists, coded = 0, False
    for part in parts_of(index):
        if isinstance(part, faiss.IndexIVF):
            lists = part.nlist
        if codebook_size(part):
            coded = True
            _seed_clustering(part.pq.cp, seed)
            if hasattr(part, "do_polysemous_training"):  # minutes of annealing, of use only to a Hamming filter
                part.do_polysemous_training = False
        if isinstance(getattr(part, "cp", None), faiss.ClusteringParameters):
            _seed_clustering(part.cp, seed)
    size = max(lists * TRAIN_VECTORS_A_LIST, TRAIN_VECTORS_OF_CODES if coded or not lists else 0)
    sample_BD = sample_rows(vectors_ND, size, seed)
    check_finite(sample_BD, "sampled document vectors")
    if coded and len(sample_BD) < POINTS_A_CENTROID * CENTROIDS:
        logger.warning(
            "codes of %d centroids a byte trained on %d vectors: expected %d or more; recall may be poor on new texts",
            CENTROIDS, len(sample_BD), POINTS_A_CENTROID * CENTROIDS,
        )  # fmt: skip
    what = f"k-means of {lists} lists" if lists else "codes"
    logger.info("training on %d sampled vectors: %s", len(sample_BD), what)
    if not gpus:
        with _rotations(index, seed):
            index.train(sample_BD)
        return
    assigner = faiss.index_cpu_to_gpus_list(faiss.IndexFlatIP(index.d), ngpu=gpus)
    index.clustering_index = assigner
    index.train(sample_BD)
    index.clustering_index = None  # lives on the GPU; must not be reached from the CPU index that is saved


def _seed_clustering(parameters: Any, seed: int) -> None:
    parameters.seed = seed
    parameters.min_points_per_centroid = 1  # we say ourselves when vectors are few; no warning on standard error


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


def sample_rows(vectors_ND: NDArray[Any], size: int, seed: int) -> Floats:
    """At most `size` rows as float32, drawn without replacement, in row order."""
    count = len(vectors_ND)
    rows = np.sort(np.random.default_rng(seed).choice(count, min(size, count), replace=False))
    return np.ascontiguousarray(vectors_ND[rows], dtype=np.float32)


def fit_breadth(
    index: Any, settings: IndexSettings, search: Searching, queries_QD: Floats, true_rows_Qk: Rows, target: float
) -> IndexSettings:
    """Set the search breadth on `index`: the one in `settings`, else the smallest power of two that reaches `target`.

    Codes cannot reach that recall at any breadth: there, `target` is the share of what the broadest search finds.
    `search(queries_QD, k)` gives rows as a user of the index gets them, rescoring included.
    """
    faiss, name = load_faiss(), settings.breadth
    if name is None:
        return settings

    def recall_at(value: int) -> float:
        faiss.ParameterSpace().set_index_parameter(index, FAISS_NAMES[name], value)
        return recall(search(queries_QD, true_rows_Qk.shape[1]), true_rows_Qk)

    if (given := getattr(settings, name)) is not None:
        faiss.ParameterSpace().set_index_parameter(index, FAISS_NAMES[name], given)
        return settings
    value, most = LEAST_EF, max(LEAST_EF, min(index.ntotal, MOST_EF))
    if name == "nprobe":
        value, most = 1, int(faiss.extract_index_ivf(index).nlist)
    wanted = target * (recall_at(most) if settings.lossy else 1.0)
    while (share := recall_at(value)) < wanted and value < most:
        value = min(2 * value, most)
    log = logger.info if share >= wanted else logger.warning
    log("%s = %d: recall@100 %.3f on the sample, target %.2f", name, value, share, wanted)
    changes: dict[str, Any] = {name: value}
    return replace(settings, **changes)


def bytes_per_vector(index: Any) -> float:
    """Bytes of the saved index for each vector: vectors or codes, ids, centroids, links. Counted, not kept."""
    faiss = load_faiss()
    written = 0

    def count(block: bytes) -> None:
        nonlocal written
        written += len(block)

    faiss.write_index(index, faiss.PyCallbackIOWriter(count))
    return float(written / max(index.ntotal, 1))
