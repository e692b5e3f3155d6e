"""Shards: cut right and searched as one. What needs no GPU is tested on CPU shards; the kernels only where one is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.errors import RequestError, ResourceError
from sdretrieval.indexes import IndexSettings, VectorIndex, exact_search, gpu, recall
from sdretrieval.indexes.build import make_index
from sdretrieval.indexes.faiss_library import gpu_count

needs_faiss_gpu = pytest.mark.skipif(gpu_count() == 0, reason="faiss sees 0 GPUs (the CPU build, or no device)")
VECTORS = np.random.default_rng(0).normal(size=(3000, 32)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
TRUE = exact_search(VECTORS, VECTORS[:40], 100)


@given(count=st.integers(0, 5000), weights=st.lists(st.floats(0.1, 100), min_size=1, max_size=8))
def test_bounds_cover_every_row_once_in_proportion(count: int, weights: list[float]) -> None:
    bounds = gpu.shard_bounds(count, weights)
    assert [row for first, last in bounds for row in range(first, last)] == list(range(count))
    for (first, last), weight in zip(bounds, weights, strict=True):
        assert abs((last - first) - count * weight / sum(weights)) <= 1


@pytest.mark.parametrize("weights", [[1], [3, 1, 2], [1, 0, 1]])
@pytest.mark.parametrize("kind", ["exact", "IVF12,Flat", "IVF12,SQfp16"])
def test_shards_of_unequal_size_find_what_the_whole_index_finds(kind: str, weights: list[float]) -> None:
    whole = make_index(VECTORS, IndexSettings(kind), seed=13)
    if kind != "exact":
        whole.nprobe = 12
    moved_to: list[int] = []
    shards = gpu.shard_index(whole, weights, lambda shard, position: (moved_to.append(position), shard)[1])
    assert moved_to == [position for position, weight in enumerate(weights) if weight]
    assert recall(shards.search(VECTORS[:40], 100)[1], TRUE.rows_Qk) > 0.995


def test_hnsw_stays_on_the_cpu_and_says_so_once_where_there_is_a_gpu(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    gpu._say_once.cache_clear()
    monkeypatch.setattr(gpu, "_torch_sees_a_gpu", lambda: False)
    monkeypatch.setattr(gpu, "gpu_count", lambda: 0)
    assert gpu.choose_gpus("auto", "HNSW32", 1) == gpu.choose_gpus("auto", "exact", 1) == 0
    assert caplog.text == "", "nobody misses what is not there"
    monkeypatch.setattr(gpu, "_torch_sees_a_gpu", lambda: True)
    for _ in range(3):
        assert gpu.choose_gpus("auto", "HNSW32", 1) == gpu.choose_gpus("auto", "exact", 1) == 0
    assert [line.partition("; ")[2] or line for line in caplog.messages] == [
        "HNSW32 is searched on the CPU", "index on the CPU: faiss sees 0 GPUs",
    ]  # fmt: skip
    with pytest.raises(RequestError, match="on the CPU; set device to auto or cpu, or take kind exact or IVF,Flat"):
        gpu.choose_gpus("cuda", "HNSW32", 1)


def test_too_little_gpu_memory_is_reported_in_numbers(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(gpu, "gpu_count", lambda: 2)
    monkeypatch.setattr(gpu, "free_bytes", lambda gpus: [2**30] * gpus)
    gpu._say_once.cache_clear()
    caplog.set_level("INFO")
    assert gpu.choose_gpus("auto", "exact", 2**30) == 2
    assert gpu.choose_gpus("auto", "exact", 2**31) == 0
    message = "the index needs 2.0 GiB, 80% of the free GPU memory is 1.6 GiB"
    assert message in caplog.text
    with pytest.raises(ResourceError, match=message):
        gpu.choose_gpus("cuda", "exact", 2**31)


@pytest.mark.parametrize(
    ("kind", "bytes_per_vector"),
    [("Flat", 2 * 384 + 8), ("IVF64,Flat", 4 * 384 + 8), ("IVF64,SQfp16", 2 * 384 + 8), ("IVF64,SQ8", 384 + 8)],
)
def test_what_shards_take_on_gpus(kind: str, bytes_per_vector: int) -> None:
    assert gpu.shard_bytes(1000, 384, kind) == 1000 * bytes_per_vector


def test_searches_beyond_the_gpu_limit_go_to_the_cpu_index(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    index = VectorIndex.build(VECTORS, "exact", "cpu")
    index._gpu = gpu.GpuShards(gpu.shard_index(index._cpu, [2, 1], lambda shard, _: shard), [])
    for k, logged in ((2048, False), (2049, True), (3100, True)):
        caplog.clear()
        found, true = index.search(VECTORS[:3], k), exact_search(VECTORS, VECTORS[:3], k)
        assert (found.rows_Qk == true.rows_Qk).mean() > 0.99
        assert ("k or nprobe above 2048" in caplog.text) == logged


@pytest.mark.gpu
@needs_faiss_gpu
@pytest.mark.parametrize("kind", ["exact", "IVF,Flat", "IVF,SQfp16", "IVF,SQ8"])
def test_gpu_cpu_and_exact_agree_on_recall(kind: str, tmp_path: Path) -> None:
    on_gpu = VectorIndex.build(VECTORS, kind, "cuda")
    assert on_gpu.card.device.startswith("cuda")
    on_gpu.save(tmp_path)
    on_cpu = VectorIndex.load(tmp_path, "cpu")
    found_gpu, found_cpu = (recall(i.search(VECTORS[:40], 100).rows_Qk, TRUE.rows_Qk) for i in (on_gpu, on_cpu))
    assert found_gpu >= 0.95 and abs(found_gpu - found_cpu) <= 0.01


@pytest.mark.gpu
@needs_faiss_gpu
def test_more_hits_than_the_gpu_can_select() -> None:
    index = VectorIndex.build(VECTORS, "exact", "cuda")
    for k in (2041, 2048, 2500):
        true = exact_search(VECTORS, VECTORS[:3], k)
        assert recall(index.search(VECTORS[:3], k).rows_Qk, true.rows_Qk) > 0.99
