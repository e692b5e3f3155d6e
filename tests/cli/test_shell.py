"""`--version`, and what a shell asks to complete a command."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.cli.conftest import Call

PYPROJECT = Path(__file__).parents[2] / "pyproject.toml"


def test_the_version_is_the_packages(call: Call) -> None:
    version = tomllib.loads(PYPROJECT.read_text(encoding="utf8"))["project"]["version"]
    done = call("--version")
    assert (done.code, done.out, done.err) == (0, f"sdretrieval {version}\n", "")


def completion(shell: str, tmp_path: Path) -> str:
    """The script that `--show-completion` prints in a shell."""
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    command = shlex.join([sys.executable, "-m", "sdretrieval", "--show-completion"])
    home = os.environ | {"HOME": str(tmp_path)}  # nobody's own start-up files
    done = subprocess.run([path, "-c", f"{command}; true"], capture_output=True, text=True, env=home, check=True)
    assert done.stderr == ""
    return done.stdout


def test_bash_completes_commands_and_options_by_the_script_that_is_printed(tmp_path: Path) -> None:
    program = tmp_path / "sdretrieval"
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m sdretrieval "$@"\n', encoding="utf8")
    program.chmod(0o755)
    script = f"""{completion("bash", tmp_path)}
complete -p sdretrieval
ask() {{ COMP_WORDS=(sdretrieval "$@"); COMP_CWORD=$#; _sdretrieval_completion sdretrieval; echo "${{COMPREPLY[@]}}"; }}
ask ex
ask run --unt
"""
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=os.environ | path, check=True)
    assert done.stdout.splitlines()[1:] == ["export", "--until"]
    assert "sdretrieval" in done.stdout.splitlines()[0]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_of_their_own(shell: str, tmp_path: Path) -> None:
    script = completion(shell, tmp_path)
    assert f"complete_{shell}" in script and "sdretrieval" in script
