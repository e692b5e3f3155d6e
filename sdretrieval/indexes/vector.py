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
from sdretrieval.indexes.blocks import Floats, check_finite, check_matrix, warn_unless_unit
from sdretrieval.indexes.build_faiss import bytes_per_vector, fit_breadth, make_index, sample_rows, stored_vectors
from sdretrieval.indexes.card import IndexCard, read_card
from sdretrieval.indexes.exact import exact_search, recall
from sdretrieval.indexes.faiss_library import faiss_threads, load_faiss
from sdretrieval.indexes.gpu import GPU_LIMIT, choose_gpus, shard_bytes, to_gpus
from sdretrieval.indexes.hits import Hits, empty_hits, ordered
from sdretrieval.indexes.kinds.base import Settings
from sdretrieval.indexes.rescore import Rescorer
from sdretrieval.indexes.settings import TARGET_RECALL, as_record, index_settings

logger = logging.getLogger("sdretrieval")

INDEX_FILE = "index.faiss"
CARD_QUERIES = 100
CARD_DEPTH = 100
CARD_FIRST = 10
LEAST_SINGLE, SINGLE_SECONDS = 10, 1.0
"""Queries asked alone for the time on the card: all of the sample, or as many as a second allows."""
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
        self._vectors_ND = stored_vectors(index) if card.kind == "exact" and not gpus else None
        self.card = replace(card, device=f"cuda x {gpus}" if gpus else "cpu")

    @classmethod
    def build(
        cls,
        vectors_ND: NDArray[Any],
        kind: str = "exact",
        device: str = "auto",
        *,
        queries_QD: NDArray[Any] | None = None,
        target_recall: float = TARGET_RECALL,
        seed: int = 13,
        threads: int | None = None,
        repeatable: bool = False,
        clock: Callable[[], float] = time.perf_counter,
        **settings: Any,
    ) -> VectorIndex:
        """Build an index over `vectors_ND` (numpy or memory map, float16 or float32; streamed by blocks).

        kind: see `indexes/settings.py`; its `settings` are the fields in `indexes/kinds/`. device: auto | cpu | cuda.
        Where hits are rescored, `vectors_ND` must stay as they are until the index is saved.
        queries_QD: real queries to fit and measure recall on; without them, sampled documents stand in.
        threads: OpenMP threads of faiss while building; None leaves the process' count alone. repeatable: one thread
        where several would build another index each time. clock: whose seconds the card holds (`time.process_time` on a
        machine that does other work as well, with one thread).
        Raises RequestError (shape, kind, setting, too few vectors for it), ResourceError (no GPU), NumericError (NaN
        or infinity).
        """
        asked = index_settings(kind, settings)
        _check_input(vectors_ND, queries_QD)
        count, dims = vectors_ND.shape
        chosen, reason = asked.chosen(count, dims)
        chosen.check(dims, count)
        if reason:
            logger.info("index %s takes %s", kind, reason)
        gpus = choose_gpus(device, chosen.kind, shard_bytes(count, dims, getattr(chosen, "storage", None)))
        fitted = chosen.fitted(count, dims, gpus > 0 or vectors_ND.dtype == np.float16)
        with faiss_threads(1 if repeatable and fitted.one_thread else threads):
            started = clock()
            index = make_index(vectors_ND, fitted, seed, gpus)
            seconds = clock() - started
        rescorer = Rescorer.of(vectors_ND, fitted.rescoring.storage) if fitted.rescoring else None
        card = IndexCard(
            kind=fitted.kind, count=count, dims=dims, device="cpu", settings=as_record(fitted),
            build_seconds=round(seconds, 3), bytes_per_vector=round(bytes_per_vector(index), 1),
            recall_source="documents" if queries_QD is None else "queries", factory=fitted.factory_string(),
            rescore_bytes_per_vector=rescorer.bytes_per_vector if rescorer else 0, reason=reason,
        )  # fmt: skip
        sample, truth = _sample(vectors_ND, queries_QD, seed)
        on_cpu = cls(index, card, 0, rescorer)
        with faiss_threads(threads):
            card = on_cpu._fit_breadth(fitted, sample, truth, target_recall)
        built = cls(index, card, gpus, rescorer)
        built.measure(sample, truth, clock)
        return built

    def _fit_breadth(self, settings: Settings, queries_QD: Floats, truth: Hits, target: float) -> IndexCard:
        fitted = fit_breadth(
            self._cpu, settings, lambda queries, k: self.search(queries, k).rows_Qk, queries_QD, truth.rows_Qk, target
        )
        return replace(self.card, settings=as_record(fitted))

    def search(self, queries_QD: NDArray[Any], k: int) -> Hits:
        """The best k documents of each query, best first, equal scores by row; lists shorter than k are padded.

        Searched in chunks, so that memory stays bounded by the answer. On a GPU, k (or probes) above 2048 is
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
        scores, rows = self._searcher(depth).search(queries_QD, depth)
        if self._rescorer is not None:
            scores = self._rescorer.scores(queries_QD, rows)
        return ordered(Hits(rows, scores), k)

    def _searcher(self, depth: int) -> Any:
        if self._gpu is None:
            return self._cpu
        if max(depth, self.card.settings.get("probes") or 0) <= GPU_LIMIT:
            return self._gpu
        logger.info("k or probes above %d: faiss cannot search that on a GPU, so the CPU index is used", GPU_LIMIT)
        return self._cpu

    def measure(self, queries_QD: NDArray[Any], truth: Hits, clock: Callable[[], float] = time.perf_counter) -> None:
        """Put recall@10, recall@100 and time by these queries and their true hits (`exact_search`) on the card."""
        depth = truth.rows_Qk.shape[1]
        started = clock()
        found = self.search(queries_QD, depth)
        batch = clock() - started
        first = min(CARD_FIRST, depth)
        best = self.search(queries_QD, first)
        self.card = replace(
            self.card,
            recall_at_10=round(recall(best.rows_Qk, truth.rows_Qk[:, :first]), 4),
            recall_at_100=round(recall(found.rows_Qk, truth.rows_Qk), 4),
            recall_queries=len(queries_QD),
            search_ms_per_query=round(1000 * batch / len(queries_QD), 4),
            single_ms_per_query=round(1000 * self._alone(queries_QD, first, clock), 4),
        )

    def _alone(self, queries_QD: NDArray[Any], k: int, clock: Callable[[], float]) -> float:
        """Seconds a query, asked one at a time."""
        started, done = clock(), 0
        for query_D in queries_QD:
            self.search(query_D[None], k)
            done += 1
            if done >= LEAST_SINGLE and clock() - started > SINGLE_SECONDS:
                break
        return (clock() - started) / done

    def save(self, folder: str | Path) -> None:
        """Write index.faiss (always a CPU index, loadable anywhere) and card.json into `folder`.

        Where hits are rescored, the vectors for that as well.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        load_faiss().write_index(self._cpu, str(folder / INDEX_FILE))
        if self._rescorer is not None:
            self._rescorer.save(folder)
        self.card.write(folder)

    @classmethod
    def load(cls, folder: str | Path, device: str = "auto") -> VectorIndex:
        """Read what `save` wrote. Raises DamagedArtifact where it cannot be read, ResourceError without a GPU."""
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
        needed = shard_bytes(card.count, card.dims, card.settings.get("storage"))
        return cls(index, card, choose_gpus(device, card.kind, needed, logging.DEBUG), rescorer)  # its build said why


def _check_input(vectors_ND: NDArray[Any], queries_QD: NDArray[Any] | None) -> None:
    check_matrix(vectors_ND, "document vectors")
    if queries_QD is not None:
        check_matrix(queries_QD, "query vectors", vectors_ND.shape[1])
    for what, matrix in (("vectors", vectors_ND), ("queries", queries_QD)):
        if matrix is not None and len(matrix) == 0:
            raise RequestError(f"an index cannot be built from 0 {what}; check that the corpus was encoded")


def _sample(vectors_ND: NDArray[Any], queries_QD: NDArray[Any] | None, seed: int) -> tuple[Floats, Hits]:
    """Queries for the card, and their true hits."""
    warn_unless_unit(sample_rows(vectors_ND, CARD_QUERIES, seed))
    sample = sample_rows(vectors_ND if queries_QD is None else queries_QD, CARD_QUERIES, seed)
    return sample, exact_search(vectors_ND, sample, min(CARD_DEPTH, len(vectors_ND)))
