"""What was measured of this machine: kept, read again, measured again if asked to or if the file is torn."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdretrieval.planner.trials import Calibration, Figures, peak_on_device, shape
from sdretrieval.training.speed import frozen_names


class Trial:
    """Counts how often it runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self) -> dict[str, float]:
        self.runs += 1
        return {"seconds_per_token": self.runs * 0.5}


def test_a_trial_runs_once_and_is_kept_for_the_next_process(tmp_path: Path) -> None:
    trial, file = Trial(), tmp_path / "cache" / "calibration.json"
    assert Calibration(file).of("encode", trial) == {"seconds_per_token": 0.5}
    assert Calibration(file).of("encode", trial) == {"seconds_per_token": 0.5}
    assert trial.runs == 1


def test_other_work_and_other_threads_are_measured_by_themselves(tmp_path: Path) -> None:
    import torch

    trial, calibration = Trial(), Calibration(tmp_path / "calibration.json")
    calibration.of("encode", trial)
    calibration.of("train", trial)
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        calibration.of("encode", trial)
    finally:
        torch.set_num_threads(before)
    assert trial.runs == 3


def test_again_measures_once_more_and_no_oftener(tmp_path: Path) -> None:
    trial, file = Trial(), tmp_path / "calibration.json"
    Calibration(file).of("encode", trial)
    calibration = Calibration(file, again=True)
    assert calibration.of("encode", trial) == calibration.of("encode", trial) == {"seconds_per_token": 1.0}
    assert Calibration(file).of("encode", trial) == {"seconds_per_token": 1.0}


@pytest.mark.parametrize("text", ['{"half', "[1]", "null", '{"key": 5}', '{"key": {"seconds_per_token": "quick"}}'])
def test_a_file_that_is_not_what_it_should_be_is_measured_again(tmp_path: Path, text: str) -> None:
    file = tmp_path / "calibration.json"
    file.write_text(text)
    trial = Trial()
    Calibration(file).of("encode", trial)
    assert trial.runs == 1
    assert Calibration(file).of("encode", trial) == {"seconds_per_token": 0.5}


def test_a_cache_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("no folder")
    trial = Trial()
    calibration = Calibration(tmp_path / "file" / "calibration.json")
    with caplog.at_level("WARNING", logger="sdretrieval"):
        assert calibration.of("encode", trial) == calibration.of("encode", trial) == {"seconds_per_token": 0.5}
    assert "cannot be kept" in caplog.text
    assert trial.runs == 1


def test_two_processes_keep_what_the_other_measured(tmp_path: Path) -> None:
    file, trial = tmp_path / "calibration.json", Trial()
    first, second = Calibration(file), Calibration(file)
    first.of("encode", trial)
    second.of("train", trial)
    third = Calibration(file)
    third.of("encode", trial)
    third.of("train", trial)
    assert trial.runs == 2


def test_sizes_near_each_other_share_a_measurement() -> None:
    assert shape(200) == shape(210)
    assert shape(100) != shape(200)


def test_what_work_reserves_on_a_gpu_is_measured_beside_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    calls: list[str] = []
    held = {"allocated": 90, "reserved": 700}
    for name, value in (("memory_allocated", "allocated"), ("max_memory_reserved", "reserved")):
        monkeypatch.setattr(torch.cuda, name, lambda value=value: held[value])
    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda name=name: calls.append(name))
    with peak_on_device("cuda") as on_gpu, peak_on_device("cpu") as on_cpu:
        assert calls == ["empty_cache", "reset_peak_memory_stats"]
    assert (on_gpu.rss_bytes, on_cpu.rss_bytes) == (610, 0)


@pytest.mark.parametrize("frozen", [("word_embeddings",), ("layers:1",)])
def test_what_training_holds_is_counted_in_tensors(tiny_student: Path, frozen: tuple[str, ...]) -> None:
    """Whatever the process held before: in one that has freed a lot, memory that is taken again does not show."""
    import numpy as np

    from sdretrieval.encode.student import load_student
    from sdretrieval.planner.trials import train_trial
    from sdretrieval.training.train import TrainSettings

    def trial(documents: int) -> Figures:
        student = load_student(str(tiny_student), max_tokens=64, device="cpu")
        queries = [np.arange(5, 13)] * (documents // 4)
        return train_trial(student, queries, [np.arange(5, 45)] * documents, TrainSettings(freeze=frozen))

    model = load_student(str(tiny_student), max_tokens=64, device="cpu").model
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    learning = sum(size for name, size in sizes.items() if name not in frozen_names(list(sizes), frozen))
    figures, twice = trial(16), trial(32)
    assert figures["bytes_weights"] == pytest.approx(4 * sum(sizes.values()), rel=0.01)
    assert figures["bytes_fixed"] == pytest.approx(2 * figures["bytes_weights"] + 12 * learning)
    assert figures["bytes_per_token"] == pytest.approx(twice["bytes_per_token"], rel=0.05)
    layers = (
        2 if frozen == ("word_embeddings",) else 1
    )  # each keeps some 14 vectors of a token, 2 of them twice as wide
    assert 8 < figures["bytes_per_token"] / (4 * 32 * layers) < 40
