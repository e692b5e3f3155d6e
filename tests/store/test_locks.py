"""One run at a time, workers beside it; a kill leaves no lock and no claim."""

from __future__ import annotations

import json
import logging
import os
import signal
import threading
import time

import pytest

from sdretrieval.errors import ResourceError
from sdretrieval.store import Store, Work
from tests.store.helpers import DESCRIBE, KEY, KILLED_IN_MAKE, build, kill, put, python, wait_line

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
