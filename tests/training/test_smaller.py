"""What smaller students minimise, and what they are made of."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer
from torch.nn.functional import normalize

from sdretrieval.config import SmallerConfig
from sdretrieval.encode.student import load_student
from sdretrieval.errors import ModelError, NumericError
from sdretrieval.stages.smaller import smaller_model
from sdretrieval.training.smaller import (
    SameVectors,
    divergence,
    first_layers,
    linear_map,
    map_modules,
    principal_dims,
    put_tokens,
    static_model,
    tokens_alone,
)

seeds = st.integers(0, 2**16)


def unit_rows(seed: int, rows: int, dims: int) -> torch.Tensor:
    return normalize(torch.from_numpy(np.random.default_rng(seed).normal(size=(rows, dims))), dim=1)


@given(seeds)
def test_the_divergence_is_that_of_the_other_texts_and_0_for_the_same_scores(seed: int) -> None:
    found, wanted = unit_rows(seed, 5, 4), unit_rows(seed + 1, 5, 7)
    total = 0.0
    for row in range(5):
        others = [n for n in range(5) if n != row]
        p, q = (torch.softmax(rows[row] @ rows[others].T / 0.1, dim=0) for rows in (wanted, found))
        total += float((p * (p / q).log()).sum()) / 5
    assert float(divergence(found, wanted, 0.1)) == pytest.approx(total, rel=1e-5, abs=1e-7)
    turned = wanted @ torch.linalg.qr(torch.from_numpy(np.random.default_rng(seed).normal(size=(7, 7))))[0]
    assert float(divergence(turned, wanted, 0.1)) == pytest.approx(0, abs=1e-6)


@given(seeds)
def test_principal_dims_keep_more_of_inner_products_than_any_other_directions(seed: int) -> None:
    chance = np.random.default_rng(seed)
    vectors = (chance.normal(size=(60, 8)) * np.linspace(2, 0.1, 8)).astype(np.float32)
    others = np.linalg.qr(chance.normal(size=(8, 3)))[0]
    lost = [
        float(np.square(vectors - vectors @ basis @ basis.T).sum()) for basis in (principal_dims(vectors, 3), others)
    ]
    assert lost[0] <= lost[1] * (1 + 1e-5)
    np.testing.assert_allclose(principal_dims(vectors, 3).T @ principal_dims(vectors, 3), np.eye(3), atol=1e-5)


@given(seeds)
def test_a_linear_map_finds_the_one_that_made_the_vectors(seed: int) -> None:
    chance = np.random.default_rng(seed)
    read, made_by = chance.normal(size=(80, 5)).astype(np.float32), chance.normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_allclose(linear_map(read, read @ made_by), made_by, atol=0.1)


def test_the_first_layers_read_as_the_whole_model_does_up_to_there(tiny_student: Path) -> None:
    model = SentenceTransformer(str(tiny_student), device="cpu")
    layers = int(model[0].auto_model.config.num_hidden_layers)
    smaller = first_layers(model, 1, "tiny")
    features = model.preprocess(["ore in oslo"])
    with torch.no_grad():
        inside = model[0].auto_model(**features, output_hidden_states=True).hidden_states[1]
        outside = smaller[0].auto_model(**features).last_hidden_state
    torch.testing.assert_close(inside, outside)
    assert model[0].auto_model.config.num_hidden_layers == layers, "the model itself stays whole"
    with pytest.raises(ModelError, match=f"'tiny' has {layers} layers, found {layers} asked for; expected fewer"):
        first_layers(model, layers, "tiny")


def test_fewer_layers_are_the_first_and_the_last_ones(tiny_student: Path) -> None:
    large = load_student(str(tiny_student), max_tokens=32)
    transformer = large.model[0].auto_model
    layer = transformer.encoder.layer
    layer.extend(copy.deepcopy(layer[0]) for _ in range(2))
    transformer.config.num_hidden_layers = len(layer)
    for number, one in enumerate(layer):
        torch.nn.init.constant_(one.output.dense.bias, number)
    base: Any = SimpleNamespace(run=SimpleNamespace(config=SimpleNamespace(student=SimpleNamespace(model="tiny"))))
    for count, kept in {1: [0], 2: [0, 3], 3: [0, 2, 3]}.items():
        smaller = smaller_model(base, SmallerConfig(layers=count), large)[0].auto_model
        assert [int(one.output.dense.bias[0]) for one in smaller.encoder.layer] == kept
        assert smaller.config.num_hidden_layers == count


def test_a_static_model_begins_with_what_the_student_makes_of_each_token_alone(tiny_student: Path) -> None:
    student = load_student(str(tiny_student), max_tokens=32)
    counts = np.zeros(len(student.tokenizer), dtype=np.int64)
    token = student.tokenizer.convert_tokens_to_ids("ore")
    counts[token] = 3
    model = static_model(student, counts, "float32")
    alone = student.model.encode_document(["ore"])[0]
    np.testing.assert_allclose(model.encode(["ore ore"])[0], alone, atol=1e-5)
    table = model[0].embedding.weight.detach().numpy()
    np.testing.assert_allclose(table[token], alone * 0.001 / 1.001, atol=1e-6)

    some = np.array([1, token])
    learned = tokens_alone(model, some)
    with torch.no_grad():
        learned[0].embedding.weight += 1.0
    before = table.copy()
    put_tokens(model, some, learned)
    np.testing.assert_allclose(model[0].embedding.weight.detach().numpy()[some], before[some] + 1, atol=1e-6)
    others = np.setdiff1d(np.arange(len(before)), some)
    np.testing.assert_array_equal(model[0].embedding.weight.detach().numpy()[others], before[others])


def test_a_loss_that_is_not_finite_is_named() -> None:
    model = SentenceTransformer(modules=map_modules(np.full((4, 2), np.nan, dtype=np.float32)), device="cpu")
    features = [{"sentence_embedding": unit_rows(1, 3, 4).float()}]
    with pytest.raises(NumericError, match=r"smaller: the loss is not finite at step 1; give .* \(smaller.epochs\)"):
        SameVectors(model, 0.05, distance=False)(features, {"targets_BD": unit_rows(1, 3, 4).float()})
