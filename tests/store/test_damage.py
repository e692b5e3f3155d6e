"""What was changed, lost or exchanged in a store is named, and made again."""

from __future__ import annotations

import json
import logging
import resource
from pathlib import Path

import pytest

from sdretrieval.errors import DamagedArtifact
from sdretrieval.store import Store, digest_file
from tests.store.helpers import DESCRIBE, KEY, build, damage, put


def test_a_changed_size_is_found_at_every_use(store: Store) -> None:
    path = put(store)
    damage(path, "longer than before")
    with pytest.raises(
        DamagedArtifact,
        match=rf"artifact {KEY} \(encode\), file part/a\.npy: expected 7 bytes, found 18; it must be made again",
    ):
        store.get(KEY)


def test_a_missing_file_is_found(store: Store) -> None:
    (put(store) / "part" / "a.npy").unlink()
    with pytest.raises(DamagedArtifact, match=r"file part/a\.npy: expected 7 bytes, found no file"):
        store.get(KEY)


def test_changed_bytes_are_found_at_the_first_use_in_a_process(store: Store) -> None:
    path = put(store)
    good = digest_file(path / "part" / "a.npy")
    damage(path, "vectorz")
    bad = digest_file(path / "part" / "a.npy")
    store.verify(KEY, deep=False)
    with pytest.raises(DamagedArtifact, match=f"expected digest {good}, found {bad}; it must be made again"):
        Store(store.root).get(KEY)
    with pytest.raises(DamagedArtifact, match="expected digest"):
        store.verify(KEY, deep=True)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"files": {"a": 3}}', "[" * 5000, "\0"])
def test_a_broken_manifest_is_damage(store: Store, text: str) -> None:
    (put(store) / "manifest.json").write_text(text)
    with pytest.raises(
        DamagedArtifact, match=rf"artifact {KEY}: its manifest\.json cannot be read \(.*it must be made"
    ):
        store.get(KEY)


def test_a_missing_manifest_is_damage(store: Store) -> None:
    (put(store) / "manifest.json").unlink()
    with pytest.raises(DamagedArtifact, match="cannot be read"):
        store.get(KEY)


def test_an_artifact_under_a_wrong_key_is_damage(store: Store) -> None:
    put(store).rename(store.root / "artifacts" / KEY[:2] / f"{KEY[:2]}wrong")
    with pytest.raises(DamagedArtifact, match=f"artifact {KEY[:2]}wrong: its manifest names {KEY}"):
        store.get(f"{KEY[:2]}wrong")


def test_ensure_makes_once_and_finds_after(store: Store) -> None:
    first = store.ensure(KEY, "encode", DESCRIBE, build)
    second = store.ensure(KEY, "encode", DESCRIBE, lambda work: pytest.fail("made twice"))
    assert (first.cached, second.cached) == (False, True)
    assert first.path == second.path
    assert second.counts == {"n": 1}
    assert second.seconds == first.seconds


def test_ensure_names_the_damaged_artifact_and_makes_it_again(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    damage(put(store), "vectorz")
    fresh = Store(store.root)
    with caplog.at_level(logging.WARNING, "sdretrieval"):
        made = fresh.ensure(KEY, "encode", DESCRIBE, build)
    assert not made.cached
    assert (made.path / "a").read_text() == "made"
    assert list(fresh.manifest(KEY).files) == ["a"]
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        f"artifact {KEY} (encode), file part/a.npy"
    ]
    assert list((store.root / "trash").iterdir()) == []


def test_get_or_discard_removes_the_damaged_artifact(store: Store) -> None:
    damage(put(store), "short")
    assert store.get_or_discard(KEY) is None
    assert store.get(KEY) is None
    assert store.discard(KEY) == 0


@pytest.mark.parametrize(("name", "value"), [("seconds", 9.5), ("counts", {"documents": 4}), ("inputs", ["other"])])
def test_a_changed_field_of_a_manifest_is_damage(store: Store, name: str, value: object) -> None:
    path = put(store) / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), name: value}))
    with pytest.raises(
        DamagedArtifact, match=r"its manifest\.json cannot be read \(expected digest .*; it must be made"
    ):
        store.get(KEY)


def test_a_damaged_artifact_that_is_a_link_is_made_again_and_its_target_stays(
    store: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moved = put(store).rename(tmp_path / "larger-disk")
    store.path_of(KEY).symlink_to(moved)
    assert Store(store.root).get(KEY) is not None
    damage(moved, "vectorz")
    made = Store(store.root).ensure(KEY, "encode", DESCRIBE, build)
    assert not made.cached and not made.path.is_symlink() and (made.path / "a").exists()
    assert (moved / "part" / "a.npy").read_text() == "vectorz"
    assert f"was a link to {moved}; what is there is left as it is" in caplog.text


def test_an_artifact_that_is_a_link_to_nowhere_is_made_again(store: Store, tmp_path: Path) -> None:
    store.path_of(KEY).parent.mkdir(parents=True)
    store.path_of(KEY).symlink_to(tmp_path / "nowhere")
    assert not store.ensure(KEY, "encode", DESCRIBE, build).cached
    assert not store.path_of(KEY).is_symlink()


def test_too_many_open_files_are_no_damage(store: Store) -> None:
    put(store)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
        with pytest.raises(OSError, match="Too many open files"):
            Store(store.root).get_or_discard(KEY)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert store.get(KEY) is not None
