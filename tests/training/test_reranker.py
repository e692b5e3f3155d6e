"""What a cross-encoder is fitted by: the loss, and the pairs of a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.mining.candidates import FIELDS, Candidates
from sdretrieval.ragged import Ragged
from sdretrieval.teachers.cross_encoder import load_cross_encoder
from sdretrieval.teachers.pair_windows import PairWindows
from sdretrieval.training.reranker import ListBatches, PositiveFirst, positive_first

LISTS = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=5)
"""Positives, others, and windows of each document, of some lists."""


@given(LISTS, st.integers(0, 1000))
def test_the_loss_is_the_log_of_the_softmaxs_mass_on_positives_by_best_windows(
    shapes: list[tuple[int, int, int]], seed: int
) -> None:
    chance, expected, logits, pair_of, list_of, positive = np.random.default_rng(seed), [], [], [], [], []
    for number, (positives, others, windows) in enumerate(shapes):
        scores = chance.normal(size=(positives + others, windows))
        weights = np.exp(scores.max(axis=1))
        expected.append(-np.log(weights[:positives].sum() / weights.sum()))
        pair_of += [len(list_of) + pair for pair in range(len(scores)) for _ in range(windows)]
        list_of += [number] * len(scores)
        positive += [pair < positives for pair in range(len(scores))]
        logits += scores.ravel().tolist()
    order = chance.permutation(len(logits))  # windows come sorted by length
    found = positive_first(
        torch.tensor(logits)[order], torch.tensor(pair_of)[order], torch.tensor(list_of), torch.tensor(positive)
    )
    np.testing.assert_allclose(found.item(), np.mean(expected), rtol=1e-4)


def test_a_batch_shows_each_querys_positive_and_every_window_that_the_teacher_reads(tiny_cross_encoder: Path) -> None:
    model, _ = load_cross_encoder(str(tiny_cross_encoder), max_tokens=32, device="cpu")
    rows = Ragged.of([[4, 1, 2, 3], [2, 0, 1, 3]], np.int64)
    positive = rows.with_values(np.asarray([True, False, False, False] * 2))
    zeros = {name: rows.with_values(np.zeros(8, kind)) for name, kind in FIELDS.items()}
    lists = Candidates(np.asarray([7, 3]), **{**zeros, "rows": rows, "positive": positive})
    long = " ".join(["harbour", "river", "storm"] * 20)
    windows = PairWindows(model, 32, "all")
    batches = ListBatches(
        model, windows, lists, lambda query, document: (f"query {query}", long[: 60 * document + 9]), width=3, seed=13
    )
    batch = batches([{"position": 1, "visit": 0}, {"position": 0, "visit": 0}])
    label = batch["label"]
    assert label["list_P"].tolist() == [0, 0, 0, 1, 1, 1]
    assert label["positive_P"].tolist() == [True, False, False] * 2
    assert sorted(set(label["pair_W"].tolist())) == list(range(6)) and len(label["pair_W"]) > 6
    parts = sum(name.endswith("_input_ids") for name in batch)
    features = [
        {name.removeprefix(f"part{n}_"): value for name, value in batch.items() if name.startswith(f"part{n}_")}
        for n in range(parts)
    ]
    (loss,) = PositiveFirst(model)(features, label).values()
    assert loss.item() > 0 and loss.requires_grad
    shown = {str(batches([{"position": 1, "visit": visit}])["part0_input_ids"].tolist()) for visit in range(8)}
    assert len(shown) > 1, "visits draw other negatives"
