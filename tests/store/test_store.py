"""The store: finished or not there, also after a kill; damage is named; one run at a time."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from sdretrieval.errors import DamagedArtifact, ResourceError, WorkError
from sdretrieval.store import Store, Work, digest_file, key_of

KEY = key_of("encode", 1, {"max_tokens": 256}, ["corpus", "student"])
DESCRIBE = {"version": 1, "identity": {"max_tokens": 256}, "inputs": ["corpus", "student"]}
CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def put(store: Store, key: str = KEY, text: str = "vectors") -> Path:
    with store.make(key, "encode", DESCRIBE) as work:
        (work.folder / "part").mkdir(exist_ok=True)
        (work.folder / "part" / "a.npy").write_text(text)
        work.counts["documents"] = np.int64(3)
    return store.path_of(key)


def fail_while_making(store: Store, key: str, text: str) -> None:
    with store.make(key, "encode", DESCRIBE) as work:
        (work.folder / "chunk").write_text(text)
        raise KeyError


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another process, which prints a line once it holds what the test wants held."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], cwd=CHECKOUT, stdout=subprocess.PIPE, text=True
    )


def wait_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


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


KILLED_IN_MAKE = """
import sys, time
from pathlib import Path
from sdretrieval.store import Store
with Store(Path(sys.argv[1])).make(sys.argv[2], "encode", {}) as work:
    (work.folder / "chunk_0").write_text("first")
    print("written", flush=True)
    time.sleep(60)
"""

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


# --- damage


def damage(path: Path, text: str) -> None:
    (path / "part" / "a.npy").write_text(text)


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


def build(work: Work) -> None:
    (work.folder / "a").write_text("made")
    work.counts["n"] = 1


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


# --- claims and locks

HOLDS_LOCK = """
import sys, time
from pathlib import Path
from sdretrieval.store import Store
with Store(Path(sys.argv[1])).lock("run scifact.yaml", exclusive=sys.argv[2] == "run"):
    print("held", flush=True)
    time.sleep(60)
"""

FORKS_UNDER_LOCK = """
import os, sys, time
from pathlib import Path
from sdretrieval.store import Store
with Store(Path(sys.argv[1])).lock("run"):
    if os.fork() == 0:  # the child speaks, so that it has let go of the lock by then
        print(os.getpid(), flush=True)
    time.sleep(60)
"""

MAKES_SLOWLY = """
import sys, time
from pathlib import Path
from sdretrieval.store import Store
def build(work):
    print("making", flush=True)
    time.sleep(0.5)
    (work.folder / "a").write_text("by the worker")
Store(Path(sys.argv[1])).ensure(sys.argv[2], "score", {}, build)
"""


def test_a_second_run_is_refused_and_told_who_holds_the_store(store: Store) -> None:
    process = python(HOLDS_LOCK, store.root, "run")
    assert wait_line(process) == "held"
    text = rf"store .* is locked by process {process.pid} \(run scifact\.yaml, since 2.* UTC\); wait until it ends"
    with pytest.raises(ResourceError, match=text) as caught, store.lock("run other.yaml"):
        pass
    assert caught.value.exit_code == 2
    kill(process)
    with store.lock("run other.yaml"):
        assert json.loads((store.root / "lock").read_text())["pid"] == os.getpid()
    assert not (store.root / "lock").exists()


def test_a_forked_child_does_not_keep_the_lock_of_a_killed_run(store: Store) -> None:
    process = python(FORKS_UNDER_LOCK, store.root)
    child = int(wait_line(process))
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        with store.lock("run again"):
            os.kill(child, 0)  # it still lives
            assert json.loads((store.root / "lock").read_text())["pid"] == os.getpid()
    finally:
        os.kill(child, signal.SIGKILL)
        process.communicate()


def test_a_lock_file_left_behind_locks_nothing(store: Store) -> None:
    store.root.mkdir()
    (store.root / "lock").write_text("half a na")
    with store.lock("run"):
        assert json.loads((store.root / "lock").read_text())["pid"] == os.getpid()


def test_two_runs_in_one_process_exclude_each_other_too(store: Store) -> None:
    with (
        store.lock("first"),
        pytest.raises(ResourceError, match=rf"process {os.getpid()} \(first"),
        store.lock("second"),
    ):
        pass


def test_workers_work_beside_a_run_and_keep_gc_out(store: Store) -> None:
    with store.lock("run"), store.lock("score", exclusive=False), store.lock("encode", exclusive=False):
        put(store)
    with (
        store.lock("score", exclusive=False),
        pytest.raises(ResourceError, match=r"workers use the store .*; wait until"),
    ):
        store.gc(keep=set)
    with store.lock("run"), pytest.raises(ResourceError, match="is locked by process"):
        store.gc(keep=set)
    assert store.get(KEY) is not None


def test_the_run_waits_for_a_worker_and_takes_what_it_made(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    process = python(MAKES_SLOWLY, store.root, KEY)
    assert wait_line(process) == "making"
    with caplog.at_level(logging.INFO, "sdretrieval"):
        made = store.ensure(KEY, "score", DESCRIBE, lambda work: pytest.fail("made twice"))
    process.communicate()
    assert made.cached
    assert (made.path / "a").read_text() == "by the worker"
    assert f"score: waiting for process {process.pid} (score, since" in caplog.text


def test_a_killed_worker_leaves_its_claim_to_the_run(store: Store) -> None:
    process = python(KILLED_IN_MAKE, store.root, KEY)
    assert wait_line(process) == "written"
    threading.Timer(0.3, kill, [process]).start()
    made = store.ensure(KEY, "encode", DESCRIBE, build)
    assert not made.cached
    assert {path.name for path in made.path.iterdir()} == {"chunk_0", "a", "manifest.json"}


def test_many_makers_of_one_key_make_it_once(store: Store) -> None:
    made: list[int] = []

    def slow(work: Work) -> None:
        made.append(1)
        time.sleep(0.05)
        build(work)

    threads = [
        threading.Thread(target=Store(store.root).ensure, args=(KEY, "encode", DESCRIBE, slow)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [1]
    assert store.get(KEY) is not None
