"""Batches by token budget: every sequence once, the budget kept, little padding."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.encode.batches import budget_batches, pad, usual_batch_tokens


@given(st.lists(st.integers(0, 200), max_size=60), st.integers(1, 1000))
def test_every_position_once_and_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = [batch.tolist() for batch in budget_batches(lengths, budget)]
    assert sorted(position for batch in batches for position in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[position] for position in batch)
        assert len(batch) == 1 or longest * len(batch) <= budget


@given(st.lists(st.integers(1, 200), min_size=1, max_size=60), st.integers(1, 1000))
def test_the_longest_come_first(lengths: list[int], budget: int) -> None:
    order = np.concatenate(list(budget_batches(lengths, budget)))
    assert np.all(np.diff(np.asarray(lengths)[order]) <= 0)


def test_padding_stands_on_the_right_and_is_masked() -> None:
    ids_BL, mask_BL = pad([np.asarray([5, 6, 7]), np.asarray([8])], pad_id=9)
    assert ids_BL.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert mask_BL.tolist() == [[1, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize(
    ("multiprocessors", "gibibytes", "expected"),
    [(132, 139, 132 * 512), (108, 39, 39 * 1024), (40, 15, 15 * 1024), (8, 1, 2048)],  # H200, A100, T4, a small one
)
def test_a_gpu_gets_batches_of_its_own_size(
    multiprocessors: int, gibibytes: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = SimpleNamespace(multi_processor_count=multiprocessors, total_memory=gibibytes * 2**30)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: gpu)
    assert usual_batch_tokens("cuda") == expected
    assert usual_batch_tokens("cpu") == 2048
