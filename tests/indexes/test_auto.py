"""`kind: auto`: what it picks at which size and limit, and that it says why."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdretrieval.errors import RequestError
from sdretrieval.indexes import VectorIndex
from sdretrieval.indexes.kinds.auto import GRAPH_VECTORS, AutoSettings, memory_size, named
from tests.indexes.test_kinds import QUERIES, VECTORS

MILLION = 10**6


@pytest.mark.parametrize(
    ("count", "dims", "limit", "picked"),
    [
        (5_000, 384, None, "exact"),
        (52_000, 384, None, "exact"),
        (53_000, 384, None, "hnsw"),
        (20_000, 1024, None, "hnsw"),
        (GRAPH_VECTORS, 384, "1GB", "hnsw"),
        (GRAPH_VECTORS, 384, "400MB", "hnsw, storage: sq8, rescore: 4"),
        (GRAPH_VECTORS, 384, "40MB", "opq, bytes: 64, rescore: 4"),
        (GRAPH_VECTORS, 384, "20MB", "binary"),
        (GRAPH_VECTORS, 384, "16MB", "opq, bytes: 32, rescore: 4"),
        (GRAPH_VECTORS + 1, 384, "1GB", "ivf"),
        (MILLION, 384, "1GB", "ivf, storage: float16"),
        (MILLION, 384, "50MB", "ivf_pq, bytes: 32, rotate: true, rescore: 4"),
        (50 * MILLION, 384, None, "ivf"),
        (50 * MILLION, 384, "60GB", "ivf, storage: float16"),
        (50 * MILLION, 384, "30GB", "ivf, storage: sq8, rescore: 4"),
        (50 * MILLION, 384, "10GB", "ivf_pq, bytes: 64, rotate: true, rescore: 4"),
        (50 * MILLION, 384, "2GB", "ivf_pq, bytes: 24, rotate: true, rescore: 4"),
        (5_000, 384, "4MB", "sq8"),
        (200, 384, "20kB", "binary"),
    ],
)
def test_the_choice_follows_count_dims_and_memory(count: int, dims: int, limit: str | None, picked: str) -> None:
    choice = AutoSettings(limit).chosen(count, dims)
    assert named(choice.settings) == picked
    assert choice.reason.startswith(f"{picked}: ")
    choice.settings.checked().check(dims, count)
    if limit is not None:
        assert count * choice.settings.memory_bytes(count, dims) <= memory_size(limit)


def test_the_reason_names_numbers_and_what_did_not_fit() -> None:
    assert AutoSettings("500MB").chosen(300_000, 384).reason == (
        "hnsw, storage: sq8, rescore: 4: 300,000 vectors are too many to compare each, and few enough (400,000) to "
        "build a graph; hnsw would need 542 MB; 197 MB of the 500 MB allowed"
    )
    assert AutoSettings("1GB").chosen(MILLION, 384).reason == (
        "ivf, storage: float16: 1,000,000 vectors are too many for a graph to be the fastest (above 400,000), so "
        "inverted lists; ivf would need 1.55 GB; 782 MB of the 1 GB allowed"
    )
    assert AutoSettings().chosen(100, 384).reason == (
        "exact: 100 x 384 numbers are few enough (20,000,000) to compare every document; no limit of memory"
    )


def test_a_limit_below_everything_says_what_is_needed() -> None:
    with pytest.raises(
        RequestError,
        match=r"max_memory is 1MB, but 1,000,000 vectors of 384 dims need at least 39.1 MB .ivf_pq, bytes: 24, ",
    ) as no:
        AutoSettings("1MB").check(384, MILLION)
    assert "raise max_memory to" in str(no.value)


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "2 GBB", "GB"])
def test_a_limit_that_is_no_size(text: str) -> None:
    with pytest.raises(RequestError, match="expected a size such as 2GB, 512MB or 1.5GiB"):
        VectorIndex.build(VECTORS, "auto", max_memory=text)


def test_sizes() -> None:
    texts = ("2GB", "1.5 GiB", "512mb", "100", 4096, ".5k")
    assert [memory_size(text) for text in texts] == [2 * 10**9, 3 * 2**29, 512 * 10**6, 100, 4096, 500]


def test_the_card_and_the_log_say_what_was_chosen_and_why(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    built = VectorIndex.build(VECTORS, "auto", "cpu", queries_QD=QUERIES, max_memory="60kB")
    assert built.card.kind == "sq8" and "of the 60 kB allowed" in built.card.reason
    assert f"index auto takes {built.card.reason}" in caplog.text
    assert built.card.bytes_per_vector * len(VECTORS) < 60_000
    built.save(tmp_path)
    assert VectorIndex.load(tmp_path).card.reason == built.card.reason
