"""A process that has everything imported and forks a child for each run: a run costs no import, and a kill is real.

`python -m tests.helpers.runs.nursery` reads one JSON job a line and answers with one JSON line; `Nursery` talks to it.
It computes nothing itself, so that its children inherit no threads.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from sdretrieval.config import Config

ROOT = Path(__file__).parents[3]
HEAVY = (
    "datasets", "faiss", "beir.retrieval.evaluation", "scipy.sparse", "sentence_transformers", "accelerate",
    "sdretrieval.run.api", "sdretrieval.report.page", "sdretrieval.training.train", "sdretrieval.training.trainer",
    "sdretrieval.training.distillation", "sdretrieval.teachers.ema",
)  # fmt: skip


class Ended(NamedTuple):
    """How a run ended: its exit code, or minus the signal that killed it; and what it said on stderr."""

    code: int
    said: list[str]


class Nursery:
    """The process, from the side of the tests."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.helpers.runs.nursery"], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(
        self, config: Config, runs: Path, *, until: str | None = None, worker: bool = False, kill_at: str = "",
        kill_when: str = "", kill_after: float | None = None,
    ) -> Ended:  # fmt: skip
        """Run `config` in a process of its own. `kill_at`: SIGKILL it as soon as it says that this stage begins;
        `kill_when`: only when a file of this pattern under `runs` is there as well. `kill_after`: the kernel ends it
        (SIGALRM, which nothing catches) after so many seconds, wherever it is then."""
        job = {"config": config.model_dump(mode="json"), "runs": str(runs), "until": until, "worker": worker}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        kill = {"kill_at": kill_at, "kill_when": kill_when, "kill_after": kill_after}
        self._process.stdin.write(json.dumps({**job, **kill}) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def _serve() -> None:
    for name in HEAVY:
        importlib.import_module(name)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_child(**json.loads(line))) + "\n")
        sys.stdout.flush()


def _child(
    config: dict[str, Any], runs: str, until: str | None, worker: bool, kill_at: str, kill_when: str,
    kill_after: float | None,
) -> Any:  # fmt: skip
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.setitimer(signal.ITIMER_REAL, kill_after or 0)
        _be_a_run(writing, config, Path(runs), until, worker)
    os.close(writing)
    said = []
    with os.fdopen(reading, encoding="utf8", errors="replace") as lines:
        for line in lines:
            said.append(line.rstrip("\n"))
            if kill_at and f"{kill_at} begins (" in line:
                _wait_for(Path(runs), kill_when)
                os.kill(child, signal.SIGKILL)
    return Ended(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), said)._asdict()


def _wait_for(runs: Path, pattern: str) -> None:
    """The run ends sooner or later, so this is bounded; a run that ended before is killed too late, and says so."""
    deadline = time.monotonic() + 60
    while pattern and not any(runs.glob(pattern)) and time.monotonic() < deadline:
        time.sleep(0.002)


def _be_a_run(stderr: int, config: dict[str, Any], runs: Path, until: str | None, worker: bool) -> NoReturn:
    from sdretrieval.config import parse_config
    from sdretrieval.run.api import run_config

    os.dup2(stderr, 1)
    os.dup2(stderr, 2)
    logging.basicConfig(format="%(message)s", stream=sys.stderr)
    logging.getLogger("sdretrieval").setLevel(logging.DEBUG)
    code = 1
    try:
        run_config(parse_config(config), runs=runs, until=until, worker=worker)
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
    os._exit(0)  # nothing is left to clean up, and the libraries take seconds over it
