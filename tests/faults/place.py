"""What faults are tried on: the tiny collection and models, a config, and what it made: run, evaluation, bundle."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.faults.forks import ROOT, Ended
from tests.helpers.runs.tiny_runs import EMA, LEXICAL, figures, settings

Call = Callable[..., Ended]
QUERY = "where is the dough near oslo?"


@dataclass(frozen=True)
class Place:
    """`folder` holds all of it; what is changed is a copy under `folder/scratch`."""

    folder: Path
    corpus: Path
    student: Path
    cross_encoder: Path
    config: Path
    runs: Path
    bundle: Path

    def scratch(self) -> Path:
        """An empty folder that nobody else uses."""
        (self.folder / "scratch").mkdir(exist_ok=True)
        return Path(tempfile.mkdtemp(dir=self.folder / "scratch"))

    def copy(self, of: Path) -> Path:
        """A copy to be spoilt."""
        return Path(shutil.copytree(of, self.scratch() / of.name))


def write_inputs(folder: Path) -> Place:
    """The collection, the models and the config; nothing is run yet."""
    subprocess.run([sys.executable, "-m", "tests.helpers.tiny", str(folder)], cwd=ROOT, check=True, capture_output=True)
    return place_of(folder, folder / "corpus", folder / "student", folder / "cross_encoder", folder / "runs")


def place_of(folder: Path, corpus: Path, student: Path, cross_encoder: Path, runs: Path) -> Place:
    """The place of inputs that are there; the config is written."""
    # Without weight: its scores are kept in the store, and its random opinion spoils no student.
    reader = {"kind": "cross_encoder", "model": str(cross_encoder), "max_tokens": 64, "weight": 0.0}
    config: dict[str, Any] = settings(corpus, student)
    config["teacher"] = {"kind": "ensemble", "members": [EMA, LEXICAL, reader]}
    config["train"] |= {"save_every": 6}
    (folder / "tiny.yaml").write_text(yaml.safe_dump(config), encoding="utf8")
    return Place(folder, corpus, student, cross_encoder, folder / "tiny.yaml", runs, folder / "bundle")


def finish(place: Place, call: Call) -> None:
    """Run, evaluate and export, undisturbed."""
    for arguments in (run_of(place), evaluate_of(place), export_of(place)):
        expect_done(call(*arguments))


def run_of(place: Place, runs: Path | None = None) -> Sequence[object]:
    """The command line of the run."""
    return ("run", place.config, "--runs", runs or place.runs)


def evaluate_of(place: Place, runs: Path | None = None) -> Sequence[object]:
    """That of an evaluation of the base student."""
    return ("evaluate", place.student, "--corpus", place.corpus, "--json", "-", "--runs", runs or place.runs)


def export_of(place: Place, bundle: Path | None = None, runs: Path | None = None) -> Sequence[object]:
    """That of an export."""
    return ("export", "tiny", bundle or place.bundle, "--runs", runs or place.runs)


def expect_done(ended: Ended) -> Ended:
    """Raise SystemExit if an undisturbed command failed: there is nothing to try then."""
    if ended.code != 0:
        raise SystemExit(f"an undisturbed command ended with {ended.code}:\n{ended.err}")
    return ended


def results_of(runs: Path) -> Any:
    """What must be the same however often a run was disturbed: figures, rankings, weights."""
    folder = runs / "tiny"
    report = figures(json.loads((folder / "report.json").read_text(encoding="utf8")))
    return report, contents(folder / "runs"), contents(folder / "student")


def contents(folder: Path) -> dict[str, bytes]:
    """Bytes of every file."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files_of(folder)}


def files_of(folder: Path) -> Iterable[Path]:
    """Every file, in order."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
