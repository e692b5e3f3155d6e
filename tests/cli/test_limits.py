"""Limits of the machine: whatever library meets one, a user reads one line with the next step."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.cli.limits import limit_met
from sdretrieval.errors import ModelError
from tests.cli.conftest import Call, Finished

LARGE = 100_000
FULL, LARGE_FILE = "no space left on the disk", "a file became larger than is allowed"
CUT_SHORT = "a file could not be written to its end"


@contextmanager
def limited(name: int, most: int) -> Iterator[None]:
    """This process may have no more, for a moment."""
    soft, hard = resource.getrlimit(name)
    resource.setrlimit(name, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(name, (soft, hard))


def safetensors_numpy(path: Path) -> None:
    from safetensors.numpy import save_file

    save_file({"x": np.zeros(LARGE)}, path)


def safetensors_torch(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"x": torch.zeros(LARGE)}, path)


def torch_archive(path: Path) -> None:
    import torch

    torch.save({"x": torch.zeros(LARGE)}, path)


def faiss_index(path: Path) -> None:
    import faiss

    index = faiss.IndexFlatIP(8)
    index.add(np.zeros((LARGE, 8), dtype=np.float32))
    faiss.write_index(index, str(path))


def parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": np.random.default_rng(0).random(LARGE)}), path)


WRITERS: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "text": (lambda path: path.write_text("x" * LARGE), (LARGE_FILE,)),
    "numpy": (lambda path: np.save(path, np.zeros(LARGE)), (LARGE_FILE, CUT_SHORT)),
    "safetensors of numpy": (safetensors_numpy, (LARGE_FILE,)),
    "safetensors of torch": (safetensors_torch, (LARGE_FILE,)),
    "torch": (torch_archive, (LARGE_FILE, CUT_SHORT)),
    "FAISS": (faiss_index, (LARGE_FILE,)),
    "Parquet": (parquet, (LARGE_FILE,)),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_writer_that_meets_a_limit_is_understood(name: str, tmp_path: Path) -> None:
    write, names = WRITERS[name]
    with limited(resource.RLIMIT_FSIZE, 4096), pytest.raises(Exception) as met:  # noqa: PT011 - each library its own
        write(tmp_path / "file.npy")
    message = limit_met(met.value)
    assert message is not None and message.startswith(names), (met.value, message)
    assert message.endswith("and run again: it continues")


def test_a_full_disk_is_understood() -> None:
    with pytest.raises(OSError, match="No space left") as met, Path("/dev/full").open("w") as stream:
        stream.write("x" * LARGE)
    assert str(limit_met(met.value)).startswith(FULL)


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "x"), FULL),
        (RuntimeError("I/O error: No space left on device (os error 28)"), FULL),
        (OSError(errno.EMFILE, os.strerror(errno.EMFILE)), "too many open files"),
        (RuntimeError("unable to open file: Too many open files (os error 24)"), "too many open files"),
        (MemoryError(), "out of memory"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory"),
            "out of memory",
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "out of memory"),
        (RuntimeError("mmap failed: Cannot allocate memory (os error 12)"), "out of memory"),
    ],
    ids=str,
)
def test_the_limit_is_named_also_if_another_error_was_raised_from_it(problem: Exception, expected: str) -> None:
    assert str(limit_met(problem)).startswith(expected)
    error = ModelError("model 'x' does not load")
    error.__cause__ = problem
    assert str(limit_met(error)).startswith(expected)


@pytest.mark.parametrize(
    "problem", [ValueError(""), OSError(errno.EIO, "I/O error"), ModelError("a text about 'too many open files'")]
)
def test_what_is_no_limit_is_not_taken_for_one(problem: Exception) -> None:
    assert limit_met(problem) is None


def test_commands_that_meet_a_limit_end_with_one_line(
    finished: Finished, tiny_corpus: Path, tmp_path: Path, call: Call
) -> None:
    for limit, most, expected in (
        (resource.RLIMIT_FSIZE, 100, LARGE_FILE),
        (resource.RLIMIT_NOFILE, 3, "too many open"),
    ):
        with limited(limit, most):
            done: Any = call("corpus", "convert", tiny_corpus, tmp_path / "converted")
        assert (done.code, done.out) == (1, "") and done.err.startswith(f"error: {expected}"), done.err
        assert not (tmp_path / "converted").exists()


def test_an_answer_that_nobody_reads_to_its_end_is_no_error() -> None:
    code = "import sys; from sdretrieval.cli import main; main(['run', '--help'])"
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run([sys.executable, "-c", code], stdout=writing, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writing)
    assert (done.returncode in (1, 141), done.stderr) == (True, "")
