"""With how many threads, and what batches, a machine is found to work fastest."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sdretrieval.encode.student import Student, load_student
from sdretrieval.planner import tuning
from sdretrieval.planner.trials import Calibration
from sdretrieval.planner.tuning import Tuning, tune

WINDOWS = [np.arange(5, 5 + length) for length in (8, 16, 24, 40)] * 8


@pytest.fixture
def student(tiny_student: Path) -> Student:
    return load_student(str(tiny_student), max_tokens=64, device="cpu")


@pytest.fixture
def four_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def machine(monkeypatch: pytest.MonkeyPatch, best_threads: int, best_batch: int) -> list[tuple[int, int]]:
    """A machine that is twice as fast with these; what was tried on it."""
    tried = []

    def trial(student: Any, sequences: Any, batch_tokens: int, *others: Any) -> dict[str, float]:
        tried.append((torch.get_num_threads(), batch_tokens))
        return {
            "device_bytes": 0,
            "seconds_per_token": 4.0 / (1 + (tried[-1][0] == best_threads)) / (1 + (batch_tokens == best_batch)),
        }

    monkeypatch.setattr(tuning, "encode_trial", trial)
    return tried


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize(
    ("best", "why"),
    [
        (
            Tuning(2, 4096),
            "2 threads and batches of 4,096 tokens: 4.00 times as fast as 4 threads and batches of 2,048",
        ),
        (Tuning(4, 2048), "4 threads and batches of 2,048 tokens: no other setting tried was 1.08 times as fast"),
    ],
    ids=["other than usual", "the usual"],
)
def test_the_fastest_is_taken_set_for_the_process_and_said(
    student: Student,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    best: Tuning,
    why: str,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    machine(monkeypatch, best_threads=best.threads, best_batch=best.batch_tokens)
    with caplog.at_level("INFO", logger="sdretrieval"):
        assert tune(student, WINDOWS, Calibration(tmp_path / "c.json"), None) == best
    assert torch.get_num_threads() == best.threads
    assert f"tuning: {why}" in caplog.text
    assert "to choose otherwise, set OMP_NUM_THREADS and student.batch_tokens" in caplog.text


def test_the_usual_stays_if_nothing_is_clearly_faster() -> None:
    usual, other = Tuning(4, 2048), Tuning(4, 4096)
    assert tuning._fastest({usual: 1.0, other: 0.95}) == usual
    assert tuning._fastest({usual: 1.0, other: 0.9}) == other


@pytest.mark.parametrize("problem", [MemoryError("no room"), RuntimeError("CUDA out of memory")], ids=["RAM", "GPU"])
def test_a_batch_that_needs_too_much_memory_is_not_chosen(
    student: Student,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    problem: Exception,
) -> None:
    def trial(student: Any, sequences: Any, batch_tokens: int, *others: Any) -> dict[str, float]:
        if batch_tokens > most:
            raise problem
        return {"device_bytes": 0, "seconds_per_token": 1 / batch_tokens}

    monkeypatch.setattr(tuning, "encode_trial", trial)
    most = 4096
    assert tune(student, WINDOWS, Calibration(tmp_path / "c.json"), None).batch_tokens == most
    assert f"tuning: batches of 8192 tokens cannot be tried: {problem}" in caplog.text
    most = 1024  # nor could the run itself encode
    with pytest.raises(type(problem)):
        tune(student, WINDOWS, Calibration(tmp_path / "other.json"), None)


def test_a_batch_that_fills_the_gpu_is_not_chosen(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would leave no room for the index, the training, and whatever else is on the GPU."""

    def trial(student: Any, sequences: Any, batch_tokens: int, *others: Any) -> dict[str, float]:
        return {"device_bytes": batch_tokens * 10**6, "seconds_per_token": 1 / batch_tokens}

    monkeypatch.setattr(tuning, "encode_trial", trial)
    monkeypatch.setattr(tuning, "free_device_bytes", lambda device: 6 * 10**9)
    assert tune(student, WINDOWS, Calibration(tmp_path / "c.json"), None).batch_tokens == 4096


@pytest.mark.usefixtures("four_threads")
def test_what_the_user_says_is_not_tried(student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    tried = machine(monkeypatch, best_threads=1, best_batch=1024)
    assert tune(student, WINDOWS, Calibration(tmp_path / "c.json"), 512) == Tuning(4, 512)
    assert tried == []


def test_it_is_tried_once_and_kept(student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = machine(monkeypatch, best_threads=99, best_batch=1024)
    first = tune(student, WINDOWS, Calibration(tmp_path / "c.json"), None)
    count = len(tried)
    assert tune(student, WINDOWS, Calibration(tmp_path / "c.json"), None) == first
    assert len(tried) == count


def test_real_trials_choose_among_what_was_tried(student: Student, tmp_path: Path) -> None:
    chosen = tune(student, WINDOWS, Calibration(tmp_path / "c.json"), None)
    assert chosen.batch_tokens in (1024, 2048, 4096, 8192)
    assert chosen.threads == torch.get_num_threads()
