"""VectorIndex as its users see it: right hits, the same after loading, an honest card, clear refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.errors import DamagedArtifact, NumericError, RequestError, ResourceError
from sdretrieval.indexes import IndexSettings, VectorIndex, exact, exact_search, recall
from sdretrieval.indexes.faiss_library import gpu_count, load_faiss

RECIPES = Path(__file__).parents[2] / "indexes"


def unit(count: int, dims: int = 16, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    vectors = np.random.default_rng(seed).normal(size=(count, dims)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 80), k=st.integers(1, 100))
def test_exact_index_equals_brute_force(seed: int, count: int, k: int) -> None:
    vectors, queries = unit(count, seed=seed), unit(6, seed=seed + 1)
    found, true = VectorIndex.build(vectors, "exact", "cpu").search(queries, k), exact_search(vectors, queries, k)
    np.testing.assert_array_equal(found.rows_Qk, true.rows_Qk)
    np.testing.assert_allclose(found.scores_Qk, true.scores_Qk, atol=1e-6)
    assert found.rows_Qk.shape == (6, k) and (found.counts_Q == min(count, k)).all()


def test_duplicates_come_in_row_order_also_at_the_cut() -> None:
    vectors = np.repeat(unit(10), 4, axis=0)
    hits = VectorIndex.build(vectors, "exact", "cpu").search(vectors[::4], 3)
    assert hits.rows_Qk.tolist() == [[4 * i, 4 * i + 1, 4 * i + 2] for i in range(10)]


@pytest.mark.parametrize("storage", ["Flat", "SQfp16"])
def test_ivf_that_looks_into_all_lists_equals_exact(storage: str) -> None:
    vectors, queries = unit(600).astype(np.float16), unit(20, seed=1)
    found = VectorIndex.build(vectors, IndexSettings(f"IVF9,{storage}", nprobe=9), "cpu").search(queries, 50)
    np.testing.assert_array_equal(found.rows_Qk, exact_search(vectors, queries, 50).rows_Qk)


def test_ivf_with_a_small_nprobe_pads_instead_of_inventing() -> None:
    hits = VectorIndex.build(unit(200), IndexSettings("IVF20,Flat", nprobe=1), "cpu").search(unit(5, seed=1), 150)
    assert (hits.counts_Q < 150).all()
    assert ((hits.rows_Qk == -1) == np.isneginf(hits.scores_Qk)).all()


@pytest.mark.parametrize("kind", ["IVF,Flat", "HNSW32"])
def test_open_breadth_is_fitted_to_the_target_recall(kind: str) -> None:
    vectors, queries = unit(3000), unit(60, seed=1)
    index = VectorIndex.build(vectors, kind, "cpu", queries_QD=queries, target_recall=0.95)
    assert recall(index.search(queries, 100).rows_Qk, exact_search(vectors, queries, 100).rows_Qk) >= 0.95
    assert index.card.recall_at_100 >= 0.95 and index.card.recall_source == "queries"
    assert all(isinstance(value, int | str) for value in index.card.settings.values())


@pytest.mark.parametrize("kind", ["exact", "IVF,Flat", "HNSW32"])
def test_saved_and_loaded_gives_the_same_hits(kind: str, tmp_path: Path) -> None:
    built = VectorIndex.build(unit(500), kind, "cpu")
    built.save(tmp_path)
    loaded = VectorIndex.load(tmp_path, "cpu")
    queries = unit(10, seed=1)
    for before, after in zip(built.search(queries, 20), loaded.search(queries, 20), strict=True):
        np.testing.assert_array_equal(before, after)
    assert loaded.card == built.card
    assert json.loads((tmp_path / "card.json").read_text())["count"] == 500
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.json", "index.faiss"]


@pytest.mark.parametrize("kind", ["exact", "IVF,Flat", "HNSW32"])
def test_bytes_per_vector_is_the_size_on_disk(kind: str, tmp_path: Path) -> None:
    index = VectorIndex.build(unit(2000), kind, "cpu")
    index.save(tmp_path)
    assert index.card.bytes_per_vector == pytest.approx((tmp_path / "index.faiss").stat().st_size / 2000, rel=0.05)


def test_a_float16_memory_map_is_read_by_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vectors = unit(700).astype(np.float16)
    np.save(tmp_path / "vectors.npy", vectors)
    monkeypatch.setattr(exact, "BLOCK_BYTES", 4 * 16 * 64)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    assert max(len(block) for _, block in exact.float32_blocks(mapped, "vectors")) == 64
    hits = VectorIndex.build(mapped, IndexSettings("IVF5,Flat", nprobe=5), "cpu").search(vectors[:10], 1)
    assert hits.rows_Qk[:, 0].tolist() == list(range(10))


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_recipe_builds(recipe: Path) -> None:
    section = yaml.safe_load(recipe.read_text())
    device = section.pop("device", "auto")
    settings = IndexSettings(**section)
    card = VectorIndex.build(unit(400, dims=64), settings, device).card
    assert card.factory == ("Flat" if settings.kind == "auto" else settings.fitted(400).kind)
    assert card.recall_at_100 >= 0.6


def test_one_thread_builds_the_same_hnsw_twice_and_restores_the_count() -> None:
    before, settings = load_faiss().omp_get_max_threads(), IndexSettings("HNSW32", ef_search=16)
    first, second = (VectorIndex.build(unit(800), settings, "cpu", threads=1) for _ in range(2))
    np.testing.assert_array_equal(
        first.search(unit(50, seed=1), 10).rows_Qk, second.search(unit(50, seed=1), 10).rows_Qk
    )
    assert load_faiss().omp_get_max_threads() == before


def test_vectors_not_of_length_one_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    VectorIndex.build(unit(50) * 3, "exact", "cpu")
    assert "50 of 50 sampled vectors are not of length 1" in caplog.text


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"device": "tpu"}, "device 'tpu' is unknown; expected auto, cpu or cuda"),
        ({"queries_QD": unit(3, dims=5)}, "query vectors have 5 dims but the index holds 16"),
        ({"queries_QD": unit(0)}, "cannot be built from 0 queries"),
    ],
)
def test_a_wrong_request_is_refused_in_words(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        VectorIndex.build(unit(100), **keywords)


def test_wrong_matrices_are_refused_in_words() -> None:
    with pytest.raises(RequestError, match="cannot be built from 0 vectors"):
        VectorIndex.build(unit(0))
    with pytest.raises(RequestError, match=r"must be a matrix .* of floats, found shape \(3, 2\) of int64"):
        VectorIndex.build(np.ones((3, 2), np.int64))


@pytest.mark.parametrize("kind", ["exact", "IVF,Flat", "HNSW32"])
def test_nan_is_refused_and_named(kind: str) -> None:
    vectors = unit(100)
    vectors[7, 3] = np.nan
    with pytest.raises(NumericError, match="document vectors hold NaN or infinity in 1 of rows 0 to 99: rows 7;"):
        VectorIndex.build(vectors, kind, "cpu")


def test_a_search_that_does_not_fit_is_refused() -> None:
    index = VectorIndex.build(unit(30), "exact", "cpu")
    with pytest.raises(RequestError, match="query vectors have 8 dims but the index holds 16"):
        index.search(unit(2, dims=8), 5)
    with pytest.raises(RequestError, match="k is 0; expected at least 1"):
        index.search(unit(2), 0)
    with pytest.raises(NumericError, match="query vectors hold NaN or infinity"):
        index.search(np.full((2, 16), np.nan, np.float32), 5)


def test_damaged_indexes_are_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedArtifact, match="holds no readable vector index"):
        VectorIndex.load(tmp_path)
    VectorIndex.build(unit(30), "exact", "cpu").save(tmp_path)
    whole = (tmp_path / "index.faiss").read_bytes()
    (tmp_path / "index.faiss").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DamagedArtifact, match="index.faiss cannot be read"):
        VectorIndex.load(tmp_path)
    VectorIndex.build(unit(31), "exact", "cpu").save(tmp_path / "other")
    (tmp_path / "index.faiss").write_bytes((tmp_path / "other" / "index.faiss").read_bytes())
    with pytest.raises(DamagedArtifact, match="holds 31 vectors of 16 dims, its card says 30 of 16"):
        VectorIndex.load(tmp_path)


@pytest.mark.skipif(gpu_count() > 0, reason="faiss sees a GPU here, so nothing falls back")
def test_without_a_gpu_auto_falls_back_and_cuda_is_refused() -> None:
    assert VectorIndex.build(unit(30), device="auto").card.device == "cpu"
    with pytest.raises(ResourceError, match="device cuda: faiss sees 0 GPUs; set device to auto or cpu"):
        VectorIndex.build(unit(30), device="cuda")
