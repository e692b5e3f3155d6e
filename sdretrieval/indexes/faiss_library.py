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
    """The faiss module. Raises MissingPackageError, holding the pip command, where it is absent or cannot start."""
    try:
        return importlib.import_module("faiss")
    except ModuleNotFoundError as error:
        if error.name != "faiss":
            raise MissingPackageError(_broken(error)) from error
        raise MissingPackageError(
            f"vector search needs faiss, and neither faiss-cpu nor faiss-gpu is installed; run: {INSTALL}"
        ) from error
    except (ImportError, OSError, RuntimeError) as error:  # faiss-gpu raises RuntimeError where a CUDA wheel is absent
        raise MissingPackageError(_broken(error)) from error


def _broken(error: Exception) -> str:
    return f"faiss is installed but does not start ({error}); install it anew: {INSTALL}"


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
