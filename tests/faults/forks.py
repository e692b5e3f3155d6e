"""Commands in processes of their own that cost no import: a process that has everything imported forks one for each.

`python -m tests.faults.forks` reads one JSON job a line and answers with one JSON line; `Forks` talks to it. It
computes nothing itself, so that its children inherit no threads.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from sdretrieval.cli.logs import quiet_libraries
from tests.helpers.runs.nursery import HEAVY

ROOT = Path(__file__).parents[2]
COMMANDS = ("sdretrieval.cli", "sdretrieval.export.bundle", "sdretrieval.export.verify", "transformers.models.bert")
LIMIT_S = 120.0
"""No command that is tried here takes as long: it hangs."""
HUNG, TRACEBACK = 124, 70


class Ended(NamedTuple):
    """How a command ended: its exit code, or minus the signal that killed it; stdout, stderr, and how long it took."""

    code: int
    out: str
    err: str
    seconds: float = 0.0


class Forks:
    """The process, from the side of who tries. Not for two threads at once."""

    def __init__(self, cache: Path) -> None:
        one = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.forks"], cwd=ROOT, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, env={**os.environ, **one, "SDRETRIEVAL_CACHE": str(cache)},
        )  # fmt: skip

    def __call__(
        self, *arguments: object, kill_after: float | None = None, kill_when: tuple[Path, str] | None = None
    ) -> Ended:
        """`sdretrieval ARGUMENTS`. `kill_after`: the kernel ends it after so many seconds, wherever it is then.
        `kill_when`: it is killed when there is a file of this pattern under the folder."""
        when = [str(part) for part in kill_when or ()]
        job = {"arguments": [str(argument) for argument in arguments], "kill_after": kill_after, "kill_when": when}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End it."""
        self._process.communicate()


def _serve() -> None:
    quiet_libraries()
    for name in (*HEAVY, *COMMANDS):
        importlib.import_module(name)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(_child(**json.loads(line))._asdict()) + "\n")
        sys.stdout.flush()


def _child(arguments: Sequence[str], kill_after: float | None, kill_when: Sequence[str]) -> Ended:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            signal.setitimer(signal.ITIMER_REAL, kill_after or 0)
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            _be_a_command(arguments)
        code, seconds = _wait(child, started, kill_when)
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode("utf8", "replace"))
        return Ended(code, said[0], said[1], round(seconds, 3))


def _wait(child: int, started: float, kill_when: Sequence[str]) -> tuple[int, float]:
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        seconds = time.monotonic() - started
        if ended:
            return os.waitstatus_to_exitcode(status), seconds
        met = bool(kill_when) and any(Path(kill_when[0]).glob(kill_when[1]))
        if met or seconds > LIMIT_S:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return -signal.SIGKILL if met else HUNG, seconds
        time.sleep(0.005)


def _be_a_command(arguments: Sequence[str]) -> NoReturn:
    from sdretrieval.cli import main

    code: Any = TRACEBACK
    try:
        main(list(arguments))
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else TRACEBACK)


if __name__ == "__main__":
    _serve()
    os._exit(0)  # nothing is left to clean up, and the libraries take seconds over it
