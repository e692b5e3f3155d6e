"""Two processes train as one: each takes half of a batch, the weights are those of a single process."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sdretrieval.training.trainer import read_metrics
from tests.training.inputs import SETTINGS, assert_close, prepare, teach, weights

CHECKOUT = Path(__file__).parents[2]


KINDS = ("kl", "margin_mse", "pieces")


@pytest.fixture(scope="module")
def by_two(tiny_corpus: Path, tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of what two processes trained, a folder per loss: importing torch twice takes longer than training."""
    if not torch.distributed.is_available():
        pytest.skip("this torch has no torch.distributed")
    folder = tmp_path_factory.mktemp("two")
    options = json.dumps({"queries_per_batch": 4, "epochs": 1, "save_every": 2, "kind": ",".join(KINDS)})
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    given = [str(tiny_corpus), str(tiny_student), str(folder), options]
    done = subprocess.run(
        [*launch, "tests.training.inputs", *given], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_make_the_updates_of_one(
    by_two: Path, tiny_corpus: Path, tiny_student: Path, tmp_path: Path, kind: str
) -> None:
    inputs = prepare(tiny_corpus, tiny_student)
    start = {name: value.clone() for name, value in inputs.student.model[0].auto_model.state_dict().items()}
    one = replace(SETTINGS, queries_per_batch=8, epochs=1)
    # In list scope and without the hard term a query's loss does not depend on the rest of its batch.
    teach(
        inputs,
        one,
        tmp_path,
        batches=inputs.batches(whole_batch=False),
        hard_label_weight=0.0,
        kind=kind.replace("pieces", "kl"),
    )
    for which in ("student", "average"):
        assert_close(weights(tmp_path, which), weights(by_two / kind, which), start)
    assert [record["step"] for record in read_metrics(by_two / kind / "metrics.jsonl")] == [1, 2, 3, 4, 5]
    assert {path.name for path in (by_two / kind).iterdir()} == {"student", "average", "metrics.jsonl"}
