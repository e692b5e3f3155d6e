"""`kind: auto`: what it picks at which size and limit, and that it says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdretrieval.errors import RequestError
from sdretrieval.indexes import IndexSettings, VectorIndex
from sdretrieval.indexes.auto import GRAPH_VECTORS, choose
from sdretrieval.indexes.settings import memory_size
from tests.indexes.test_kinds import QUERIES, VECTORS

MILLION = 10**6


@pytest.mark.parametrize(
    ("count", "dims", "limit", "picked"),
    [
        (5_000, 384, None, "exact"),
        (52_000, 384, None, "exact"),
        (53_000, 384, None, "HNSW32,Flat"),
        (20_000, 1024, None, "HNSW32,Flat"),
        (GRAPH_VECTORS, 384, "1GB", "HNSW32,Flat"),
        (GRAPH_VECTORS, 384, "400MB", "HNSW32,SQ8, rescore: 4"),
        (GRAPH_VECTORS, 384, "40MB", "OPQ64,PQ64, rescore: 4"),
        (GRAPH_VECTORS, 384, "20MB", "LSH, rescore: 4"),
        (GRAPH_VECTORS, 384, "16MB", "OPQ32,PQ32, rescore: 4"),
        (GRAPH_VECTORS + 1, 384, "1GB", "IVF,Flat"),
        (MILLION, 384, "1GB", "IVF,SQfp16"),
        (MILLION, 384, "50MB", "OPQ32,IVF,PQ32, rescore: 4"),
        (50 * MILLION, 384, None, "IVF,Flat"),
        (50 * MILLION, 384, "60GB", "IVF,SQfp16"),
        (50 * MILLION, 384, "30GB", "IVF,SQ8, rescore: 4"),
        (50 * MILLION, 384, "10GB", "OPQ64,IVF,PQ64, rescore: 4"),
        (50 * MILLION, 384, "2GB", "OPQ24,IVF,PQ24, rescore: 4"),
        (5_000, 384, "4MB", "SQ8"),
        (200, 384, "20kB", "LSH, rescore: 4"),
    ],
)
def test_the_choice_follows_count_dims_and_memory(count: int, dims: int, limit: str | None, picked: str) -> None:
    choice = choose(IndexSettings("auto", max_memory=limit), count, dims)
    assert str(choice.settings) == picked
    assert choice.reason.startswith(f"{picked}: ")
    choice.settings.checked().check(dims, count)
    if limit is not None:
        assert count * choice.settings.memory_bytes(count, dims) <= memory_size(limit)


def reason(count: int, dims: int, limit: str | None = None) -> str:
    return choose(IndexSettings("auto", max_memory=limit), count, dims).reason


def test_the_reason_names_numbers_and_what_did_not_fit() -> None:
    assert reason(300_000, 384, "500MB") == (
        "HNSW32,SQ8, rescore: 4: 300,000 vectors are too many to compare each, and few enough (400,000) to "
        "build a graph; HNSW32,Flat would need 542.4 MB; 196.8 MB of the 500.0 MB allowed"
    )
    assert reason(MILLION, 384, "1GB") == (
        "IVF,SQfp16: 1,000,000 vectors are too many for a graph to be the fastest (above 400,000), so "
        "inverted lists; IVF,Flat would need 1.6 GB; 782.1 MB of the 1.0 GB allowed"
    )
    assert reason(100, 384) == (
        "exact: 100 x 384 numbers are few enough (20,000,000) to compare every document; no limit of memory"
    )


def test_a_limit_below_everything_says_what_is_needed() -> None:
    with pytest.raises(
        RequestError,
        match=r"max_memory is 1MB, but 1,000,000 vectors of 384 dims need at least 39.1 MB .OPQ24,IVF,PQ24, ",
    ) as no:
        choose(IndexSettings("auto", max_memory="1MB"), MILLION, 384)
    assert "raise max_memory to 41.1 MB, or take fewer documents" in str(no.value)


def test_other_kinds_are_built_as_they_are() -> None:
    assert choose(IndexSettings("PQ8"), 10, 16) == (IndexSettings("PQ8"), "")


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "2 GBB", "GB"])
def test_a_limit_that_is_no_size(text: str) -> None:
    with pytest.raises(RequestError, match="expected a size such as 2GB, 512MB or 1.5GiB"):
        VectorIndex.build(VECTORS, IndexSettings("auto", max_memory=text))


def test_sizes() -> None:
    texts = ("2GB", "1.5 GiB", "512mb", "100", 4096, ".5k")
    assert [memory_size(text) for text in texts] == [2 * 10**9, 3 * 2**29, 512 * 10**6, 100, 4096, 500]


def test_the_card_and_the_log_say_what_was_chosen_and_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    built = VectorIndex.build(VECTORS, IndexSettings("auto", max_memory="60kB"), "cpu", queries_QD=QUERIES)
    assert built.card.factory == "SQ8" and "of the 60.0 kB allowed" in built.card.reason
    assert f"index auto takes {built.card.reason}" in caplog.text
    assert built.card.bytes_per_vector * len(VECTORS) < 60_000
    built.save(tmp_path)
    assert VectorIndex.load(tmp_path).card.reason == built.card.reason
