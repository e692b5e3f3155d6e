"""`VectorIndex`: nearest documents by inner product, through faiss, on CPU or GPU.

Legend: Q queries, N documents, D dims, k hits per query.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.indexes.auto import choose
from sdretrieval.indexes.build import bytes_per_vector, fit_breadth, make_index, sample_rows
from sdretrieval.indexes.card import IndexCard, read_card
from sdretrieval.indexes.exact import Floats, all_unit, check_finite, check_matrix, exact_search, recall
from sdretrieval.indexes.faiss_library import faiss_threads, load_faiss
from sdretrieval.indexes.gpu import GPU_LIMIT, choose_gpus, shard_bytes, to_gpus
from sdretrieval.indexes.hits import Hits, empty_hits, ordered
from sdretrieval.indexes.rescore import Rescorer
from sdretrieval.indexes.settings import IndexSettings

logger = logging.getLogger("sdretrieval")

INDEX_FILE = "index.faiss"
TARGET_RECALL = 0.97
"""`nprobe` and `ef_search` left open take the smallest power of two whose recall@100 on the sample reaches this share
of what the index can reach. It is asked of the top 100 because mining draws its candidates from there."""
CARD_QUERIES = 100
CARD_DEPTH = 100
CARD_FIRST = 10
LEAST_SINGLE, SINGLE_SECONDS = 10, 1.0
"""Queries asked alone for the time on the card: the whole sample, or as many as a second allows."""
QUERIES_AT_ONCE = 1024
A_BATCH = 20
"""From so many queries on, brute force goes block by block through one matrix product: several times faster than faiss,
whose product is slow and which sorts as it goes (docs/ABLATIONS.md)."""
EXTRA_HITS = 8
"""Hits asked beyond k and cut again, so that among equal scores (duplicate documents) the lowest rows stay."""


class VectorIndex:
    """A searchable set of vectors. Make it by `build` or `load`; `card` says how well it searches.

    Vectors are meant to be of length 1 (inner product = cosine); others are searched by inner product, with a
    warning. Row numbers are those of the matrix that was built from.
    """

    def __init__(self, index: Any, card: IndexCard, gpus: int = 0, rescorer: Rescorer | None = None) -> None:
        self._cpu = index
        self._gpu = to_gpus(index, gpus) if gpus else None
        self._rescorer = rescorer
        self._vectors_ND: Floats | None = None
        if card.factory == "Flat" and not gpus:
            faiss = load_faiss()
            flat = faiss.downcast_index(index)
            # A view of what faiss holds: valid while the index lives.
            vectors = np.asarray(faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d), dtype=np.float32)
            self._vectors_ND = vectors.reshape(-1, flat.d)
        self.card = replace(card, device=f"cuda x {gpus}" if gpus else "cpu")

    @classmethod
    def build(
        cls,
        vectors_ND: NDArray[Any],
        settings: IndexSettings | str = "exact",
        device: str = "auto",
        *,
        queries_QD: NDArray[Any] | None = None,
        target_recall: float = TARGET_RECALL,
        unit: bool = True,
        seed: int = 13,
        threads: int | None = None,
        repeatable: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> VectorIndex:
        """Build an index over `vectors_ND` (numpy or memory map, float16 or float32; streamed by blocks).

        settings: an `IndexSettings`, or its kind alone: `exact`, `auto` or a FAISS factory string. If hits are
        rescored, `vectors_ND` must stay as they are until the index is saved. device: auto | cpu | cuda.
        queries_QD: real queries to fit and measure recall on; without them, sampled documents stand in.
        unit: whether vectors are expected to have length 1; a warning says if they have not.
        threads: OpenMP threads of faiss while building; None leaves the process' count alone. repeatable: one thread
        if several would build another index each time. clock: whose seconds the card holds (`time.process_time` on a
        machine that does other work as well, with one thread).
        Raises RequestError (shape, setting, string, too few vectors for it), ResourceError (no GPU), NumericError (NaN
        or infinity).
        """
        settings = (IndexSettings(settings) if isinstance(settings, str) else settings).checked()
        check_matrix(vectors_ND, "document vectors")
        if queries_QD is not None:
            check_matrix(queries_QD, "query vectors", vectors_ND.shape[1])
        for what, matrix in (("vectors", vectors_ND), ("queries", queries_QD)):
            if matrix is not None and len(matrix) == 0:
                raise RequestError(f"an index cannot be built from 0 {what}; check that the corpus was encoded")
        count, dims = vectors_ND.shape
        choice = choose(settings, count, dims)
        some = sample_rows(vectors_ND, CARD_QUERIES, seed)
        choice.settings.check(dims, count, unit=all_unit(some, expected=unit))
        if choice.reason:
            logger.info("index %s takes %s", settings.kind, choice.reason)
        fitted = choice.settings.fitted(count)
        gpus = choose_gpus(device, fitted.kind, shard_bytes(count, dims, fitted.kind))
        with faiss_threads(1 if repeatable and fitted.one_thread else threads):
            started = clock()
            index = make_index(vectors_ND, fitted, seed, gpus)
            seconds = clock() - started
        rescorer = Rescorer.of(vectors_ND, fitted.rescore_storage) if fitted.rescore else None
        card = IndexCard(
            factory=fitted.kind, count=count, dims=dims, device="cpu", settings=fitted.record(),
            build_seconds=round(seconds, 3), bytes_per_vector=round(bytes_per_vector(index), 1),
            recall_source="documents" if queries_QD is None else "queries",
            rescore_bytes_per_vector=rescorer.bytes_per_vector if rescorer else 0, reason=choice.reason,
        )  # fmt: skip
        sample = sample_rows(vectors_ND if queries_QD is None else queries_QD, CARD_QUERIES, seed)
        truth = exact_search(vectors_ND, sample, min(CARD_DEPTH, count))
        on_cpu = cls(index, card, 0, rescorer)
        with faiss_threads(threads):
            fitted = fit_breadth(
                index, fitted, lambda queries, k: on_cpu.search(queries, k).rows_Qk, sample, truth.rows_Qk,
                target_recall,
            )  # fmt: skip
        built = cls(index, replace(card, settings=fitted.record()), gpus, rescorer)
        built.measure(sample, truth, clock)
        return built

    def search(self, queries_QD: NDArray[Any], k: int) -> Hits:
        """The best k documents of each query, best first, equal scores by row; lists shorter than k are padded.

        Searched in chunks, so that memory stays bounded by the answer. On a GPU, k (or nprobe) above 2048 is
        searched on the CPU. Raises RequestError (k below 1, dims that do not fit), NumericError (NaN or infinity).
        """
        if k < 1:
            raise RequestError(f"k is {k}; expected at least 1")
        check_matrix(queries_QD, "query vectors", self.card.dims)
        hits = empty_hits(len(queries_QD), k)
        for start in range(0, len(queries_QD), QUERIES_AT_ONCE):
            chunk = np.ascontiguousarray(queries_QD[start : start + QUERIES_AT_ONCE], dtype=np.float32)
            check_finite(chunk, "query vectors", start)
            part = self._search_chunk(chunk, k)
            hits.rows_Qk[start : start + len(chunk)], hits.scores_Qk[start : start + len(chunk)] = part
        return hits

    def _search_chunk(self, queries_QD: Floats, k: int) -> Hits:
        if self._vectors_ND is not None and len(queries_QD) >= A_BATCH:
            return exact_search(self._vectors_ND, queries_QD, k)
        extra = EXTRA_HITS if k > GPU_LIMIT else min(EXTRA_HITS, GPU_LIMIT - k)
        factor = self.card.settings.get("rescore", 1) if self._rescorer else 1
        depth = min(max(k + extra, factor * k), self.card.count)
        searcher = self._cpu
        if self._gpu is not None:
            if max(depth, self.card.settings.get("nprobe") or 0) <= GPU_LIMIT:
                searcher = self._gpu
            else:
                logger.info("k or nprobe above %d: faiss cannot search that on a GPU, so the CPU does", GPU_LIMIT)
        scores, rows = searcher.search(queries_QD, depth)
        if self._rescorer is not None:
            scores = self._rescorer.scores(queries_QD, rows)
        return ordered(Hits(rows, scores), k)

    def measure(self, queries_QD: NDArray[Any], truth: Hits, clock: Callable[[], float] = time.perf_counter) -> None:
        """Put recall@10, recall@100 and time by these queries and their true hits (`exact_search`) on the card."""
        depth = truth.rows_Qk.shape[1]
        started = clock()
        hits = self.search(queries_QD, depth)
        batch = clock() - started
        first = min(CARD_FIRST, depth)
        best = self.search(queries_QD, first)
        # Queries asked one at a time.
        started, alone = clock(), 0
        for query_D in queries_QD:
            self.search(query_D[None], first)
            alone += 1
            if alone >= LEAST_SINGLE and clock() - started > SINGLE_SECONDS:
                break
        single = (clock() - started) / alone
        self.card = replace(
            self.card,
            recall_at_10=round(recall(best.rows_Qk, truth.rows_Qk[:, :first]), 4),
            recall_at_100=round(recall(hits.rows_Qk, truth.rows_Qk), 4),
            recall_queries=len(queries_QD),
            search_ms_per_query=round(1000 * batch / len(queries_QD), 4),
            single_ms_per_query=round(1000 * single, 4),
        )

    def save(self, folder: str | Path) -> None:
        """Write index.faiss (always a CPU index, loadable anywhere) and card.json into `folder`.

        If hits are rescored, the vectors for that as well.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        load_faiss().write_index(self._cpu, str(folder / INDEX_FILE))
        if self._rescorer is not None:
            self._rescorer.save(folder)
        self.card.write(folder)

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> VectorIndex:
        """Read what `save` wrote. Raises DamagedArtifact if it cannot be read, ResourceError without a GPU."""
        folder = Path(folder)
        card = read_card(folder)
        faiss = load_faiss()
        try:
            index = faiss.read_index(str(folder / INDEX_FILE))
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise DamagedArtifact(f"{folder / INDEX_FILE} cannot be read ({reason}); build the index again") from error
        if (index.ntotal, index.d) != (card.count, card.dims):
            raise DamagedArtifact(
                f"{folder} holds {index.ntotal} vectors of {index.d} dims, its card says {card.count} of {card.dims}; "
                "build the index again"
            )
        rescorer = None
        if card.settings.get("rescore"):
            rescorer = Rescorer.open(folder, card.settings["rescore_storage"], card.count, card.dims)
        needed = shard_bytes(card.count, card.dims, card.factory)
        return cls(
            index, card, choose_gpus(device, card.factory, needed, logging.DEBUG), rescorer
        )  # its build said why
