"""What the tests of runs share: configs over the tiny collection, one finished run, a nursery of processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.config import Config, parse_config
from tests.helpers.runs import tiny_runs
from tests.helpers.runs.nursery import Nursery
from tests.helpers.runs.tiny_runs import MakeConfig
from tests.helpers.tiny import write_student


@pytest.fixture(scope="session")
def make_config(tiny_corpus: Path, tiny_student: Path) -> MakeConfig:
    """`make_config("a.b=c", ..., section={...})`: the tiny config with other sections and settings."""

    def make(*overrides: str, **sections: Any) -> Config:
        return parse_config({**tiny_runs.settings(tiny_corpus, tiny_student), **sections}, overrides)

    return make


@pytest.fixture(scope="session")
def full_config(make_config: MakeConfig) -> Config:
    """The tiny config with both controls: that of `finished`."""
    return make_config("evaluate.controls=[hard_labels, shuffled_teacher]")


@pytest.fixture(scope="session")
def finished(full_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """RunResult of `full_config`, made once. Read only: `finished_copy` may be changed."""
    from sdretrieval.run.api import run_config

    return run_config(full_config, runs=tmp_path_factory.mktemp("finished"))


@pytest.fixture
def finished_copy(finished: Any, tmp_path: Path) -> Path:
    """RUNS folder with the finished run and its store."""
    return Path(shutil.copytree(finished.folder.parent, tmp_path / "runs"))


@pytest.fixture(scope="session")
def tiny_guest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of another random bi-encoder than the student, of 48 dims. Read only."""
    return write_student(tmp_path_factory.mktemp("models") / "guest", seed=5, dims=48)


@pytest.fixture(scope="session")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the collection that BM25 cannot search and any student can. Read only."""
    return tiny_runs.write_letters(tmp_path_factory.mktemp("corpus") / "letters")


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Runs in processes of their own."""
    process = Nursery()
    yield process
    process.close()
