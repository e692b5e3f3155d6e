"""Freezing and dropout: named parts stop, wrong names are told, the model comes back as it was."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from sdretrieval.errors import ModelError
from sdretrieval.training.speed import dropout_at, faster_precision, freeze, frozen_names, quick_attention


@pytest.fixture
def model(tiny_student: Path) -> Any:
    from sdretrieval.encode.student import load_student

    return load_student(str(tiny_student), max_tokens=64, device="cpu").model


def still(model: Any) -> set[str]:
    return {name for name, parameter in model.named_parameters() if not parameter.requires_grad}


@pytest.mark.parametrize(
    "name",
    [
        "0.model.embeddings.tok_embeddings.weight",
        "0.model.embed_tokens.weight",
        "0.model.wte.weight",
        "0.model.shared.weight",
    ],
)
def test_the_embeddings_are_frozen_by_whatever_name_a_family_has_for_them(name: str) -> None:
    layer = "0.model.layers.0.mlp.weight"
    for part in ("word_embeddings", "layers:0"):
        assert frozen_names([name, layer], [part]) == {name}


def test_a_part_is_frozen_by_name_and_the_rest_counted(model: Any) -> None:
    everything = sum(parameter.numel() for parameter in model.parameters())
    learning = freeze(model, ["word_embeddings"])
    (frozen,) = still(model)
    assert frozen.endswith("word_embeddings.weight")
    assert learning == everything - model.get_parameter(frozen).numel()


def test_the_lowest_layers_are_frozen_with_the_embeddings(model: Any) -> None:
    freeze(model, ["layers:1"])
    frozen = still(model)
    assert any("layer.0." in name for name in frozen) and not any("layer.1." in name for name in frozen)
    assert {name for name, _ in model.named_parameters() if "embeddings" in name} <= frozen


def test_nothing_is_frozen_unless_asked(model: Any) -> None:
    freeze(model, [])
    assert not still(model)


def test_a_part_that_names_nothing_is_refused_with_examples(model: Any) -> None:
    expected = (
        r"train.freeze: no parameter's name holds 'word_embedings'; names look like .*word_embeddings.*; 'layers:N'"
    )
    with pytest.raises(ModelError, match=expected):
        freeze(model, ["word_embedings"])


def test_a_student_that_can_learn_nothing_is_refused(model: Any) -> None:
    with pytest.raises(ModelError, match=r"train.freeze: layers:9, pooler leaves no parameter to learn; freeze less"):
        freeze(model, ["layers:9", "pooler"])


def rates(model: Any) -> list[float]:
    from torch import nn

    return [module.p for module in model.modules() if isinstance(module, nn.Dropout)]


def test_dropout_is_set_and_comes_back_also_after_an_error(model: Any) -> None:
    before = rates(model)
    assert set(before) == {0.1}
    with dropout_at(model, 0.0):
        assert set(rates(model)) == {0.0}
    assert rates(model) == before
    with pytest.raises(KeyboardInterrupt), dropout_at(model, 0.3):
        raise KeyboardInterrupt
    assert rates(model) == before


def test_short_texts_train_without_fused_attention_in_bfloat16_alone(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdretrieval.training.speed.SHORT", 8)
    transformer = model[0].auto_model
    used: list[str] = []

    def vectors(tokens: int, reduced: bool) -> torch.Tensor:
        ids = torch.full((2, tokens), 5)
        with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
            found: torch.Tensor = model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})[
                "sentence_embedding"
            ]
        return found.float()

    transformer.encoder.register_forward_pre_hook(lambda *_: used.append(transformer.config._attn_implementation))
    before = vectors(8, True)
    with quick_attention(model):
        torch.testing.assert_close(vectors(8, True), before, atol=0.02, rtol=0.02)
        vectors(8, False)
        vectors(9, True)
        vectors(8, True)
    vectors(8, True)
    assert used == ["sdpa", "eager", "sdpa", "sdpa", "eager", "sdpa"]


@pytest.mark.parametrize("training", [True, False])
def test_the_faster_precision_is_measured_and_leaves_no_trace(model: Any, training: bool) -> None:
    freeze(model, ["word_embeddings"])
    precision, why = faster_precision(model, training=training, tokens=16, rounds=1)
    found = re.fullmatch(r"bfloat16 ([0-9.]+) times as fast as float32", why)
    assert found and (precision == "bfloat16") == (float(found[1]) >= 1.15)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize("supported", [True, False])
def test_on_a_gpu_its_capability_decides_and_nothing_is_timed(supported: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    class OnGpu:
        """Cannot be called, so not be timed."""

        device = torch.device("cuda", 0)

    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "A GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: supported or including_emulation)
    expected = ("bfloat16", "A GPU computes in bfloat16"), ("float32", "A GPU does not compute in bfloat16")
    for training in (True, False):
        assert faster_precision(OnGpu(), training=training) == expected[not supported]  # type: ignore[arg-type]


@pytest.mark.gpu
def test_a_real_gpu_says_what_it_computes_in(model: Any) -> None:
    precision, why = faster_precision(model.to("cuda"), training=True)
    assert (precision == "bfloat16") == ("does not" not in why)
