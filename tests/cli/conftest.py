"""A tiny finished run, made once through the command line, and `call`, which runs a command as a user would."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from sdretrieval.cli import main


class Done(NamedTuple):
    """What a command left: its exit code, stdout and stderr."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """stdout as one JSON document: anything else on it would break this."""
        return json.loads(self.out)


Call = Callable[..., Done]


def _call(*arguments: object) -> Done:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    assert isinstance(ended.value.code, int)
    return Done(ended.value.code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def call() -> Call:
    """`call("plan", path)` = `sdretrieval plan path`, in this process."""
    return _call


class Finished(NamedTuple):
    """The tiny run `tiny`: its config file, the folder of runs, and what the command that made it left."""

    config: Path
    runs: Path
    done: Done


def settings(corpus: Path, student: Path) -> dict[str, Any]:
    """A config whose one generation is accepted, in seconds."""
    return {
        "name": "tiny",
        "corpus": {"source": str(corpus)},
        "student": {"model": str(student), "max_tokens": 64},
        "mine": {"depth": 30, "keep": 8},
        "teacher": {
            "kind": "ensemble",
            "members": [
                {"kind": "ema", "view": {"windows": "all"}, "weight": 0.25},
                {"kind": "lexical", "weight": 0.75},
            ],
        },
        "train": {
            "candidates_per_query": 6,
            "queries_per_batch": 8,
            "learning_rate": 3e-3,
            "epochs": 12,
            "precision": "float32",
            "freeze": [],
        },
    }


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory, tiny_corpus: Path, tiny_student: Path) -> Path:
    """The config of `finished`, as a file."""
    path = tmp_path_factory.mktemp("configs") / "tiny.yaml"
    path.write_text(yaml.safe_dump(settings(tiny_corpus, tiny_student)), encoding="utf8")
    return path


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, config: Path, call: Call) -> Finished:
    """The run, made once. Read only but for its caches: a test that changes it takes a copy."""
    runs = tmp_path_factory.mktemp("runs")
    done = call("run", config, "--runs", runs)
    assert done.code == 0, done.err
    return Finished(config, runs, done)
