"""The recipes in `indexes/` are what a config's `index:` takes, and a run mines from what they build."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import yaml

from sdretrieval.cli.search import search
from sdretrieval.config import IndexConfig, index_identity
from sdretrieval.errors import RequestError
from sdretrieval.indexes.settings import KINDS, settings_of
from sdretrieval.mining.candidates import Candidates
from sdretrieval.run.api import run_config
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, made_in

RECIPES = sorted((Path(__file__).parents[2] / "indexes").glob("*.yaml"))


SMALL = ("exact", "ivf", "hnsw", "sq8", "ivf-sq8", "binary", "hnsw-sq8", "auto")
"""What 120 documents can train."""


def read(recipe: Path) -> dict[str, Any]:
    settings: dict[str, Any] = yaml.safe_load(recipe.read_text())
    return settings


def test_the_schema_knows_every_kind_and_every_setting() -> None:
    kinds = get_args(IndexConfig.model_fields["kind"].annotation)
    assert set(kinds) == set(KINDS)
    settings = {name for kind in KINDS for name in settings_of(kind)}
    assert settings == set(IndexConfig.model_fields) - {"kind", "device"}


def test_there_is_a_recipe_of_every_kind() -> None:
    assert {read(recipe)["kind"] for recipe in RECIPES} == set(KINDS)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_the_index_section_of_a_run(recipe: Path, make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(index=read(recipe))
    if recipe.stem not in SMALL:
        return
    assert run_config(config, runs=tmp_path, until="1/mine") is None
    card = json.loads((artifact(tmp_path / "tiny", "1/index") / "card.json").read_text())
    assert card["kind"] == {"auto": "exact"}.get(recipe.stem, config.index.kind)
    assert card["recall_at_100"] >= 0.95
    fitted = {"ivf": ("lists", "probes"), "hnsw": ("ef_search",)}.get(recipe.stem, ())
    assert all(card["settings"][name] >= 1 for name in fitted), "what the recipe leaves open is fitted"


def test_a_run_with_codes_goes_to_its_report(make_config: MakeConfig, tiny_corpus: Path, tmp_path: Path) -> None:
    """Codes want 256 documents: the collection and two copies of it that say something else as well."""
    corpus = Path(shutil.copytree(tiny_corpus, tmp_path / "larger"))
    documents = [json.loads(line) for line in (corpus / "corpus.jsonl").read_text().splitlines()]
    copies = [
        {"_id": f"{one['_id']}-{extra}", "title": "", "text": f"{extra} {one['text']}"}
        for extra in ("people", "years")
        for one in documents
    ]
    (corpus / "corpus.jsonl").write_text("".join(json.dumps(one) + "\n" for one in [*documents, *copies]))
    config = make_config(corpus={"source": str(corpus)}, index={"kind": "pq", "bytes": 8})
    result = run_config(config, runs=tmp_path)
    assert result is not None and result.report["measures"]["final"]["nDCG@10"] > 0
    card = json.loads((artifact(tmp_path / "tiny", "final/index") / "card.json").read_text())
    assert card["kind"] == "pq" and card["settings"] == {"bytes": 8}
    assert search("tiny", "where is the dough?", k=3, runs=tmp_path)


def test_too_few_documents_for_codes_are_refused_before_they_are_encoded(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    with pytest.raises(RequestError, match="pq index: 120 vectors cannot train 256 centroids a byte"):
        run_config(make_config(index={"kind": "pq", "bytes": 8}), runs=tmp_path)
    assert "1/encode" not in made_in(tmp_path / "tiny")


def test_new_settings_left_alone_keep_old_keys(make_config: MakeConfig) -> None:
    assert index_identity(make_config(index={"kind": "ivf", "lists": 6}).index) == {
        "kind": "ivf", "lists": 6, "probes": None, "storage": "auto", "links": 32, "ef_construction": 100,
        "ef_search": None,
    }  # fmt: skip
    assert index_identity(make_config(index={"kind": "pq", "bytes": 8}).index)["bytes"] == 8


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
