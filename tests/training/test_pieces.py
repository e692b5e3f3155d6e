"""A batch in pieces (cached gradients): the same loss and gradients as at once, in the memory of a piece."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.planner.trials import kept_by_autograd
from sdretrieval.ragged import Array, Ragged
from sdretrieval.training.batches import Collator, QueryRemoved
from sdretrieval.training.distillation import pieces
from sdretrieval.training.speed import dropout_at
from tests.training.inputs import SETTINGS, TrainingInputs, assert_close, gradients, loss_of, teach, terms, weights

NewInputs = Callable[[], TrainingInputs]
VISITS = [{"position": position, "visit": 0} for position in (4, 0, 31, 7, 12, 22)]
PIECE = 64
"""Tokens: of the tiny collection's texts, one document or some queries."""


def batches_of(inputs: TrainingInputs, kind: str, *, query_removed: bool, half: bool) -> Collator:
    """With a document that is shown without its query, and with what a lexical half adds to the scores."""
    made = inputs.batches(vectors=inputs.words if kind == "embedding" else None)
    if query_removed:
        query, document = (int(of) for of in (inputs.candidates.query_rows_Q[4], inputs.candidates.rows[4][0]))
        shorter = Ragged.of([np.asarray([7, 8, 9])], np.int32)
        made = replace(made, query_removed=QueryRemoved(shorter, {query: (document, 0)}))
    if half:
        made = replace(made, half=lambda queries_B, rows_M, removed: _half(queries_B, rows_M))
    return made


def _half(queries_B: Array, rows_M: Array) -> Array:
    return np.asarray((queries_B[:, None] * 7 + rows_M[None, :] * 3) % 11, dtype=np.float32) / 20


def loss_and_gradients(
    inputs: TrainingInputs, kind: str, batch_tokens: int | None, *, live: bool, **asked: Any
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Of one batch, from the same random state."""
    targets = inputs.live(SETTINGS)[1] if live else None
    loss = loss_of(
        inputs, kind, student_temperature=0.05, hard_label_weight=0.3, label_evidence=2.0, live=targets,
        batch_tokens=batch_tokens,
    )  # fmt: skip
    torch.manual_seed(5)
    total = sum(terms(loss, batches_of(inputs, kind, **asked)(VISITS)).values(), torch.zeros(()))
    total.backward()
    return total.detach(), gradients(inputs)


@pytest.mark.parametrize("query_removed", [False, True])
@pytest.mark.parametrize(("kind", "live"), [("kl", False), ("kl", True), ("margin_mse", True), ("embedding", False)])
def test_pieces_have_the_loss_and_gradients_of_the_whole_batch(
    new_inputs: NewInputs, kind: str, live: bool, query_removed: bool
) -> None:
    asked = {"live": live, "query_removed": query_removed, "half": kind != "embedding"}
    loss, whole = loss_and_gradients(new_inputs(), kind, None, **asked)
    again, in_pieces = loss_and_gradients(new_inputs(), kind, PIECE, **asked)
    torch.testing.assert_close(again, loss, atol=1e-5, rtol=1e-5)
    assert in_pieces.keys() == whole.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(
            in_pieces[name], gradient, atol=5e-5, rtol=1e-4, msg=lambda text, name=name: f"{name}: {text}"
        )


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_what_is_encoded_again_has_the_same_dropout_and_number_format(
    new_inputs: NewInputs, precision: torch.dtype
) -> None:
    found = []
    for batch_tokens in (None, 10**6):  # as large as the batch's own parts: so dropout's draws are the same
        inputs = new_inputs()
        model = inputs.student.model.train()
        with dropout_at(model, 0.3), torch.autocast("cpu", precision, enabled=precision == torch.bfloat16):
            found.append(loss_and_gradients(inputs, "kl", batch_tokens, live=False, query_removed=False, half=False))
    (loss, whole), (again, in_pieces) = found
    torch.testing.assert_close(again, loss)
    for name, gradient in whole.items():
        torch.testing.assert_close(in_pieces[name], gradient, msg=lambda text, name=name: f"{name}: {text}")


def test_a_training_in_pieces_ends_with_the_same_student(new_inputs: NewInputs, tmp_path: Path) -> None:
    first = new_inputs()
    start = {name: value.clone() for name, value in first.student.model[0].auto_model.state_dict().items()}
    for name, inputs, tokens in (("whole", first, None), ("pieces", new_inputs(), PIECE)):
        teach(inputs, replace(SETTINGS, epochs=1), tmp_path / name, live=True, batch_tokens=tokens)
    for which in ("student", "average"):
        assert_close(weights(tmp_path / "whole", which), weights(tmp_path / "pieces", which), start)


def test_memory_does_not_grow_with_the_batch(inputs: TrainingInputs) -> None:
    def kept(batch_tokens: int | None, visits: list[dict[str, int]]) -> int:
        loss = loss_of(inputs, "kl", student_temperature=0.05, batch_tokens=batch_tokens)
        with kept_by_autograd(inputs.student.model) as held:
            _ = terms(loss, inputs.batches()(visits))
        return sum(held.values())

    assert kept(PIECE, VISITS) < 0.1 * kept(None, VISITS)
    assert kept(None, VISITS) > 2 * kept(None, VISITS[:1]), "what a batch at once holds grows"


@given(texts=st.integers(1, 9), length=st.integers(1, 9), batch_tokens=st.integers(1, 40))
def test_pieces_are_whole_texts_in_order_and_within_the_limit(texts: int, length: int, batch_tokens: int) -> None:
    part = {"input_ids": torch.arange(texts * length).reshape(texts, length), "prompt_length": 2}
    made = list(pieces(part, batch_tokens))
    assert torch.equal(torch.cat([piece["input_ids"] for piece in made]), part["input_ids"])
    assert all(piece["prompt_length"] == 2 for piece in made)
    assert all(piece["input_ids"].numel() <= batch_tokens or len(piece["input_ids"]) == 1 for piece in made)


@pytest.mark.parametrize("ids", [None, torch.arange(5)])
def test_what_is_no_row_of_tokens_stays_whole(ids: torch.Tensor | None) -> None:
    part = {} if ids is None else {"input_ids": ids}  # vectors of an adapter; a static model's ids, end to end
    assert list(pieces(part, 1)) == [part]
