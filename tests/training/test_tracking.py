"""`train.report_to`: figures go to whom the user named, and nothing else of the run changes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from sdretrieval.errors import MissingPackageError, RequestError
from sdretrieval.training.tracking import require_trackers
from tests.cli.conftest import Call, Finished
from tests.cli.conftest import call as call
from tests.cli.conftest import config as config
from tests.cli.conftest import finished as finished


def test_tensorboard_gets_every_update_of_every_training_and_the_artifact_is_the_same(
    finished: Finished, tmp_path: Path, call: Call
) -> None:
    pytest.importorskip("tensorboard", reason="needs tensorboard: pip install tensorboard")
    to_board = ["--set", "train.report_to=[tensorboard]"]
    done = call("run", finished.config, "--runs", tmp_path, "--until", "1/train", *to_board)
    assert done.code == 0, done.err
    losses = scalars(tmp_path / "tiny" / "tensorboard" / "1-train", "train/loss")
    assert [step for step, _ in losses] == list(range(1, 61))
    trained = next(line for line in stages(tmp_path) if line["stage"] == "1/train")
    made = tmp_path / "store" / "artifacts" / trained["key"][:2] / trained["key"]
    metrics = [json.loads(line)["loss"] for line in (made / "metrics.jsonl").read_text().splitlines()]
    assert [value for _, value in losses] == pytest.approx(metrics)
    assert not list((tmp_path / "store").rglob("events.*"))
    assert trained["key"] == next(line["key"] for line in stages(finished.runs) if line["stage"] == "1/train")


def scalars(folder: Path, tag: str) -> list[tuple[int, float]]:
    """Step and value of each event, as TensorBoard reads them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    board.Reload()
    return [(event.step, event.value) for event in board.Scalars(tag)]


def stages(runs: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (runs / "tiny" / "ledger.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", ["tensorboard", "trackio", "wandb"])
def test_a_package_that_is_missing_is_asked_for_before_anything_is_made(
    config: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    done = call("run", config, "--runs", tmp_path, "--set", f"train.report_to=[{name}]")
    wanted = f"train.report_to: {name} needs the package {name}, which is not installed; run: pip install {name}"
    assert (done.code, done.err) == (2, f"error: {wanted}\n")
    assert not list(tmp_path.iterdir())
    with pytest.raises(MissingPackageError):
        require_trackers([name])


def test_wandb_without_a_key_is_refused_unless_it_stays_on_this_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wandb.py").write_text("def login(*, prompt, verify):\n    assert not (prompt or verify)\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(RequestError, match=r"wandb has no key of yours; expected one: run `wandb login`, or set"):
        require_trackers(["wandb"])
    monkeypatch.setenv("WANDB_MODE", "offline")
    require_trackers(["wandb"])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
