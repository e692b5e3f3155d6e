"""Pieces of documents, and the loss by which two of a document find each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import SentenceTransformer

from sdretrieval.encode.student import load_student
from sdretrieval.errors import NumericError
from sdretrieval.ragged import Ragged
from sdretrieval.training.batches import Side
from sdretrieval.training.pretrain import LEAST_TOKENS, MOST_TOKENS, PieceBatches, SameDocument, piece, same_document


@given(st.integers(1, 200), st.integers(0, 1000))
def test_a_piece_is_a_run_of_a_documents_tokens(length: int, seed: int) -> None:
    content = np.arange(length)
    found = piece(content, np.random.default_rng(seed))
    assert (np.diff(found) == 1).all() and set(found.tolist()) <= set(range(length))
    assert min(length, LEAST_TOKENS) <= len(found) <= max(min(length // 2, MOST_TOKENS), LEAST_TOKENS)


@settings(deadline=None)
@given(st.integers(2, 6), st.integers(0, 1000))
def test_each_piece_is_told_from_those_of_other_documents_and_not_from_copies(count: int, seed: int) -> None:
    chance = np.random.default_rng(seed)
    scores_BB, group_B = chance.normal(size=(count, count)), chance.integers(0, 3, count)
    expected = []
    for scores in (scores_BB, scores_BB.T):
        for row in range(count):
            others = [column for column in range(count) if column == row or group_B[column] != group_B[row]]
            expected.append(np.log(np.exp(scores[row, others]).sum()) - scores[row, row])
    found = same_document(torch.from_numpy(scores_BB), torch.from_numpy(group_B))
    assert float(found) == pytest.approx(np.mean(expected))


def batches_of(student: Path, rows: list[int]) -> PieceBatches:
    loaded = load_student(str(student), max_tokens=32, query_tokens=32, device="cpu")
    lists = [5 + 15 * n + np.arange(length) % 15 for n, length in enumerate((20, 60, 35, 16))]
    tokens = Ragged.of(lists, np.int32)
    sides = (
        Side(tokens, loaded.query_view, loaded.query_specials),
        Side(tokens, loaded.view, loaded.document_specials),
    )
    return PieceBatches(loaded.model, *sides, np.array(rows), np.array([0, 1, 2, 1]), seed=7)


def test_the_label_says_which_vectors_are_of_one_document(tiny_student: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdretrieval.training.pretrain.PART_TOKENS", 64)  # several parts a side
    batches = batches_of(tiny_student, [0, 1, 2])
    visits = [{"position": position, "visit": 4} for position in (2, 0, 1)]
    batch = batches(visits)
    parts = sorted({name.split("_")[0] for name in batch if name.startswith("part")})
    assert len(parts) > 2
    ids = [
        row[mask > 0]
        for part in parts
        for row, mask in zip(batch[f"{part}_input_ids"], batch[f"{part}_attention_mask"], strict=True)
    ]
    ordered = [ids[place].tolist() for place in batch["label"]["order_P"]]
    expected = []
    for side in (0, 1):
        for row in (2, 0, 1):
            chance = np.random.default_rng((7, row, 4))
            content = batches.documents.tokens[row]
            pieces = [piece(content, chance) for _ in range(2)]
            expected.append(batches.documents.view.cut(pieces[side], batches.documents.specials)[0].tolist())
    assert ordered == expected
    assert batch["label"]["group_B"].tolist() == [2, 0, 1]
    again, later = batches(visits), batches([{**visit, "visit": 5} for visit in visits])
    same = [torch.equal(batch["part0_input_ids"], other["part0_input_ids"]) for other in (again, later)]
    assert same == [True, False], "a resumed run sees the same pieces, the next pass sees others"


def test_learning_brings_pieces_of_a_document_together(tiny_student: Path) -> None:
    batches = batches_of(tiny_student, [0, 1, 2])
    model = batches.model.train()
    loss = SameDocument(model, temperature=0.2)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    found = []
    for visit in range(20):
        batch = batches([{"position": position, "visit": visit} for position in range(3)])
        parts = sorted({name.split("_")[0] for name in batch if name.startswith("part")})
        features = [
            {name.removeprefix(f"{part}_"): value for name, value in batch.items() if name.startswith(f"{part}_")}
            for part in parts
        ]
        term = loss(features, batch["label"])["pieces"]
        optimiser.zero_grad()
        term.backward()
        optimiser.step()
        found.append(float(term.detach()))
    assert np.mean(found[-5:]) < 0.7 * np.mean(found[:5])


def test_longer_vectors_are_compared_by_their_directions(tiny_student: Path) -> None:
    batches = batches_of(tiny_student, [0, 1, 2])
    batch = batches([{"position": position, "visit": 0} for position in range(3)])
    parts = sorted({name.split("_")[0] for name in batch if name.startswith("part")})
    features = [
        {name.removeprefix(f"{part}_"): value for name, value in batch.items() if name.startswith(f"{part}_")}
        for part in parts
    ]
    plain = SameDocument(batches.model, temperature=0.1)

    class Longer(torch.nn.Module):
        def forward(self, part: dict[str, Any]) -> dict[str, torch.Tensor]:
            return {"sentence_embedding": 7 * batches.model(dict(part))["sentence_embedding"]}

    network: Any = Longer()
    longer = SameDocument(network, temperature=0.1)
    with torch.no_grad():
        found = [loss([dict(part) for part in features], batch["label"])["pieces"] for loss in (plain, longer)]
    torch.testing.assert_close(*found)


def test_a_loss_that_is_not_finite_names_the_step(tiny_student: Path) -> None:
    model = SentenceTransformer(str(tiny_student), device="cpu")
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    loss = SameDocument(model, temperature=0.05)
    loss.step = 4
    labels = {"order_P": torch.arange(2), "group_B": torch.zeros(1, dtype=torch.int64)}
    with pytest.raises(NumericError, match="the loss is not finite at step 5; lower pretrain.learning_rate"):
        loss([model.preprocess(["ore", "oslo"])], labels)
