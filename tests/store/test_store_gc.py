"""gc keeps what a run refers to and what may be resumed; too little disk is told before long work."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdretrieval.errors import ResourceError
from sdretrieval.store import Removed, Store, check_disk

KEY = "a" * 40


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, key: str = KEY) -> None:
    with store.make(key, "encode", {}) as work:
        (work.folder / "a.npy").write_text("vectors")


def leave_partial(store: Store, key: str, text: str) -> None:
    with store.make(key, "encode", {}) as work:
        (work.folder / "chunk").write_text(text)
        raise KeyError


def test_gc_removes_what_no_run_refers_to(store: Store) -> None:
    put(store)
    put(store, "b" * 40)
    with pytest.raises(KeyError):
        leave_partial(store, "c" * 40, "1234")
    gone = [key for key, _ in store.gc(keep=lambda: {KEY}, pretend=True)]
    assert gone == ["b" * 40]
    assert store.get("b" * 40) is not None
    [removed] = store.gc(keep=lambda: {KEY})
    assert removed.key == "b" * 40
    assert removed.bytes > 7
    assert store.get("b" * 40) is None
    assert store.get(KEY) is not None
    assert store.gc(keep=lambda: {KEY}, stale_after_s=-1) == [Removed("c" * 40, 4)]
    assert store.gc(keep=lambda: {KEY}, stale_after_s=-1) == []


def test_gc_of_a_store_that_is_not_there(store: Store) -> None:
    assert store.gc(keep=set) == []


def test_too_little_disk_names_what_is_free_and_needed(tmp_path: Path) -> None:
    check_disk(tmp_path / "not" / "yet", 1)
    with pytest.raises(
        ResourceError, match=r"too little disk at .*yet: [\d.]+ [kMGT]B free, 1000000\.0 TB needed; make room .*--runs"
    ):
        check_disk(tmp_path / "not" / "yet", 10**18)
