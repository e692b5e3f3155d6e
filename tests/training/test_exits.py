"""Vectors of exits, and what teaches them."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import ModernBertConfig, ModernBertModel

from sdretrieval.errors import ModelError
from sdretrieval.training.distillation import ListwiseDistillation
from sdretrieval.training.exits import Exits
from sdretrieval.training.smaller import first_layers


def norm_last(folder: Path, tokenizer: Any) -> SentenceTransformer:
    """A model of the kind that takes a norm of its last layer's output, which early layers must have too."""
    torch.manual_seed(1)
    config = ModernBertConfig(
        vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=3, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=64, pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2,
    )  # fmt: skip
    network = ModernBertModel(config)
    network.final_norm.weight.data += torch.rand(16)
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return SentenceTransformer(
        modules=[Transformer(str(folder)), Pooling(16, "mean"), Normalize()], device="cpu"
    ).eval()


def test_an_exit_gives_the_vectors_of_the_first_layers_as_a_model_of_their_own(
    tiny_student: Path, tmp_path: Path
) -> None:
    bert = SentenceTransformer(str(tiny_student), device="cpu").eval()
    texts = ["ore in oslo", "a longer text about ore"]
    for model in (bert, norm_last(tmp_path / "norm", bert.tokenizer)):
        dims = int(model.get_embedding_dimension() or 0)
        map_FD = np.linalg.qr(np.random.default_rng(1).normal(size=(dims, 4)))[0].astype(np.float32)
        exits = Exits(model, [(1, None), (None, 4), (1, 4)], map_FD, "tiny")
        alone = first_layers(model, 1, "tiny")
        alone.save_pretrained(str(tmp_path / "alone"), create_model_card=False)
        alone = SentenceTransformer(str(tmp_path / "alone"), device="cpu")
        features = model.preprocess(texts)
        with torch.no_grad():
            whole, layers, short, both = exits.vectors(model, features)
        torch.testing.assert_close(whole, torch.tensor(model.encode(texts)))
        torch.testing.assert_close(layers, torch.tensor(alone.encode(texts)), atol=1e-5, rtol=1e-4)
        for found, long in ((short, whole), (both, layers)):
            wanted = torch.nn.functional.normalize(long @ torch.tensor(map_FD), dim=1)
            torch.testing.assert_close(found, wanted)


def test_the_whole_student_teaches_its_exits_and_learns_nothing_from_them(tiny_student: Path) -> None:
    model = SentenceTransformer(str(tiny_student), device="cpu").eval()
    features = [model.preprocess(["ore"]), model.preprocess(["ore in oslo", "a text about something else"])]
    labels = {
        "order_M": torch.tensor([0, 1]),
        "target_log_probs_BM": torch.log(torch.tensor([[0.5, 0.5]])),
        "weight_B": torch.ones(1),
        "queries_B": torch.zeros(1, dtype=torch.int64),
    }
    exits = Exits(model, [(1, None)], None, "tiny")
    loss = ListwiseDistillation(model, student_temperature=0.1, exits=exits)
    terms = loss([copy.copy(one) for one in features], labels)
    scores = []
    for one in (model, first_layers(model, 1, "tiny")):
        queries, documents = (one(copy.copy(part))["sentence_embedding"] for part in features)
        scores.append(torch.log_softmax(queries @ documents.T / 0.1, dim=1))
    whole, early = scores
    torch.testing.assert_close(terms["exits"], (whole.exp() * (whole - early)).sum())
    terms["exits"].backward()
    layers: Any = model[0].auto_model.encoder.layer
    learns = [any(p.grad is not None and bool(p.grad.any()) for p in layer.parameters()) for layer in layers]
    assert learns == [True] + [False] * (len(layers) - 1)


def test_a_model_that_does_more_behind_its_last_layer_is_refused(tiny_student: Path) -> None:
    model = SentenceTransformer(str(tiny_student), device="cpu")
    model[0].register_forward_hook(lambda _, __, made: made | {"token_embeddings": made["token_embeddings"] * 2})
    with pytest.raises(ModelError, match="neither what its last layer makes nor a norm of it"):
        Exits(model, [(1, None)], None, "tiny")
