"""What a person at a terminal sees: one live table while a run works, and Ctrl-C that says how to go on."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import shlex
import struct
import sys
import termios
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.cli.conftest import Call

COLUMNS = 100
ERASED = "\x1b[2K"
"""The terminal empties a line: what was drawn there is over."""
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Seen(NamedTuple):
    """A command's exit code and everything that it drew, without what moves the cursor."""

    code: int
    text: str


def at_a_terminal(command: Sequence[str], ctrl_c_at: str = "", seconds: float = 240, term: str = "xterm") -> Seen:
    """Run a command at a terminal of its own; press Ctrl-C as soon as `ctrl_c_at`, an expression, is to be seen."""
    child, terminal = pty.fork()
    if child == 0:
        # readline, which pytest imports, has put its own idea of the size there.
        kept = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
        os.execve(command[0], command, {**kept, "TERM": term})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    drawn, pressed, until = b"", False, time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            new = os.read(terminal, 65536)
        except OSError:  # Linux says so of a terminal that nobody writes to any more
            break
        if not new:
            break
        drawn += new
        if ctrl_c_at and not pressed and re.search(ctrl_c_at, CONTROL.sub("", drawn.decode(errors="replace"))):
            os.write(terminal, b"\x03")
            pressed = True
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    text = drawn.decode().replace("\r", "").replace(ERASED, "\n")
    return Seen(os.waitstatus_to_exitcode(status), CONTROL.sub("", text))


def run(config: Path, runs: Path, *more: str) -> list[str]:
    """A run of the tiny config that trains for some seconds."""
    return [sys.executable, "-m", "sdretrieval", "run", str(config), "--runs", str(runs), *more]


def test_a_run_draws_one_table_and_ctrl_c_says_how_to_go_on(config: Path, tmp_path: Path, call: Call) -> None:
    command = run(config, tmp_path, "--set", "train.epochs=40", "--set", "train.save_every=10")
    seen = at_a_terminal(command, ctrl_c_at=r" [2-9]\d of 200 updates")
    assert seen.code == 130, seen.text
    rows = re.findall(r"^1/train .* (\d+) of 200 updates .* (\d+\.\d) s +[\d.]+ [MG]B *$", seen.text, re.MULTILINE)
    assert rows, seen.text
    figures = r"^train \(teacher\): loss [\d.]+, learning rate [\d.]+, dev nDCG@10 0\.\d{4} \(1/evaluate:dev\)$"
    assert re.search(figures, seen.text, re.MULTILINE), seen.text
    assert re.search(r"stage 19 of \d\d", seen.text)
    assert [line for line in seen.text.splitlines()[:-1] if len(line) > COLUMNS] == []  # last is the command
    assert re.search(r"^1/mine +40 queries, 320 candidates +\d+\.\d s$", seen.text, re.MULTILINE)  # above the table

    *_, where, to_go_on, again = seen.text.splitlines()
    assert re.fullmatch(r"error: interrupted in 1/train \(stage 19 of \d\d\) at \d+ of 200 updates\.", where), where
    assert to_go_on == "Finished stages are in the store. To go on, type:"
    assert shlex.split(again)[1:] == command[1:]

    gone_on = at_a_terminal([sys.executable, *shlex.split(again)[1:]])
    assert gone_on.code == 0, gone_on.text
    assert "training continues from checkpoint-" in gone_on.text
    assert "student: " in gone_on.text
    assert "updates" not in gone_on.text.partition("system ")[2]  # the table is gone before the results are printed
    made = call("show", "tiny", "--runs", tmp_path, "--json").json()["stages"]
    assert [stage["counts"]["updates"] for stage in made if stage["stage"] == "1/train"] == [200]


def test_a_terminal_that_cannot_draw_gets_log_lines(config: Path, tmp_path: Path) -> None:
    seen = at_a_terminal(run(config, tmp_path, "--until", "0/tokens"), term="dumb")
    assert seen.code == 0
    assert "memory" not in seen.text
    assert re.search(r"^0/tokens +8,400 tokens of documents", seen.text, re.MULTILINE)
