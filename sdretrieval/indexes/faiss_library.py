"""faiss comes from one of two wheels that exclude each other (`faiss-cpu`, `faiss-gpu`): one place asks for it."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sdretrieval.errors import MissingPackageError

INSTALL = "pip install faiss-cpu  (or, on a machine with an NVIDIA GPU: pip install faiss-gpu)"


def load_faiss() -> Any:
    """The faiss module. Raises MissingPackageError, holding the pip command, if it is absent or cannot start."""
    try:
        return importlib.import_module("faiss")
    except (ImportError, OSError, RuntimeError) as error:  # faiss-gpu raises RuntimeError if a CUDA wheel is absent
        if isinstance(error, ModuleNotFoundError) and error.name == "faiss":
            message = f"vector search needs faiss, and neither faiss-cpu nor faiss-gpu is installed; run: {INSTALL}"
        else:
            message = f"faiss is installed but does not start ({error}); install it again: {INSTALL}"
        raise MissingPackageError(message) from error


def reason_of(error: RuntimeError) -> str:
    """What faiss says is wrong, without the C++ signature and source line around it."""
    last = str(error).strip().splitlines()[-1]
    return re.sub(r"^Error in .*?\.(cpp|h):\d+: ", "", last).removeprefix("Error: ").strip()


def gpu_count() -> int:
    """Number of GPUs that faiss can use: 0 for faiss-cpu, and for faiss-gpu on a machine without a GPU."""
    faiss = load_faiss()
    if not hasattr(faiss, "StandardGpuResources"):
        return 0
    return int(faiss.get_num_gpus())


def parts_of(index: Any) -> Iterator[Any]:
    """The index, what is below its transforms, what a graph links, and what a refinement refines (not with what).

    The parts are the index' own: keep it alive as long as one of them is used.
    """
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


def codebook_size(part: Any) -> int:
    """Centroids that each part of a product-quantised vector is one of; 0 without product quantisation."""
    quantizer = getattr(part, "pq", None)
    return int(quantizer.ksub) if isinstance(quantizer, load_faiss().ProductQuantizer) else 0


@contextmanager
def faiss_threads(threads: int | None) -> Iterator[None]:
    """Inside, faiss uses `threads` OpenMP threads; None leaves the count alone (torch shares the OpenMP runtime)."""
    if threads is None:
        yield
        return
    faiss = load_faiss()
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(threads)
    try:
        yield
    finally:
        faiss.omp_set_num_threads(before)
