"""Every kind of index finds what its codes can, comes back from the disk as it was, and its card tells the truth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import text_like_vectors
from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.indexes import VectorIndex, exact_search, recall
from sdretrieval.indexes.card import IndexCard, read_card
from sdretrieval.indexes.faiss_library import load_faiss
from sdretrieval.indexes.settings import KINDS

DIMS, COUNT = 32, 1000
SHARED = text_like_vectors.recipe(COUNT, DIMS, seed=5)
VECTORS = text_like_vectors.documents(SHARED, 0, COUNT, seed=5)
QUERIES = text_like_vectors.queries_near(VECTORS[::20], SHARED, seed=5)
TRUE = exact_search(VECTORS, QUERIES, 100)

CODED = "codes of 256 centroids a byte trained on 1000 vectors"
KINDS_AND_RECALL: list[tuple[str, dict[str, Any], tuple[float, float], str]] = [
    ("sq8", {}, (0.95, 1.0), "SQ8"),
    ("pq", {"bytes": 8}, (0.6, 0.97), "PQ8"),
    ("pq", {"bytes": 2, "rescore": 4}, (0.6, 0.999), "PQ2"),
    ("opq", {"bytes": 4}, (0.4, 0.95), "OPQ4,PQ4"),
    ("ivf_pq", {"bytes": 4, "lists": 8}, (0.4, 0.95), "IVF8,PQ4"),
    ("ivf_pq", {"bytes": 4, "lists": 8, "rotate": True, "rescore": 4}, (0.8, 1.0), "OPQ4,IVF8,PQ4"),
    ("ivf", {"storage": "sq8", "lists": 8, "probes": 8}, (0.95, 1.0), "IVF8,SQ8"),
    ("binary", {}, (0.7, 0.999), "LSH"),
    ("binary", {"rescore": 8, "rescore_storage": "int8"}, (0.9, 1.0), "LSH"),
    ("hnsw", {"storage": "sq8", "rescore": 2}, (0.95, 1.0), "HNSW32,SQ8"),
    ("hnsw", {"storage": "pq", "bytes": 8}, (0.5, 0.97), "HNSW32,PQ8"),
    ("factory", {"factory": "OPQ8_16,IVF8,PQ8x4fs", "rescore": 4}, (0.7, 1.0), "OPQ8_16,IVF8,PQ8x4fs"),
    ("factory", {"factory": "PCA16,HNSW16"}, (0.4, 0.999), "PCA16,HNSW16"),
]
IDS = [f"{kind}-{'-'.join(map(str, given.values()))}" for kind, given, *_ in KINDS_AND_RECALL]


@pytest.mark.parametrize(("kind", "given", "expected", "string"), KINDS_AND_RECALL, ids=IDS)
def test_a_kind_finds_what_it_should_and_survives_the_disk(
    kind: str, given: dict[str, Any], expected: tuple[float, float], string: str, tmp_path: Path
) -> None:
    built = VectorIndex.build(VECTORS, kind, "cpu", queries_QD=QUERIES, threads=1, **given)
    hits = built.search(QUERIES, 100)
    found = recall(hits.rows_Qk, TRUE.rows_Qk)
    assert expected[0] <= found <= expected[1]
    assert (np.diff(hits.scores_Qk, axis=1) <= 0).all()
    scores = np.einsum("qd,qkd->qk", QUERIES, VECTORS[np.maximum(hits.rows_Qk, 0)])
    off = np.abs(scores - hits.scores_Qk)[hits.rows_Qk >= 0]
    assert off.mean() < (0.005 if given.get("rescore") or kind == "binary" else 0.2), "scores are inner products"

    card = built.card
    assert card.kind == kind and card.factory == string
    assert card.recall_at_100 == pytest.approx(found, abs=1e-4)
    first = recall(built.search(QUERIES, 10).rows_Qk, TRUE.rows_Qk[:, :10])
    assert card.recall_at_10 == pytest.approx(first, abs=1e-4)
    assert card.build_seconds >= 0 and card.search_ms_per_query > 0 and (card.single_ms_per_query or 0) > 0

    if kind != "factory":  # of which nothing is known before
        assert KINDS[kind](**given).memory_bytes(COUNT, DIMS) == pytest.approx(card.bytes_per_vector, rel=0.1)
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


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("opq", {"bytes": 2}),
        ("ivf_pq", {"bytes": 2, "rotate": True}),
        ("hnsw", {"storage": "pq", "bytes": 2}),
        ("factory", {"factory": "IVF4_HNSW8,PQ8x4fs"}),
    ],
)
def test_one_seed_builds_one_index(kind: str, given: dict[str, Any], tmp_path: Path) -> None:
    for name in ("one", "two"):
        VectorIndex.build(VECTORS[:600], kind, "cpu", repeatable=True, **given).save(tmp_path / name)
    assert (tmp_path / "one" / "index.faiss").read_bytes() == (tmp_path / "two" / "index.faiss").read_bytes()


def test_the_seed_draws_the_codes(tmp_path: Path) -> None:
    rows = [VectorIndex.build(VECTORS, "pq", "cpu", bytes=2, seed=s).search(QUERIES, 50).rows_Qk for s in (1, 1, 2)]
    np.testing.assert_array_equal(rows[0], rows[1])
    assert (rows[0] != rows[2]).any()


def test_left_open_a_code_has_the_most_bytes_up_to_32_that_divide_the_dims() -> None:
    for dims, expected in ((384, 32), (300, 30), (100, 25), (62, 31), (16, 16), (37, 1)):
        assert KINDS["pq"]().fitted(COUNT, dims, False).factory_string() == f"PQ{expected}"


def test_few_vectors_for_codes_are_told(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    VectorIndex.build(VECTORS, "opq", "cpu", bytes=2)
    assert f"{CODED}: expected 9984 or more; recall may be poor on new texts" in caplog.text
    assert "WARNING clustering" not in capfd.readouterr().err


def test_open_probes_over_codes_stop_where_more_find_no_more() -> None:
    card = VectorIndex.build(VECTORS, "ivf_pq", "cpu", queries_QD=QUERIES, bytes=2, lists=16).card
    assert card.recall_at_100 < 0.9, "codes so short cannot reach the target"
    assert card.settings["probes"] < 16


def test_rescoring_more_finds_more() -> None:
    found = [
        VectorIndex.build(VECTORS, "pq", "cpu", queries_QD=QUERIES, bytes=2, **given).card.recall_at_10 or 0
        for given in ({}, {"rescore": 2}, {"rescore": 10})
    ]
    assert found[0] < found[1] < found[2]


def test_rescoring_all_is_exact() -> None:
    hits = VectorIndex.build(VECTORS, "binary", "cpu", rescore=COUNT, rescore_storage="float32").search(QUERIES, 100)
    assert (hits.rows_Qk == TRUE.rows_Qk).mean() > 0.999
    np.testing.assert_allclose(hits.scores_Qk, TRUE.scores_Qk, atol=1e-6)


def test_a_card_of_an_earlier_version_still_loads(tmp_path: Path) -> None:
    VectorIndex.build(VECTORS, "ivf", "cpu", lists=8, probes=8).save(tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    new = ("recall_at_10", "single_ms_per_query", "rescore_bytes_per_vector", "factory", "reason")
    (tmp_path / "card.json").write_text(json.dumps({name: value for name, value in card.items() if name not in new}))
    assert read_card(tmp_path) == IndexCard(**{name: value for name, value in card.items() if name not in new})
    assert VectorIndex.load(tmp_path, "cpu").search(QUERIES, 5).rows_Qk.shape == (len(QUERIES), 5)


def test_missing_or_cut_vectors_for_rescoring_are_named(tmp_path: Path) -> None:
    VectorIndex.build(VECTORS, "binary", "cpu").save(tmp_path)
    np.save(tmp_path / "rescore.npy", VECTORS[:5].astype(np.float16))
    with pytest.raises(DamagedArtifact, match=r"rescore.npy holds \(5, 32\) of float16, expected \(1000, 32\)"):
        VectorIndex.load(tmp_path)
    (tmp_path / "rescore.npy").unlink()
    with pytest.raises(DamagedArtifact, match="lacks the vectors that hits are rescored with"):
        VectorIndex.load(tmp_path)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"kind": "pq", "bytes": 10},
            "pq index: bytes is 10, but 32 dims cannot be cut into 10 equal parts; expected one of 1, 2, 4, 8, 16, 32",
        ),
        ({"kind": "opq", "bytes": 0}, "index setting bytes is 0; expected a whole number of at least 1"),
        (
            {"kind": "ivf_pq", "few": 200},
            "ivf_pq index: 200 vectors cannot train 256 centroids a byte; expected at least 256, better 9984; take "
            "kind exact, or sq8, for so few",
        ),
        ({"kind": "ivf_pq", "lists": 3000}, "ivf_pq lists is 3000 but there are 1000 vectors"),
        ({"kind": "ivf_pq", "rotate": 1}, "index setting rotate is 1; expected true or false"),
        ({"kind": "sq8", "bytes": 8}, "sq8 index has no setting 'bytes'; it has: rescore, rescore_storage"),
        ({"kind": "exact", "rescore": 4}, "exact index has no setting 'rescore'; it has: none"),
        ({"kind": "ivf", "rescore": 4}, "rescore is 4, but ivf with storage auto holds the vectors themselves"),
        ({"kind": "pq", "rescore_storage": "int8"}, "rescore_storage is 'int8', but nothing is rescored; set rescore"),
        ({"kind": "pq", "rescore": 2, "rescore_storage": "int4"}, "expected one of float16, float32, int8"),
        ({"kind": "hnsw", "bytes": 8}, "bytes is 8, but hnsw has storage auto; set storage to pq, or leave bytes out"),
        ({"kind": "hnsw", "storage": "float16"}, "hnsw storage 'float16' is unknown; one of auto, float32, sq8, pq"),
        ({"kind": "hnsw", "storage": "pq", "few": 200}, "hnsw with storage pq index: 200 vectors cannot train 256"),
        ({"kind": "binary", "rescore": 0}, "index setting rescore is 0; expected a whole number of at least 1"),
        ({"kind": "binary", "rescore": None}, "index setting rescore is None; expected a whole number"),
        ({"kind": "factory"}, "index setting factory is ''; expected a FAISS factory string, such as OPQ16_64,IVF10"),
        (
            {"kind": "factory", "factory": "IVF10,Flatt"},
            "'IVF10,Flatt' makes no index by inner product of 32 dims: .*could not parse code description Flatt",
        ),
        ({"kind": "factory", "factory": "PQ7"}, "should be a multiple of the number of subquantizers"),
        ({"kind": "factory", "factory": "LSH"}, "'LSH' makes no index by inner product of 32 dims: .*METRIC_L2"),
        ({"kind": "factory", "factory": "HNSW32,PQ8"}, "cannot search by inner product; .*hnsw with storage pq"),
        ({"kind": "factory", "factory": "IDMap,Flat"}, "cannot build an index 'IDMap,Flat' of these vectors: add does"),
        ({"kind": "factory", "factory": "IVF3000,Flat"}, r"Number of training points \(1000\) should be at least"),
        ({"kind": "factory", "factory": "PQ8", "probes": 4}, "probes is 4, but the factory string 'PQ8' has no IVF"),
        ({"kind": "factory", "factory": "IVF8_HNSW8,Flat", "ef_search": 4}, "has no HNSW without IVF; leave ef_search"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_is_refused_in_words(keywords: dict[str, Any], message: str) -> None:
    few = keywords.pop("few", COUNT)
    with pytest.raises(RequestError, match=message):
        VectorIndex.build(VECTORS[:few], device="cpu", **keywords)


@pytest.mark.parametrize("kind", ["sq8", "pq", "opq", "ivf_pq", "binary", "factory"])
def test_kinds_without_a_gpu_form_say_so(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    given: dict[str, Any] = {"factory": "Flat"} if kind == "factory" else {"bytes": 1} if "pq" in kind else {}
    assert VectorIndex.build(VECTORS[:300], kind, "auto", **given).card.device == "cpu"
    assert f"index on the CPU: {KINDS[kind].no_gpu}" in caplog.text
    with pytest.raises(RequestError, match="set device to auto or cpu, or take kind exact or ivf"):
        VectorIndex.build(VECTORS[:300], kind, "cuda", **given)


def test_a_graph_over_codes_is_walked_by_inner_product() -> None:
    faiss = load_faiss()
    index = VectorIndex.build(VECTORS, "hnsw", "cpu", storage="pq", bytes=4, ef_search=400)
    assert index._cpu.metric_type == faiss.METRIC_INNER_PRODUCT
    flat = VectorIndex.build(VECTORS, "pq", "cpu", bytes=4)
    both = recall(index.search(QUERIES, 10).rows_Qk, flat.search(QUERIES, 10).rows_Qk)
    assert both > 0.95, "the same codes, so the graph finds what comparing all of them finds"
