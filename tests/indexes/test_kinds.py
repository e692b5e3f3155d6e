"""Every kind of index finds what its codes can, comes back from the disk as it was, and its card tells the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import text_like_vectors
from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.indexes import IndexSettings, VectorIndex, exact_search, recall
from sdretrieval.indexes.faiss_library import load_faiss, parts_of

DIMS, COUNT = 32, 1000
SHARED = text_like_vectors.recipe(COUNT, DIMS, seed=5)
VECTORS = text_like_vectors.documents(SHARED, 0, COUNT, seed=5)
QUERIES = text_like_vectors.queries_near(VECTORS[::20], SHARED, seed=5)
TRUE = exact_search(VECTORS, QUERIES, 100)

CODED = "codes of 256 centroids a byte trained on 1000 vectors"
KINDS_AND_RECALL: list[tuple[str, dict[str, Any], tuple[float, float]]] = [
    ("SQ8", {}, (0.95, 1.0)),
    ("PQ8", {}, (0.6, 0.97)),
    ("PQ2", {"rescore": 4}, (0.6, 0.999)),
    ("OPQ4,PQ4", {}, (0.4, 0.95)),
    ("IVF8,PQ4", {}, (0.4, 0.95)),
    ("OPQ4,IVF8,PQ4", {"rescore": 4}, (0.8, 1.0)),
    ("IVF8,SQ8", {"nprobe": 8}, (0.95, 1.0)),
    ("LSH", {"rescore": 4}, (0.7, 0.999)),
    ("LSH", {"rescore": 8, "rescore_storage": "int8"}, (0.9, 1.0)),
    ("HNSW32,SQ8", {"rescore": 2}, (0.95, 1.0)),
    ("HNSW32,PQ8", {}, (0.5, 0.97)),
    ("OPQ8_16,IVF8,PQ8x4fs", {"rescore": 4}, (0.7, 1.0)),
    ("PCA16,HNSW16", {}, (0.4, 0.999)),
]
IDS = ["-".join([kind, *map(str, given.values())]) for kind, given, _ in KINDS_AND_RECALL]


@pytest.mark.parametrize(("kind", "given", "expected"), KINDS_AND_RECALL, ids=IDS)
def test_a_kind_finds_what_it_should_and_survives_the_disk(
    kind: str, given: dict[str, Any], expected: tuple[float, float], tmp_path: Path
) -> None:
    settings = IndexSettings(kind, **given)
    built = VectorIndex.build(VECTORS, settings, "cpu", queries_QD=QUERIES, threads=1)
    hits = built.search(QUERIES, 100)
    found = recall(hits.rows_Qk, TRUE.rows_Qk)
    assert expected[0] <= found <= expected[1]
    assert (np.diff(hits.scores_Qk, axis=1) <= 0).all()
    scores = np.einsum("qd,qkd->qk", QUERIES, VECTORS[np.maximum(hits.rows_Qk, 0)])
    off = np.abs(scores - hits.scores_Qk)[hits.rows_Qk >= 0]
    assert off.mean() < (0.005 if settings.rescore else 0.2), "scores are inner products"

    card = built.card
    assert card.factory == kind and given.items() <= card.settings.items()
    assert card.recall_at_100 == pytest.approx(found, abs=1e-4)
    first = recall(built.search(QUERIES, 10).rows_Qk, TRUE.rows_Qk[:, :10])
    assert card.recall_at_10 == pytest.approx(first, abs=1e-4)
    assert card.build_seconds >= 0 and card.search_ms_per_query > 0 and card.single_ms_per_query > 0

    assert settings.memory_bytes(COUNT, DIMS) == pytest.approx(card.bytes_per_vector, rel=0.12)
    built.save(tmp_path)
    assert card.bytes_per_vector == pytest.approx((tmp_path / "index.faiss").stat().st_size / COUNT, rel=0.01)
    stored = tmp_path / "rescore.npy"
    assert stored.exists() == bool(card.rescore_bytes_per_vector)
    if stored.exists():
        assert card.rescore_bytes_per_vector == pytest.approx(stored.stat().st_size / COUNT, rel=0.01)
    loaded = VectorIndex.load(tmp_path, "cpu")
    assert loaded.card == card
    for before, after in zip(hits, loaded.search(QUERIES, 100), strict=True):
        np.testing.assert_array_equal(before, after)
    loaded.save(tmp_path / "copy")  # as an export does
    for before, after in zip(hits, VectorIndex.load(tmp_path / "copy", "cpu").search(QUERIES, 100), strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize("kind", ["OPQ2,PQ2", "OPQ2,IVF,PQ2", "HNSW32,PQ2", "IVF4_HNSW8,PQ8x4fs"])
def test_one_seed_builds_one_index(kind: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        VectorIndex.build(VECTORS[:600], kind, "cpu", repeatable=True).save(tmp_path / name)
    assert (tmp_path / "one" / "index.faiss").read_bytes() == (tmp_path / "two" / "index.faiss").read_bytes()


def test_the_seed_draws_the_codes() -> None:
    rows = [VectorIndex.build(VECTORS, "PQ2", "cpu", seed=seed).search(QUERIES, 50).rows_Qk for seed in (1, 1, 2)]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert (rows[0] != rows[2]).any()


@pytest.mark.parametrize(
    ("kind", "count", "built"),
    [
        ("exact", 10, "Flat"),
        ("IVF,Flat", 20, "IVF1,Flat"),
        ("IVF,SQ8", 1000, "IVF25,SQ8"),
        ("OPQ32,IVF,PQ32", 100_000, "OPQ32,IVF1265,PQ32"),
        ("IVF,Flat", 1_000_000, "IVF4000,Flat"),
        ("IVF_HNSW32,Flat", 1_000_000, "IVF4000_HNSW32,Flat"),
        ("IVF64,Flat", 1_000_000, "IVF64,Flat"),
        ("IVF16k,Flat", 1_000_000, "IVF16k,Flat"),
    ],
)
def test_open_lists_follow_the_count(kind: str, count: int, built: str) -> None:
    assert IndexSettings(kind).fitted(count).kind == built


def test_few_vectors_for_codes_are_reported(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    VectorIndex.build(VECTORS, "OPQ2,PQ2", "cpu")
    assert f"{CODED}: expected 9984 or more; recall may be poor on new texts" in caplog.text
    assert "WARNING clustering" not in capfd.readouterr().err


def test_open_nprobe_over_codes_stops_where_more_finds_no_more() -> None:
    card = VectorIndex.build(VECTORS, "IVF16,PQ2", "cpu", queries_QD=QUERIES).card
    assert card.recall_at_100 < 0.9, "codes so short cannot reach the target"
    assert card.settings["nprobe"] < 16


def test_rescoring_more_finds_more() -> None:
    found = [
        VectorIndex.build(VECTORS, IndexSettings("PQ2", rescore=rescore), "cpu", queries_QD=QUERIES).card.recall_at_10
        for rescore in (None, 2, 10)
    ]
    assert found[0] < found[1] < found[2]


def test_rescoring_all_is_exact() -> None:
    settings = IndexSettings("LSH", rescore=COUNT, rescore_storage="float32")
    hits = VectorIndex.build(VECTORS, settings, "cpu").search(QUERIES, 100)
    assert (hits.rows_Qk == TRUE.rows_Qk).mean() > 0.999
    np.testing.assert_allclose(hits.scores_Qk, TRUE.scores_Qk, atol=1e-6)


def test_missing_or_cut_vectors_for_rescoring_are_named(tmp_path: Path) -> None:
    VectorIndex.build(VECTORS, IndexSettings("LSH", rescore=4), "cpu").save(tmp_path)
    np.save(tmp_path / "rescore.npy", VECTORS[:5].astype(np.float16))
    with pytest.raises(DamagedArtifact, match=r"rescore.npy holds \(5, 32\) of float16, expected \(1000, 32\)"):
        VectorIndex.load(tmp_path)
    (tmp_path / "rescore.npy").unlink()
    with pytest.raises(DamagedArtifact, match="lacks the vectors that hits are rescored with"):
        VectorIndex.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("PQ10", r"'PQ10' makes no index .* of 32 dims: .* \(32 dims can be cut into 1, 2, 4, 8, 16, 32 parts\); see"),
        ("IVF10,Flatt", "makes no index by inner product of 32 dims: .*could not parse code description Flatt"),
        ("IDMap,Flat", "cannot build an index 'IDMap,Flat' of these vectors: add does"),
        ("RQ2x12", "cannot build an index 'RQ2x12' of these vectors"),
        ("IVF3000,Flat", "1000 vectors cannot train 3000 centroids; expected at least 3000, better 117000; take kind"),
        ("PQ2x10", "index kind PQ2x10: 1000 vectors cannot train 1024 centroids; expected at least 1024"),
        ("HNSW32,PQ2x10", "index kind HNSW32,PQ2x10: 1000 vectors cannot train 1024 centroids"),
        ("hnsw", 'index setting kind: found "hnsw"; expected exact, auto or a FAISS factory string such as HNSW32'),
        (
            IndexSettings("PQ8", nprobe=4),
            "nprobe: found 4, but index kind PQ8 has no inverted lists .IVF.; leave nprobe",
        ),
        (
            IndexSettings("IVF8_HNSW8,Flat", ef_search=4),
            "IVF8_HNSW8,Flat has no graph of documents .HNSW.; leave ef_se",
        ),
        (IndexSettings("PQ8", ef_construction=4), "PQ8 has no graph of documents"),
        (IndexSettings("IVF8,Flat", nprobe=9), "nprobe: found 9; expected at most the 8 lists of IVF8,Flat"),
        (IndexSettings("IVF,Flat", nprobe=0), "nprobe: found 0; expected a whole number of at least 1, or nothing"),
        (IndexSettings("PQ8", rescore=True), "rescore: found true; expected a whole number"),
        (IndexSettings("exact", rescore=4), "rescore: found 4, but index kind exact holds the vectors themselves"),
        (IndexSettings("IVF,SQfp16", rescore=4), "IVF,SQfp16 holds the vectors themselves; leave rescore out"),
        (IndexSettings("PQ8", rescore_storage="int8"), 'found "int8", but nothing is rescored; set rescore to 4'),
        (IndexSettings("auto", nprobe=4), "found 4, but index kind auto chooses it itself; leave nprobe out"),
        (IndexSettings("PQ8", max_memory="2GB"), 'found "2GB", but only kind auto chooses by it; leave max_memory out'),
        ("LSH", "rescore: found nothing, but index kind LSH ranks by signs alone; set rescore to 4 or more"),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_refused_in_words(settings: IndexSettings | str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        VectorIndex.build(VECTORS, settings, device="cpu")


def test_all_problems_of_settings_are_listed_at_once() -> None:
    settings = IndexSettings("HNSW32", nprobe=4, rescore=2, max_memory="1GB")
    with pytest.raises(RequestError) as no:
        settings.checked()
    assert [line.split(":")[0] for line in str(no.value).splitlines()] == [
        "index setting nprobe", "index setting rescore", "index setting max_memory",
    ]  # fmt: skip


def test_an_unknown_storage_for_rescoring_is_refused() -> None:
    with pytest.raises(RequestError, match='found "int4"; expected one of float16, float32, int8'):
        IndexSettings("PQ8", rescore=2, rescore_storage="int4").checked()


@pytest.mark.parametrize("kind", ["SQ8", "PQ1", "OPQ1,PQ1", "IVF,PQ1", "HNSW32", "L2norm,Flat"])
def test_kinds_without_a_gpu_form_are_searched_on_the_cpu(kind: str) -> None:
    assert VectorIndex.build(VECTORS[:300], kind, "auto").card.device == "cpu"
    with pytest.raises(RequestError, match=r"SQfp16 or SQ8; .* set device to auto or cpu, or take kind exact or IVF"):
        VectorIndex.build(VECTORS[:300], kind, "cuda")


def test_a_graph_over_codes_is_walked_by_inner_product() -> None:
    faiss = load_faiss()
    index = VectorIndex.build(VECTORS, IndexSettings("HNSW32,PQ4", ef_search=400), "cpu")
    assert index._cpu.metric_type == faiss.METRIC_INNER_PRODUCT
    flat = VectorIndex.build(VECTORS, "PQ4", "cpu")
    both = recall(index.search(QUERIES, 10).rows_Qk, flat.search(QUERIES, 10).rows_Qk)
    assert both > 0.95, "the same codes, so the graph finds what comparing all of them finds"


@pytest.mark.parametrize(
    ("kind", "lossy", "breadth", "one_thread"),
    [
        ("exact", False, None, False),
        ("Flat", False, None, False),
        ("auto", False, None, False),
        ("HNSW32", False, "ef_search", True),
        ("HNSW32,Flat", False, "ef_search", True),
        ("IVF,SQfp16", False, "nprobe", False),
        ("IVF16k_HNSW32,Flat", False, "nprobe", True),
        ("IVF64,SQ8", True, "nprobe", False),
        ("PCA16,HNSW32", True, "ef_search", True),
        ("SQ8", True, None, False),
        ("IMI2x8,PQ8", True, "nprobe", False),
    ],
)
def test_what_a_string_says(kind: str, lossy: bool, breadth: str | None, one_thread: bool) -> None:
    settings = IndexSettings(kind)
    assert (settings.lossy, settings.breadth, settings.one_thread) == (lossy, breadth, one_thread)


def test_ef_construction_reaches_the_graph_and_the_card() -> None:
    for settings, expected in ((IndexSettings("HNSW8", ef_construction=33), 33), (IndexSettings("PCA16,HNSW8"), 100)):
        index = VectorIndex.build(VECTORS, settings, "cpu")
        graph = next(part for part in parts_of(index._cpu) if hasattr(part, "hnsw"))
        assert graph.hnsw.efConstruction == index.card.settings["ef_construction"] == expected
