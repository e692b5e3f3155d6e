"""What every test gets: no network, few threads, a tiny real collection and tiny real models, skips with reasons."""

from __future__ import annotations

import gc
import os
import shutil
import sys
import tempfile

# Before any heavy import: the libraries read these once.
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
os.environ.setdefault("OMP_NUM_THREADS", "2")  # make test: 1, in as many processes as there are cores
# What tests measure of this machine, of tiny models, is not the user's: processes that tests start share it.
CACHE = os.environ["SDRETRIEVAL_CACHE"] = tempfile.mkdtemp(prefix="sdretrieval-test-cache-")

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from sdretrieval.corpus.read import python_stdlib
from tests.helpers import real, tiny
from tests.helpers.runs.fixtures import (  # pytest finds fixtures by their names here
    finished as finished,
)
from tests.helpers.runs.fixtures import (
    finished_copy as finished_copy,
)
from tests.helpers.runs.fixtures import (
    full_config as full_config,
)
from tests.helpers.runs.fixtures import (
    letters as letters,
)
from tests.helpers.runs.fixtures import (
    make_config as make_config,
)
from tests.helpers.runs.fixtures import (
    nursery as nursery,
)
from tests.helpers.runs.fixtures import (
    tiny_guest as tiny_guest,
)

hypothesis.settings.register_profile("no deadline", deadline=None)  # a busy machine is no defect
hypothesis.settings.load_profile("no deadline")


def pytest_unconfigure() -> None:
    """The folder of this process goes with it."""
    shutil.rmtree(CACHE, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def stdlib_parsed_once() -> None:
    """A dozen tests build python-stdlib: the hundreds of modules are parsed once a process."""
    python_stdlib.fragments = cache(python_stdlib.fragments)  # type: ignore[assignment]


@pytest.fixture(scope="module", autouse=True)
def libraries_are_not_looked_through_again() -> None:
    """Every training collects garbage: a third of a second among the objects of all that torch's libraries imported."""
    if "transformers.trainer" in sys.modules and gc.get_freeze_count() == 0:
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def tiny_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """BEIR folder: 120 documents; 40 train, 20 dev, 24 test queries. Read only: copy it to change it."""
    return tiny.write_corpus(tmp_path_factory.mktemp("corpus") / "tiny")


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random 2-layer bi-encoder, 32 dims, 128 positions. Read only."""
    return tiny.write_student(tmp_path_factory.mktemp("models") / "student")


@pytest.fixture(scope="session")
def tiny_cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random 2-layer cross-encoder with one output, 128 positions. Read only."""
    return tiny.write_cross_encoder(tmp_path_factory.mktemp("models") / "cross_encoder")


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """`real_data(name)`: folder of a real collection, or a skip."""
    return real.real_data


@pytest.fixture(scope="session")
def real_model() -> Callable[[str], Path]:
    """`real_model(name)`: folder of a real model, or a skip."""
    return real.real_model


LONG = (
    "test_resume", "test_pipeline", "test_grown_corpus", "test_benchmarks", "test_prompts", "test_later_generations",
    "test_end_to_end", "test_ddp", "test_train", "test_kinds", "test_packaging", "test_ablations", "test_scripts",
    "test_imported_scores", "test_query_side",
)  # fmt: skip
"""Files that take longest: they begin first, so that no process works on one alone at the end."""


NURSERY = ("test_resume.py", "test_pipeline.py", "test_grown_corpus.py", "test_language_model.py")
"""Files whose tests run in forked processes: they share one process that has imported everything."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """A file's tests stay together, as with `--dist loadfile`, and so do those of `NURSERY`."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = str(super()._split_scope(nodeid))
            return "nursery" if file.endswith(NURSERY) else file

    return ByFile(config, log) if config.getvalue("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; tests marked `gpu` are skipped if torch, imported only then, sees no CUDA device."""
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if marked and (reason := _why_no_gpu()):
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


def _why_no_gpu() -> str:
    import torch

    return "" if torch.cuda.is_available() else f"needs a CUDA device; torch {torch.__version__} sees none"
