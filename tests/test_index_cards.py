"""The command that makes the cards: one a recipe and size, resumed, in one table; vectors of the user's own as well."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.index_cards import run
from benchmarks.text_like_vectors import documents, recipe, write_vectors


def asked(tmp_path: Path, **changes: Any) -> Namespace:
    usual = {
        "vectors": [400],
        "recipes": "exact,binary",
        "out": tmp_path / "cards",
        "embeddings": None,
        "queries": None,
    }
    return Namespace(**{**usual, "dims": 32, "work": tmp_path / "work", "again": False, **changes})


def test_cards_are_made_once_and_stand_in_one_table(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("# Recipes\n\nWords.\n")
    run(asked(tmp_path))
    paths = sorted((tmp_path / "cards").iterdir())
    assert [path.name for path in paths] == ["binary-400.json", "exact-400.json"]
    exact = json.loads(paths[1].read_text())
    assert exact["recall_at_10"] == exact["recall_at_100"] == 1.0 and exact["count"] == 400
    assert exact["versions"]["faiss"] and exact["cpu"] and exact["commit"]

    before = [path.read_text() for path in paths]
    run(asked(tmp_path, vectors=[400, 500], recipes="exact,binary,sq8"))
    assert [path.read_text() for path in paths] == before, "what has a card is not measured again"
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# Recipes\n\nWords.\n") and text.count("vectors of 32 dims**") == 2
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")]
    assert rows == ["| recipe", "| binary", "| sq8", "| exact"] * 2, "the smallest first"
    assert all(line.count("|") == 10 for line in text.splitlines() if line.startswith("|")), "alone and in a batch"
    run(asked(tmp_path, recipes="binary", again=True))
    assert (tmp_path / "README.md").read_text().count("<!-- cards: ") == 1
    assert paths[0].read_text() != before[0]


def test_vectors_of_ones_own(tmp_path: Path) -> None:
    vectors = documents(recipe(300, 16, seed=1), 0, 300, seed=1)
    np.save(tmp_path / "mine.npy", vectors)
    [record] = run(asked(tmp_path, vectors=[300], recipes="exact", embeddings=tmp_path / "mine.npy"))
    assert (record["dims"], record["vectors"]) == (16, "mine.npy; documents stand in for queries")
    with pytest.raises(SystemExit, match=r"--vectors 400: .*mine.npy holds 300; .* such as --vectors 300"):
        run(asked(tmp_path, recipes="exact", embeddings=tmp_path / "mine.npy"))
    with pytest.raises(SystemExit, match=r"none.npy cannot be read .* expected a .npy file of floats"):
        run(asked(tmp_path, recipes="exact", embeddings=tmp_path / "none.npy"))
    np.save(tmp_path / "mine.npy", np.arange(5))
    with pytest.raises(SystemExit, match=r"mine.npy holds int64 of shape \(5,\); expected floats"):
        run(asked(tmp_path, recipes="exact", embeddings=tmp_path / "mine.npy"))


def test_unknown_recipes_are_named_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="unknown recipes: pq17; expected some of: auto, binary, "):
        run(asked(tmp_path, recipes="pq17"))


def test_drawn_vectors_are_unit_the_same_again_and_have_neighbours(tmp_path: Path) -> None:
    vectors, queries = write_vectors(tmp_path / "a", 2000, 64, 50, seed=3)
    again, _ = write_vectors(tmp_path / "b", 2000, 64, 50, seed=3)
    np.testing.assert_array_equal(vectors, again)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    cosines = np.sort(queries @ vectors.T, axis=1)
    assert cosines[:, -1].mean() > cosines[:, -10].mean() + 0.05 > np.median(cosines) + 0.2
