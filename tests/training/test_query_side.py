"""Documents that keep their vectors: the same loss, a gradient for queries alone, a killed run that ends the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdretrieval.encode.encoder import Embeddings, encode_sequences
from sdretrieval.ragged import Ragged
from sdretrieval.training.batches import Collator, QueryRemoved, StoredVectors
from sdretrieval.training.trainer import last_complete_checkpoint, read_metrics
from tests.training.inputs import SETTINGS, TrainingInputs, gradients, interrupted, loss_of, teach, terms, weights

NewInputs = Callable[[], TrainingInputs]
VISITS = [{"position": position, "visit": 0} for position in (4, 0, 31, 7)]
EVERY = 99


def stored_of(inputs: TrainingInputs) -> StoredVectors:
    """The untaught student's vectors of all documents."""
    shown = [inputs.documents.sequence(row) for row in range(len(inputs.documents.tokens))]
    vectors = encode_sequences(inputs.student.model, shown, inputs.documents.specials)
    return StoredVectors(Embeddings(vectors, np.arange(len(vectors) + 1)))


def query_side(inputs: TrainingInputs, **asked: Any) -> Collator:
    """Batches that bring documents' vectors."""
    return replace(inputs.batches(**asked), stored=stored_of(inputs))


@settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(positions=st.lists(st.integers(0, 39), min_size=1, max_size=5, unique=True), wanted=st.sampled_from([2, 6, 99]))
@pytest.mark.parametrize("whole_batch", [True, False])
@pytest.mark.parametrize("kind", ["kl", "margin_mse"])
def test_equal_vectors_give_the_loss_of_encoded_documents(
    inputs: TrainingInputs, positions: list[int], wanted: int, whole_batch: bool, kind: str
) -> None:
    visits = [{"position": position, "visit": 0} for position in positions]
    encoded, kept = (
        inputs.batches(whole_batch, wanted=wanted),
        query_side(inputs, whole_batch=whole_batch, wanted=wanted),
    )
    _, live = inputs.live(SETTINGS)
    for asked in ({"live": None}, {"live": live}):
        loss = loss_of(inputs, kind, student_temperature=0.05, hard_label_weight=0.3, **asked)
        with torch.no_grad():
            one, other = terms(loss, encoded(visits)), terms(loss, kept(visits))
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name], atol=2e-5, rtol=2e-4)


def test_a_batch_holds_the_whole_lists_vectors_and_no_document_to_encode(inputs: TrainingInputs) -> None:
    batch = query_side(inputs, wanted=EVERY)(VISITS)
    assert not any(name.startswith("document") for name in batch)
    rows = np.unique(np.concatenate([inputs.candidates.rows[visit["position"]] for visit in VISITS]))
    np.testing.assert_array_equal(batch["label"]["documents_MD"].numpy(), stored_of(inputs).documents.vectors_WD[rows])


def test_the_gradient_is_that_of_the_queries_alone(new_inputs: NewInputs) -> None:
    kept, encoded = new_inputs(), new_inputs()
    loss = loss_of(kept, "kl", student_temperature=0.05, hard_label_weight=0.3)
    batch = query_side(kept, wanted=EVERY)(VISITS)
    sum(terms(loss, batch).values(), torch.zeros(())).backward()
    assert not batch["label"]["documents_MD"].requires_grad

    loss = loss_of(encoded, "kl", student_temperature=0.05, hard_label_weight=0.3)
    batch = encoded.batches(wanted=EVERY)(VISITS)
    sum(terms(loss, batch).values(), torch.zeros(())).backward()
    alone, both = gradients(kept), gradients(encoded)
    assert alone.keys() == both.keys()
    words = next(name for name in alone if "word_embeddings" in name)
    asked = {
        int(i) for visit in VISITS for i in kept.queries.sequence(int(kept.candidates.query_rows_Q[visit["position"]]))
    }
    moved = set(torch.nonzero(alone[words].abs().sum(dim=1)).flatten().tolist())
    assert moved and moved <= asked, "only words of queries have a gradient"
    assert not set(torch.nonzero(both[words].abs().sum(dim=1)).flatten().tolist()) <= asked


def test_a_hidden_document_comes_with_its_own_vector(inputs: TrainingInputs) -> None:
    position = VISITS[0]["position"]
    query, document = int(inputs.candidates.query_rows_Q[position]), int(inputs.candidates.rows[position][0])
    left = np.full((1, 32), 0.5, dtype=np.float32)
    tokens = Ragged.of([np.asarray([7, 8, 9])], np.int32)
    stored = replace(stored_of(inputs), query_removed=Embeddings(left, np.asarray([0, 1])))
    batches = replace(
        inputs.batches(wanted=EVERY), stored=stored, query_removed=QueryRemoved(tokens, {query: (document, 0)})
    )
    rows = np.unique(np.concatenate([inputs.candidates.rows[visit["position"]] for visit in VISITS]))
    vectors = batches(VISITS)["label"]["documents_MD"].numpy()
    np.testing.assert_array_equal(vectors[rows == document], left)
    others = rows != document
    np.testing.assert_array_equal(vectors[others], stored.documents.vectors_WD[rows[others]])
    again = batches(VISITS[1:])["label"]["documents_MD"].numpy()
    assert not (again == 0.5).all(axis=1).any(), "shown whole to everybody else's batch"
    assert not (stored.documents.vectors_WD == 0.5).any(), "and never written into the stored vectors"


def test_queries_learn_to_find_documents_that_stay(inputs: TrainingInputs, tmp_path: Path) -> None:
    batches = query_side(inputs, wanted=EVERY)
    documents = np.array(stored_of(inputs).documents.vectors_WD)

    def rank() -> float:
        asked = [inputs.queries.sequence(int(row)) for row in inputs.candidates.query_rows_Q]
        scores = encode_sequences(inputs.student.model, asked, inputs.queries.specials) @ documents.T
        own = [next(iter(inputs.positives[int(row)])) for row in inputs.candidates.query_rows_Q]
        return float(np.mean([1 / (1 + int((line > line[row]).sum())) for line, row in zip(scores, own, strict=True)]))

    before = rank()
    teach(inputs, replace(SETTINGS, epochs=20), tmp_path, batches=batches)
    losses = [record["kl"] for record in read_metrics(tmp_path / "metrics.jsonl")]
    assert sum(losses[-5:]) < 0.85 * sum(losses[:5])
    assert rank() > before + 0.05


@pytest.mark.parametrize("live", [False, True])
def test_a_killed_training_is_continued_to_the_same_weights(new_inputs: NewInputs, tmp_path: Path, live: bool) -> None:
    asked = replace(SETTINGS, save_every=2)
    first = new_inputs()
    with pytest.raises(KeyboardInterrupt):
        teach(first, asked, tmp_path / "killed", live=live, batches=interrupted(query_side(first)))
    assert last_complete_checkpoint(tmp_path / "killed" / "trainer") is not None
    for name in ("killed", "whole"):
        inputs = new_inputs()
        teach(inputs, asked, tmp_path / name, live=live, batches=query_side(inputs))
    for which in ("student", "average"):
        one, other = weights(tmp_path / "killed", which), weights(tmp_path / "whole", which)
        assert all(torch.equal(one[name], other[name]) for name in one)
