"""The Makefile says plainly what it does and what it needs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def _make(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Without what an outer `make test` hands down: it would print the folders it enters.
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    }
    return subprocess.run(
        ["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkout without a virtual environment."""
    for name in ("Makefile", "pyproject.toml", "constraints-cpu.txt"):
        shutil.copy(CHECKOUT / name, tmp_path)
    return tmp_path


def test_make_alone_lists_the_targets(folder: Path) -> None:
    listed = _make(folder).stdout.splitlines()
    assert [line.split()[1] for line in listed] == [
        "help",
        "setup",
        "demo",
        "test",
        "check",
        "bench",
        "ablations",
        "docs",
        "format",
        "clean",
    ]


@pytest.mark.parametrize("data", [[], ["DATA=collections"]])
def test_ablations_without_their_collections_say_what_to_name(folder: Path, data: list[str]) -> None:
    (folder / "collections" / "feedbackqa").mkdir(parents=True)
    (folder / "collections" / "feedbackqa" / "corpus.jsonl").touch()
    (folder / ".venv").mkdir()
    (folder / ".venv" / ".ready").touch()
    done = _make(folder, "ablations", *data)
    missing = "covidqa_passage in 'collections'" if data else "feedbackqa in ''"
    assert done.returncode != 0 and f"make ablations: no collection {missing}; name a folder" in done.stderr
    assert "make ablations DATA=FOLDER" in done.stderr


def _fake(path: Path, script: str) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_an_old_python_is_refused_in_one_line(folder: Path) -> None:
    old = _fake(folder / "old-python", '[ "$1" = --version ] && echo Python 3.9.2 && exit 0; exit 1')
    done = _make(folder, "setup", f"PYTHON={old}")
    assert done.returncode != 0
    assert f"sdretrieval needs Python 3.11 or newer; '{old}' is Python 3.9.2." in done.stderr
    assert not (folder / ".venv").exists()


def test_a_missing_python_is_named(folder: Path) -> None:
    assert "'no-such-python' is not there" in _make(folder, "setup", "PYTHON=no-such-python").stderr


def test_an_interrupted_set_up_is_done_again_and_a_finished_one_is_not(folder: Path) -> None:
    pip = (
        'case "$*" in *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;; '
        "*install*) echo pip; exit $(cat code) ;; esac"
    )
    python = _fake(folder / "bin" / "python3", pip)
    (folder / "code").write_text("1")
    assert _make(folder, "setup", f"PYTHON={python}").returncode != 0
    (folder / "code").write_text("0")
    again = _make(folder, "setup", f"PYTHON={python}")
    assert again.returncode == 0, again.stderr
    assert "pip" in again.stdout
    assert "pip" not in _make(folder, "setup", f"PYTHON={python}").stdout


@pytest.mark.parametrize(("gpu", "extras", "torch_pinned"), [(0, "gpu,demo,dev", False), (1, "cpu,demo,dev", True)])
def test_the_machine_decides_between_cpu_and_gpu(folder: Path, gpu: int, extras: str, torch_pinned: bool) -> None:
    tools = _fake(folder / "tools" / "nvidia-smi", f"exit {gpu}").parent
    path = f"PATH={tools}:/usr/bin:/bin"
    done = subprocess.run(["env", path, "make", "-n", "setup"], cwd=folder, capture_output=True, text=True, check=True)
    assert f"'.[{extras}]'" in done.stdout
    assert ("cat constraints-cpu.txt" in done.stdout) == torch_pinned
    assert ("grep -v '^torch=='" in done.stdout) == (not torch_pinned)


@pytest.mark.parametrize(
    ("gpu", "answers", "asked", "expected"),
    [
        (1, 0, [], "--extra-index-url https://download.pytorch.org/whl/cpu"),
        (1, 1, [], ""),
        (0, 0, [], ""),
        (1, 0, ["TORCH_INDEX="], ""),
        (1, 1, ["TORCH_INDEX=https://mirror/cpu"], "--extra-index-url https://mirror/cpu"),
    ],
    ids=["it answers", "it does not answer", "there is a GPU", "turned off", "another is named"],
)
def test_cpu_builds_of_torch_are_looked_for_where_they_are_needed(
    folder: Path, gpu: int, answers: int, asked: list[str], expected: str
) -> None:
    tools = _fake(folder / "tools" / "nvidia-smi", f"exit {gpu}").parent
    script = (
        'case "$*" in *"-m venv"*) mkdir -p .venv/bin; cp "$0" .venv/bin/python ;; '
        f'*urllib*) exit {answers} ;; *install*) echo "$*" > installed ;; esac'
    )
    python = _fake(folder / "bin" / "python3", script)
    settings = [f"PATH={tools}:/usr/bin:/bin", "make", "setup", f"PYTHON={python}", *asked]
    subprocess.run(["env", *settings], cwd=folder, capture_output=True, text=True, check=True)
    found = (folder / "installed").read_text().split(" -c ")[0].split("--disable-pip-version-check")[1].strip()
    assert found == expected
