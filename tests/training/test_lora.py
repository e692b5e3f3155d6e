"""LoRA: matrices learn, the student stays, and what is saved is a plain student with both added."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sdretrieval.encode.student import load_student
from sdretrieval.errors import MissingPackageError, ModelError
from sdretrieval.training.lora import SCALE, add_lora, linear_layers, merge_lora
from sdretrieval.training.trainer import LEARNING, last_complete_checkpoint, read_metrics
from tests.training.inputs import SETTINGS, TrainingInputs, interrupted, teach, weights

NewInputs = Callable[[], TrainingInputs]
LORA = replace(SETTINGS, lora_rank=4, learning_rate=2e-2, save_every=2)
WORDS, LAYER = "embeddings.word_embeddings.weight", "encoder.layer.1.output.dense.weight"
TEXTS = ["dough oven", "a cat that sleeps"]


def test_without_peft_the_package_is_named(inputs: TrainingInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingPackageError, match=r"train.lora_rank needs the package peft, .* pip install peft "):
        linear_layers(inputs.student.model)


class TestWithPeft:
    """What needs the package."""

    @pytest.fixture(autouse=True)
    def peft(self) -> None:
        pytest.importorskip("peft")

    def test_matrices_change_nothing_at_first_and_merge_into_the_weights(self, inputs: TrainingInputs) -> None:
        model = inputs.student.model
        before, state = model.encode(TEXTS), copy.deepcopy(model.state_dict())
        random = torch.get_rng_state()
        add_lora(model, 4, seed=7)
        assert torch.equal(torch.get_rng_state(), random)
        assert (model.encode(TEXTS) == before).all()
        learning = {name: value for name, value in model.named_parameters() if value.requires_grad}
        assert learning and all("lora_" in name and min(value.shape) == 4 for name, value in learning.items())
        assert not any("pooler" in name for name in learning)
        with torch.no_grad():
            for name, value in learning.items():
                if "lora_B" in name:
                    value.normal_(std=0.1)
        name = next(name for name in learning if "layer.1.output" in name).rpartition(".lora_")[0]
        layer = model.get_submodule(name)
        expected = layer.base_layer.weight + SCALE * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
        other = model.encode(TEXTS)
        merge_lora(model)
        assert model.state_dict().keys() == state.keys()
        torch.testing.assert_close(model.get_submodule(name).weight, expected)
        assert abs(model.encode(TEXTS) - other).max() < 1e-5 < abs(other - before).max()

    def test_the_trained_student_is_a_plain_one_that_finds_more(self, inputs: TrainingInputs, tmp_path: Path) -> None:
        start = {name: value.clone() for name, value in inputs.student.model[0].auto_model.state_dict().items()}
        before = inputs.reciprocal_rank()
        trained = teach(inputs, replace(LORA, epochs=6), tmp_path, live=True)
        assert inputs.reciprocal_rank() > before + 0.03
        assert trained.counts["learning_parameters"] < 0.5 * sum(value.numel() for value in start.values())
        student, average = weights(tmp_path), weights(tmp_path, "average")
        assert student.keys() == average.keys() == start.keys()
        assert torch.equal(student[WORDS], start[WORDS])
        moved = (student[LAYER] - start[LAYER]).norm()
        assert 0 < (average[LAYER] - start[LAYER]).norm() < moved
        again = load_student(str(tmp_path / "student"), max_tokens=48, device="cpu").model
        assert abs(again.encode(TEXTS) - inputs.student.model.encode(TEXTS)).max() < 1e-6

    def test_a_killed_training_ends_with_the_same_student(self, new_inputs: NewInputs, tmp_path: Path) -> None:
        first = new_inputs()
        with pytest.raises(KeyboardInterrupt):
            teach(first, LORA, tmp_path / "killed", live=True, batches=interrupted(first.batches()))
        checkpoint = last_complete_checkpoint(tmp_path / "killed" / "trainer")
        assert checkpoint is not None
        assert (checkpoint / LEARNING).stat().st_size < 0.5 * sum(
            value.nbytes for value in first.student.model.state_dict().values()
        )
        for name in ("killed", "whole"):
            teach(new_inputs(), LORA, tmp_path / name, live=True)
        for which in ("student", "average"):
            one, other = weights(tmp_path / "killed", which), weights(tmp_path / "whole", which)
            assert all(torch.equal(one[name], other[name]) for name in one)
        assert [line["step"] for line in read_metrics(tmp_path / "killed" / "metrics.jsonl")] == list(range(1, 11))

    def test_a_student_without_linear_layers_is_refused(self) -> None:
        model = torch.nn.Sequential(torch.nn.Embedding(3, 2))
        with pytest.raises(ModelError, match=r"no linear layers, only Embedding; expected a transformer, or null"):
            linear_layers(model)
