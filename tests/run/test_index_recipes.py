"""The recipes in `indexes/` are what a config's `index:` takes, and a run mines from what they build."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from sdretrieval.mining.candidates import Candidates
from sdretrieval.run.api import run_config
from tests.run.helpers.tiny_runs import MakeConfig, artifact

RECIPES = sorted((Path(__file__).parents[2] / "indexes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_the_index_section_of_a_run(recipe: Path, make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(index=yaml.safe_load(recipe.read_text()))
    assert run_config(config, runs=tmp_path, until="1/mine") is None
    card = json.loads((artifact(tmp_path / "tiny", "1/index") / "card.json").read_text())
    assert card["kind"] == recipe.stem and card["recall_at_100"] >= 0.95
    fitted = {"ivf": ("lists", "probes"), "hnsw": ("ef_search",)}.get(recipe.stem, ())
    assert all(card["settings"][name] >= 1 for name in fitted), "what the recipe leaves open is fitted"


def test_what_a_config_sets_is_what_is_built(make_config: MakeConfig, tmp_path: Path) -> None:
    index = {"kind": "ivf", "device": "cpu", "lists": 6, "probes": 2, "storage": "float16"}
    assert run_config(make_config(index=index), runs=tmp_path, until="1/index") is None
    card = json.loads((artifact(tmp_path / "tiny", "1/index") / "card.json").read_text())
    assert card["settings"] == {"lists": 6, "probes": 2, "storage": "float16"}


def test_a_graph_index_mines_the_same_lists_in_every_store(make_config: MakeConfig, tmp_path: Path) -> None:
    rows = []
    for store in ("one", "two"):
        index = {"kind": "hnsw", "device": "cpu", "links": 2, "ef_construction": 4, "ef_search": 30}
        assert run_config(make_config(index=index), runs=tmp_path / store, until="1/mine") is None
        rows.append(Candidates.load(artifact(tmp_path / store / "tiny", "1/mine")).rows.values_T)
    np.testing.assert_array_equal(rows[0], rows[1])
