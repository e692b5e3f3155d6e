"""Runs that hold little: matrices learn in place of the weights, and batches come in pieces."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file

from sdretrieval.encode.student import load_student
from sdretrieval.run.api import plan_config, run_config
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, ledger_of


def test_a_run_with_lora_leaves_a_plain_student_and_pieces_change_no_key(
    make_config: MakeConfig, tiny_student: Path, tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    asked = ("train.lora_rank=4", "train.learning_rate=2e-2", "gate.tolerance=1", "generations=2")
    done = run_config(make_config(*asked, "train.batch_tokens=64"), runs=tmp_path)
    assert done is not None
    start = load_file(tiny_student / "model.safetensors")
    for address in ("1/train", "2/train"):
        counts = next(record["counts"] for record in ledger_of(done.folder) if record["stage"] == address)
        assert 0 < counts["learning_parameters"] < 0.5 * sum(value.numel() for value in start.values())
        for which in ("student", "average"):
            assert load_file(artifact(done.folder, address) / which / "model.safetensors").keys() == start.keys()
    load_student(str(done.folder / "student"), max_tokens=48, device="cpu")
    assert all(line.cached for line in plan_config(make_config(*asked), runs=tmp_path))
