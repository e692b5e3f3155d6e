"""An artifact to make, and other processes that hold what a test wants held."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import numpy as np

from sdretrieval.store import Store, Work, key_of

KEY = key_of("encode", 1, {"max_tokens": 256}, ["corpus", "student"])
DESCRIBE = {"version": 1, "identity": {"max_tokens": 256}, "inputs": ["corpus", "student"]}
CHECKOUT = Path(__file__).parents[2]


def put(store: Store, key: str = KEY, text: str = "vectors") -> Path:
    with store.make(key, "encode", DESCRIBE) as work:
        (work.folder / "part").mkdir(exist_ok=True)
        (work.folder / "part" / "a.npy").write_text(text)
        work.counts["documents"] = np.int64(3)
    return store.path_of(key)


def damage(path: Path, text: str) -> None:
    (path / "part" / "a.npy").write_text(text)


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


KILLED_IN_MAKE = """
import sys, time
from pathlib import Path
from sdretrieval.store import Store
with Store(Path(sys.argv[1])).make(sys.argv[2], "encode", {}) as work:
    (work.folder / "chunk_0").write_text("first")
    print("written", flush=True)
    time.sleep(60)
"""


def build(work: Work) -> None:
    (work.folder / "a").write_text("made")
    work.counts["n"] = 1
