"""Candidates refuse lists that are not well formed, and survive the disk."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.errors import DamagedArtifact, WorkError
from sdretrieval.mining.candidates import CARD, Candidates
from sdretrieval.ragged import Ragged


def example() -> Candidates:
    return Candidates(
        query_rows_Q=np.array([4, 0, 9]),
        rows=Ragged.of([[3, 1], [], [1, 7, 5]], np.int64),
        scores=Ragged.of([[0.5, 0.25], [], [0.9, 0.1, 0.0]], np.float32),
        positive=Ragged.of([[True, False], [], [False, False, False]], np.bool_),
        dense_rank=Ragged.of([[0, 2], [], [0, -1, 4]], np.int32),
    )


def lists(candidates: Candidates) -> list[object]:
    fields = (candidates.rows, candidates.scores, candidates.positive, candidates.dense_rank)
    return [candidates.query_rows_Q.tolist(), *([entries.tolist() for entries in field] for field in fields)]


def test_save_and_load_give_the_same(tmp_path: Path) -> None:
    example().save(tmp_path / "made" / "here")
    loaded = Candidates.load(tmp_path / "made" / "here")
    assert lists(loaded) == lists(example())
    assert loaded.scores.values_T.dtype == np.float32


def test_candidates_of_no_query_survive_too(tmp_path: Path) -> None:
    nothing = example().take(np.array([], dtype=np.int64))
    nothing.save(tmp_path)
    assert len(Candidates.load(tmp_path)) == 0


def test_take_keeps_the_order_asked_for() -> None:
    taken = example().take(np.array([2, 0]))
    assert taken.query_rows_Q.tolist() == [9, 4]
    assert [entries.tolist() for entries in taken.rows] == [[1, 7, 5], [3, 1]]


def test_a_card_that_disagrees_is_damage(tmp_path: Path) -> None:
    example().save(tmp_path)
    card = json.loads((tmp_path / CARD).read_text())
    (tmp_path / CARD).write_text(json.dumps({**card, "candidates": 6}))
    with pytest.raises(DamagedArtifact, match=r"holds 3 queries and 5 candidates, candidates\.json says 3 and 6"):
        Candidates.load(tmp_path)


def test_bad_lists_on_disk_are_damage(tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    example().save(tmp_path)
    tensors = load_file(tmp_path / "candidates.safetensors")
    tensors["rows"][1] = tensors["rows"][0]
    save_file(tensors, tmp_path / "candidates.safetensors")
    with pytest.raises(DamagedArtifact, match="is twice in list 0; delete the folder"):
        Candidates.load(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rows", Ragged.of([[3, 3], [], [1, 7, 5]], np.int64), "document row 3 is twice in list 0"),
        ("rows", Ragged.of([[3, 1], [], [1, -1, 5]], np.int64), r"document row -1 in a list.*padding"),
        ("scores", Ragged.of([[1.0], [0.0], [0.9, 0.1, 0.0]], np.float32), "scores is cut into other lists"),
        ("scores", Ragged.of([[1, 2], [], [3, 4, 5]], np.float64), "scores has dtype float64, expected float32"),
        ("positive", Ragged.of([[True, False]], np.bool_), "positive is cut into other lists"),
        ("query_rows_Q", np.array([1, 2]), "3 lists for 2 queries"),
        ("rows", Ragged(np.arange(5), np.array([0, 2, 2, 4])), "do not rise from 0 to the 5 entries"),
    ],
)
def test_what_is_not_well_formed_is_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(WorkError, match=message):
        dataclasses.replace(example(), **{name: value})
