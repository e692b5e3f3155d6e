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
from sdretrieval.planner.speeds import Speeds
from sdretrieval.planner.tuning import Tuning, tuned

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
        return {"seconds_per_token": 4.0 / (1 + (tried[-1][0] == best_threads)) / (1 + (batch_tokens == best_batch))}

    monkeypatch.setattr(tuning, "encode_trial", trial)
    return tried


@pytest.mark.usefixtures("four_threads")
@pytest.mark.parametrize("best", [Tuning(2, 4096), Tuning(4, 2048)], ids=["other than usual", "the usual"])
def test_the_fastest_is_taken_and_holds_for_the_process(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: Tuning
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    machine(monkeypatch, best_threads=best.threads, best_batch=best.batch_tokens)
    assert tuned(student, WINDOWS, Speeds(tmp_path / "c.json"), None) == best
    assert torch.get_num_threads() == best.threads


def test_the_usual_stays_where_nothing_is_clearly_faster() -> None:
    assert tuning._fastest({2048: 1.0, 4096: 0.95}) == 2048


@pytest.mark.usefixtures("four_threads")
def test_what_the_user_says_is_not_tried(student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    tried = machine(monkeypatch, best_threads=1, best_batch=1024)
    assert tuned(student, WINDOWS, Speeds(tmp_path / "c.json"), 512) == Tuning(4, 512)
    assert tried == []


def test_it_is_tried_once_and_kept(student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = machine(monkeypatch, best_threads=99, best_batch=1024)
    first = tuned(student, WINDOWS, Speeds(tmp_path / "c.json"), None)
    count = len(tried)
    assert tuned(student, WINDOWS, Speeds(tmp_path / "c.json"), None) == first
    assert len(tried) == count


def test_real_trials_choose_among_what_was_tried(student: Student, tmp_path: Path) -> None:
    chosen = tuned(student, WINDOWS, Speeds(tmp_path / "c.json"), None)
    assert chosen.batch_tokens in (1024, 2048, 4096, 8192)
    assert chosen.threads == torch.get_num_threads()
