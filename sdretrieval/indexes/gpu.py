"""GPU search: the CPU index stays the one that is saved; the GPUs hold shards of it, sized by free memory.

Keeping the CPU index costs its memory once, and gives what the GPU cannot: an index file that any machine loads,
unrounded scores in it, and search beyond faiss' GPU limits (k or nprobe above 2048).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np

from sdretrieval.errors import RequestError, ResourceError
from sdretrieval.formatting import quantity
from sdretrieval.indexes.exact import Floats
from sdretrieval.indexes.faiss_library import gpu_count, load_faiss
from sdretrieval.indexes.hits import Rows, Scores
from sdretrieval.indexes.settings import IndexSettings

logger = logging.getLogger("sdretrieval")

GPU_LIMIT = 2048
"""faiss' GPU kernels select at most this many hits, and look into at most this many lists."""
USABLE = 0.8
"""Share of a GPU's free memory that shards may fill; faiss' scratch memory and the encoder need the rest."""

Move = Callable[[Any, int], Any]


def choose_gpus(device: str, kind: str, shard_bytes: int, level: int = logging.INFO) -> int:
    """How many GPUs to use: 0 = CPU. `shard_bytes` is what all shards of an index of `kind` together need.

    `auto` falls back to the CPU; on a machine with a GPU it logs why, once, at `level`. `cuda` raises ResourceError
    without a GPU or with too little memory on them, and RequestError for a kind that is searched on the CPU only.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise RequestError(f"device {device!r} is unknown; expected auto, cpu or cuda")
    if device == "cpu":
        return 0
    gpus, no_gpu = gpu_count(), IndexSettings(kind).no_gpu
    problem = no_gpu
    if not problem and gpus == 0:
        problem = "faiss sees 0 GPUs"
    elif not problem and (free := free_bytes(gpus)) is not None and shard_bytes > USABLE * sum(free):
        problem = (
            f"the index needs {shard_bytes / 2**30:.1f} GiB, {USABLE:.0%} of the free GPU memory is "
            f"{USABLE * sum(free) / 2**30:.1f} GiB"
        )
    if not problem:
        return gpus
    if device == "auto":
        if gpus or _torch_sees_a_gpu():
            _say_once(level, problem)
        return 0
    remedy = "set device to auto or cpu"
    if no_gpu:
        raise RequestError(f"index device cuda: {problem}; {remedy}, or take kind exact or IVF,Flat")
    raise ResourceError(
        f"index device cuda: {problem}; {remedy}, or check nvidia-smi and that faiss is "
        "the GPU build (pip uninstall faiss-cpu; pip install faiss-gpu)"
    )


@cache
def _say_once(level: int, problem: str) -> None:
    """A run opens a dozen indexes."""
    logger.log(level, "index on the CPU: %s", problem)


def _torch_sees_a_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def shard_bytes(count: int, dims: int, kind: str) -> int:
    """GPU memory of all shards together: exact's are float16, those of IVF hold what it holds; 8 bytes an id."""
    per_dim = {"IVF,Flat": 4, "IVF,SQ8": 1}.get(re.sub(r"\d+k?,", ",", kind), 2)
    return count * (dims * per_dim + 8)


def free_bytes(gpus: int) -> list[int] | None:
    """Free memory of each GPU, or None if torch cannot see the same GPUs as faiss does."""
    import torch

    if not torch.cuda.is_available() or torch.cuda.device_count() != gpus:
        logger.info("free GPU memory is unknown (torch sees %d GPUs, faiss %d)", torch.cuda.device_count(), gpus)
        return None
    return [int(torch.cuda.mem_get_info(gpu)[0]) for gpu in range(gpus)]


def shard_bounds(count: int, weights: Sequence[float]) -> list[tuple[int, int]]:
    """Cut 0 ... count into consecutive ranges (first, behind last) in proportion to `weights`; some can be empty."""
    shares = np.cumsum(np.asarray(weights, dtype=np.float64)) / float(np.sum(weights))
    edges = [0, *np.rint(shares * count).astype(int).tolist()]
    return list(pairwise(edges))


def shard_index(index: Any, weights: Sequence[float], move: Move) -> Any:
    """A faiss IndexShards over row ranges of the CPU `index`; `move(shard, position)` brings each shard to its GPU.

    Flat shards number their rows from 0 and are renumbered by faiss; IVF shards keep the rows of the whole index.
    """
    faiss = load_faiss()
    inverted = isinstance(index, faiss.IndexIVF)
    shards = faiss.IndexShards(index.d, True, not inverted)
    for position, (first, last) in enumerate(shard_bounds(index.ntotal, weights)):
        if first < last:
            if inverted:
                part = _ivf_part(index, first, last)
            else:
                part = faiss.IndexFlatIP(index.d)
                part.add(index.reconstruct_n(first, last - first))
            shards.add_shard(move(part, position))
    return shards


def _ivf_part(index: Any, first: int, last: int) -> Any:
    faiss = load_faiss()
    metric = faiss.METRIC_INNER_PRODUCT
    if isinstance(index, faiss.IndexIVFScalarQuantizer):
        part = faiss.IndexIVFScalarQuantizer(
            index.quantizer, index.d, index.nlist, index.sq.qtype, metric, index.by_residual
        )
        part.sq = index.sq
    else:
        part = faiss.IndexIVFFlat(index.quantizer, index.d, index.nlist, metric)
    part.is_trained, part.nprobe = True, index.nprobe
    index.copy_subset_to(part, faiss.InvertedLists.SUBSET_TYPE_ID_RANGE, first, last)
    return part


@dataclass(frozen=True)
class GpuShards:
    """Shards on GPUs, with the `resources` (scratch memory) that must live as long as they do."""

    shards: Any
    resources: list[Any]

    def search(self, queries_QD: Floats, k: int) -> tuple[Scores, Rows]:
        """Scores and rows (Q, k) as every faiss index returns them; k at most `GPU_LIMIT`."""
        scores_Qk, rows_Qk = self.shards.search(queries_QD, k)
        return scores_Qk, rows_Qk


def to_gpus(index: Any, gpus: int) -> GpuShards:
    """The CPU `index` in shards on `gpus` GPUs, larger shards if more memory is free."""
    faiss = load_faiss()
    options = faiss.GpuClonerOptions()
    options.useFloat16 = True
    resources = [faiss.StandardGpuResources() for _ in range(gpus)]
    weights = free_bytes(gpus) or [1] * gpus
    logger.info("index on %s, shares of rows %s", quantity(gpus, "GPUs"), [f"{w / sum(weights):.0%}" for w in weights])

    def move(part: Any, gpu: int) -> Any:
        return faiss.index_cpu_to_gpu(resources[gpu], gpu, part, options)

    return GpuShards(shard_index(index, weights, move), resources)
