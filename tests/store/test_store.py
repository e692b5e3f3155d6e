"""The store: finished or not there, also after a kill; damage is named; one run at a time."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sdretrieval.errors import WorkError
from sdretrieval.store import Store
from tests.store.helpers import DESCRIBE, KEY, KILLED_IN_MAKE, build, damage, kill, put, python, wait_line


def fail_while_making(store: Store, key: str, text: str) -> None:
    with store.make(key, "encode", DESCRIBE) as work:
        (work.folder / "chunk").write_text(text)
        raise KeyError


# --- making


def test_a_made_artifact_is_found_with_its_manifest(store: Store) -> None:
    assert store.get(KEY) is None
    path = put(store)
    assert store.get(KEY) == path == store.root / "artifacts" / KEY[:2] / KEY
    manifest = store.manifest(KEY)
    assert (manifest.stage, manifest.stage_version, manifest.identity) == ("encode", 1, {"max_tokens": 256})
    assert (manifest.inputs, manifest.counts, manifest.size()) == (("corpus", "student"), {"documents": 3}, 7)
    assert list(manifest.files) == ["part/a.npy"]
    assert manifest.versions["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"numpy", "torch", "sentence-transformers"} <= set(manifest.versions)
    assert manifest.seconds >= 0
    assert not store.partial_of(KEY).exists()
    assert not (store.root / "claims" / KEY).exists()


def test_recording_versions_imports_nothing_heavy() -> None:
    code = "import sys; from sdretrieval.store.manifest import versions; versions(); print('torch' in sys.modules)"
    assert python(code).communicate()[0].strip() == "False"


def test_nothing_is_visible_until_the_end(store: Store) -> None:
    with store.make(KEY, "encode", DESCRIBE) as work:
        (work.folder / "a").write_text("x")
        assert store.get(KEY) is None
    assert store.get(KEY) is not None


def test_an_error_leaves_nothing_visible_and_keeps_what_was_written(store: Store) -> None:
    with pytest.raises(KeyError):
        fail_while_making(store, KEY, "1")
    assert store.get(KEY) is None
    with store.make(KEY, "encode", DESCRIBE) as work:
        assert (work.folder / "chunk").read_text() == "1"
    with pytest.raises(KeyError):
        fail_while_making(store, "b" * 40, "1")
    with store.make("b" * 40, "encode", DESCRIBE, resumable=False) as work:
        assert list(work.folder.iterdir()) == []


def test_a_stage_cannot_write_the_manifest(store: Store) -> None:
    with (
        pytest.raises(WorkError, match=r"stage encode wrote a file manifest\.json"),
        store.make(KEY, "encode", DESCRIBE) as work,
    ):
        (work.folder / "manifest.json").write_text("{}")
    assert store.get(KEY) is None


KILLED_BEFORE_RENAME = """
import os, signal, sys
from pathlib import Path
from sdretrieval.store import Store
store = Store(Path(sys.argv[1]))
store._publish = lambda key: os.kill(os.getpid(), signal.SIGKILL)
with store.make(sys.argv[2], "encode", {}) as work:
    (work.folder / "chunk_0").write_text("first")
"""


def test_kill_in_the_midst_leaves_nothing_and_the_partial_work_is_found_again(store: Store) -> None:
    process = python(KILLED_IN_MAKE, store.root, KEY)
    assert wait_line(process) == "written"
    kill(process)
    assert store.get(KEY) is None
    assert not (store.root / "artifacts").exists()
    started = time.monotonic()
    with store.make(KEY, "encode", DESCRIBE) as work:
        assert (work.folder / "chunk_0").read_text() == "first"
        (work.folder / "chunk_1").write_text("second")
    assert time.monotonic() - started < 5
    assert set(store.manifest(KEY).files) == {"chunk_0", "chunk_1"}


def test_kill_between_manifest_and_rename_leaves_nothing(store: Store) -> None:
    process = python(KILLED_BEFORE_RENAME, store.root, KEY)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert (store.partial_of(KEY) / "manifest.json").exists()
    assert store.get(KEY) is None
    put(store)
    assert set(store.manifest(KEY).files) == {"chunk_0", "part/a.npy"}


@pytest.fixture
def other_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system than `tmp_path`."""
    shared = Path("/dev/shm")
    if not shared.is_dir() or shared.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs /dev/shm on another file system than the tests' folder")
    folder = Path(tempfile.mkdtemp(dir=shared))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("part", ["artifacts", "partial", "trash"])
def test_a_store_on_two_file_systems(store: Store, other_disk: Path, part: str) -> None:
    store.root.mkdir()
    (store.root / part).symlink_to(other_disk)
    damage(put(store), "vectorz")
    made = Store(store.root).ensure(KEY, "encode", DESCRIBE, build)
    assert not made.cached and Store(store.root).get(KEY) == made.path
    assert [path.name for path in (store.root / "artifacts" / KEY[:2]).iterdir()] == [KEY]
    assert not list((store.root / "partial").iterdir())
    assert [one.key for one in store.gc(keep=set)] == [KEY]


# --- permissions


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_files_that_a_library_closes_to_others_are_as_open_as_the_umask_says(
    store: Store, mask: int, mode: int
) -> None:
    before = os.umask(mask)
    try:
        with store.make(KEY, "encode", DESCRIBE) as work:
            (work.folder / "model.safetensors").write_text("weights")
            (work.folder / "model.safetensors").chmod(0o600)
    finally:
        os.umask(before)
    modes = {path.stat().st_mode & 0o777 for path in store.path_of(KEY).iterdir()}
    assert modes == {mode}


READS_ONLY = """
import os, sys
from pathlib import Path
from sdretrieval.errors import ResourceError
from sdretrieval.store import Store
store, key = Store(Path(sys.argv[1])), sys.argv[2]
if os.getuid() == 0:
    os.setuid(65534)
with store.lock("evaluate", exclusive=False):
    print(store.get(key) == store.path_of(key))
try:
    store.ensure("b" * 40, "encode", {}, lambda work: None)
except ResourceError as refused:
    print(refused)
try:
    with store.lock("run"):
        pass
except ResourceError as refused:
    print(refused)
"""


@pytest.mark.parametrize("lock_file", [True, False])
def test_who_may_only_read_a_store_can_and_is_told_what_he_cannot(lock_file: bool) -> None:
    folder = Path(tempfile.mkdtemp())  # not tmp_path, which others cannot enter
    store = Store(folder / "store")
    try:
        put(store)
        if lock_file:
            with store.lock("evaluate", exclusive=False):
                pass
        for path in (*folder.rglob("*"), folder):
            path.chmod(0o555 if path.is_dir() else 0o444)
        out = python(READS_ONLY, store.root, KEY).communicate()[0].splitlines()
        assert out[0] == "True"
        assert (
            "claims" in out[1] and "cannot be written (Permission denied), which encode needs; ask the owner" in out[1]
        )
        assert f"{store.root / 'lock'} cannot be written (Permission denied), which run needs" in out[2]
        assert "name a folder of your own with --runs" in out[2]
    finally:
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o755)
        shutil.rmtree(folder)
