"""A model whose similarity is `dot` is taught in the unit of its own scores; one of cosines as ever."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense
from torch import nn

from sdretrieval.config import TargetsConfig, TrainConfig
from sdretrieval.encode.encoder import Embeddings, encode_sequences
from sdretrieval.encode.student import load_student
from sdretrieval.errors import RequestError
from sdretrieval.run.preflight import check_student
from sdretrieval.stages.objective import make_loss, score_unit
from sdretrieval.store import Work
from sdretrieval.training.distillation import Distillation
from tests.helpers.runs.tiny_runs import MakeConfig
from tests.training.inputs import TrainingInputs, prepare

TIMES = 5.0
"""How much longer the vectors of the `dot` model are, which are the cosine model's in all else."""


@pytest.fixture(scope="module")
def longer(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "longer"
    times = Dense(32, 32, bias=False, activation_function=nn.Identity(), init_weight=TIMES * torch.eye(32))
    modules = [*SentenceTransformer(str(tiny_student), device="cpu"), times]
    SentenceTransformer(modules=modules, similarity_fn_name="dot", device="cpu").save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def inputs(tiny_corpus: Path, longer: Path) -> TrainingInputs:
    """Of the `dot` model. Read only."""
    return prepare(tiny_corpus, longer)


def data_of(inputs: TrainingInputs, **train: Any) -> Any:
    return SimpleNamespace(
        config=SimpleNamespace(train=TrainConfig(**train), targets=TargetsConfig(), exits=()),
        candidates=inputs.candidates,
        targets=inputs.targets,
        scores=inputs.scores,
        tokens=SimpleNamespace(queries=inputs.queries.tokens, documents=inputs.documents.tokens),
        documents=None,
        objective="teacher",
    )


def first_loss(inputs: TrainingInputs, loss: Distillation) -> tuple[float, float]:
    """The loss of a batch, and the norm of its gradient in the transformer."""
    batch = inputs.batches()([{"position": n, "visit": 0} for n in range(8)])
    prefixes = [name.removesuffix("input_ids") for name in batch if name.endswith("_input_ids")]
    features = [{n.removeprefix(one): v for n, v in batch.items() if n.startswith(one)} for one in prefixes]
    value = sum(loss(features, batch["label"]).values())
    assert isinstance(value, torch.Tensor)
    inputs.student.model.zero_grad()
    value.backward()
    gradients = [
        parameter.grad.norm() for parameter in inputs.student.model[0].parameters() if parameter.grad is not None
    ]
    return float(value.detach()), float(torch.stack(gradients).norm())


def test_the_students_own_temperature_needs_cosines(make_config: MakeConfig, longer: Path, tiny_student: Path) -> None:
    own = ["targets.calibrate=absolute", "targets.temperature=student"]
    check_student(make_config(*own))
    with pytest.raises(
        RequestError, match=r'temperature is "student", but .*longer makes vectors of other lengths than'
    ):
        check_student(make_config(*own, f"student.model={longer}"))


def test_a_dot_model_learns_as_fast_as_the_cosine_model_that_it_is(
    inputs: TrainingInputs, tiny_corpus: Path, tiny_student: Path, tmp_path: Path
) -> None:
    found = []
    for one in (prepare(tiny_corpus, tiny_student), inputs):
        work = Work(tmp_path)
        loss = make_loss(work, data_of(one), one.student, one.student.model, None)
        found.append((*first_loss(one, loss), loss.student_temperature, work.counts))
    (cosine, steep, heat, _), (dot, own, scaled, counts) = found
    assert heat == TrainConfig().student_temperature, "cosines are what it is meant for"
    assert scaled == pytest.approx(TIMES**2 * heat, rel=1e-4) and counts["score_unit"] == pytest.approx(TIMES**2)
    assert dot == pytest.approx(cosine, rel=1e-3) and own == pytest.approx(steep, rel=1e-2)


def test_margins_are_in_the_same_unit(inputs: TrainingInputs, tmp_path: Path) -> None:
    data, student = data_of(inputs, loss="margin_mse", margin_scale=0.1), inputs.student
    loss: Any = make_loss(Work(tmp_path), data, student, student.model, None)
    assert loss.scale == pytest.approx(0.1 * TIMES**2, rel=1e-4)


def test_unit_vectors_have_the_unit_of_cosines_whatever_they_are_called(
    inputs: TrainingInputs, tiny_student: Path, tmp_path: Path
) -> None:
    model = SentenceTransformer(str(tiny_student), device="cpu")
    model.similarity_fn_name = "dot"
    model.save_pretrained(str(tmp_path / "dot"))
    student = load_student(str(tmp_path / "dot"), max_tokens=48, device="cpu")
    assert student.unit_length and score_unit(data_of(inputs), student) == 1.0


def test_documents_that_keep_their_vectors_count_as_they_are(inputs: TrainingInputs) -> None:
    shown = [inputs.documents.sequence(row) for row in range(len(inputs.documents.tokens))]
    vectors = encode_sequences(inputs.student.model, shown, inputs.documents.specials)
    data = data_of(inputs)
    data.documents = SimpleNamespace(documents=Embeddings(vectors * 2, np.arange(len(shown) + 1)))
    assert score_unit(data, inputs.student) == pytest.approx(2 * TIMES**2, rel=1e-4)
