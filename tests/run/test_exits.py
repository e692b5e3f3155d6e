"""Exits that learn along with the student: what is served, what is reported, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from sdretrieval.cli.export import export_run
from sdretrieval.cli.search import search
from sdretrieval.corpus import load_corpus
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.errors import ConfigError, ModelError, RequestError
from sdretrieval.export.verify import verify_bundle
from sdretrieval.ragged import Array
from sdretrieval.run.api import forecast_config, run_config
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, ledger_of

ALSO = ("train.also={layers: [1], dims: [8]}", "smaller=[{model: static, dims: 8, epochs: 1}]")
EXITS = ("final-dims8", "final-layers1", "final-layers1-dims8")


@pytest.fixture(scope="module")
def run(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Any:
    result = run_config(make_config(*ALSO), runs=tmp_path_factory.mktemp("exits"))
    assert result is not None
    return result


def vectors(folder: Path, address: str, side: str) -> Array:
    return np.array(Embeddings.load(artifact(folder, address) / side).vectors_WD)


def metrics(folder: Path) -> list[dict[str, float]]:
    lines = (artifact(folder, "1/train") / "metrics.jsonl").read_text(encoding="utf8").splitlines()
    return [json.loads(line) for line in lines]


def test_each_exit_is_a_row_of_the_report_with_its_price(run: Any) -> None:
    rows = {one["name"]: one for one in run.report["smaller"]}
    assert tuple(rows)[: len(EXITS)] == EXITS
    for name in EXITS:
        small, large = rows[name]["cost"]["smaller"], rows[name]["cost"]["final"]
        assert small["dims"] == (8 if "dims8" in name else large["dims"])
        assert (small["parameters"] < large["parameters"]) == ("layers1" in name)
        assert [row["b"] for row in run.report["tests"] if row["a"] == name] == ["final"]
        assert rows[name]["description"].endswith("taught along with it")
        assert any(note.startswith(f"{name} has nDCG@10") for note in run.details["notes"]), name


def test_every_folder_is_a_plain_model_that_gives_the_vectors_that_were_measured(run: Any) -> None:
    corpus = load_corpus(artifact(run.folder, "0/corpus") / "corpus")
    queries, documents = corpus.query_texts()[:5], list(corpus.document_texts()[:5])
    for name in EXITS:
        model = SentenceTransformer(str(run.folder / "smaller" / name), device="cpu")
        for side, found in (("queries", model.encode_query(queries)), ("documents", model.encode_document(documents))):
            stored = vectors(run.folder, f"{name}/encode", side)[:5]
            np.testing.assert_allclose(found, stored, atol=1e-4, err_msg=name)


def test_a_linear_map_stands_behind_each(run: Any) -> None:
    for name, longer in (("final-dims8", "final/encode"), ("final-layers1", "final-layers1/encode:cut"),
                         ("final-layers1-dims8", "final-layers1/encode:cut")):  # fmt: skip
        model = SentenceTransformer(str(run.folder / "smaller" / name), device="cpu")
        map_DF = next(iter(model[-2].parameters())).detach().numpy()
        mapped = vectors(run.folder, longer, "documents") @ map_DF.T
        mapped /= np.linalg.norm(mapped, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors(run.folder, f"{name}/encode", "documents"), mapped, atol=1e-5)


def test_what_is_fitted_to_fewer_dims_follows_the_exit(run: Any) -> None:
    keys = {one["stage"]: one["key"] for one in ledger_of(run.folder)}
    assert keys["final-static-dims8-queries/index"] == keys["final-dims8/index"]


def test_one_is_exported_verified_and_searched(run: Any, tmp_path: Path) -> None:
    name = "final-layers1-dims8"
    manifest = export_run(run.folder.name, tmp_path / "bundle", student=name, runs=run.folder.parent)
    assert manifest.dims == 8 and verify_bundle(tmp_path / "bundle").ok
    assert search(str(tmp_path / "bundle"), "ore in oslo", 3).hits
    card = (tmp_path / "bundle" / "README.md").read_text(encoding="utf8")
    assert f"`{name}` is this model" in card and f"--student {name}" in card


def test_a_plan_says_how_much_exits_encode(run: Any, make_config: MakeConfig, tmp_path: Path) -> None:
    stages = forecast_config(make_config(*ALSO), runs=tmp_path).forecast.stages
    made = {one["stage"]: one for one in ledger_of(run.folder)}
    counts = made["final-layers1/encode:cut"]["counts"]
    read = counts["document_tokens"] + counts["query_tokens"]
    planned = stages["final-layers1/encode:cut"].amount
    assert planned is not None and planned.count == pytest.approx(read, rel=0.2)
    assert stages["final-layers1/fit:cut"].amount is None
    updates = made["final-layers1/fit"]["counts"]["updates"]
    planned = stages["final-layers1/fit"].amount
    assert planned is not None and planned.count == pytest.approx(updates, rel=0.2)


@pytest.mark.parametrize(
    "settings",
    [
        (
            "student.train=adapter", "train.also={dims: [8]}", "train.loss=embedding", "teacher={kind: ema}",
            "smaller=[{layers: 1, dims: 12}]",
        ),
        (
            "train.also={layers: [1], dims: [8]}", "student.lexical_half.dims=16", "teacher.members.0.mode=live",
            "generations=2", "train.gradient_accumulation=2", "gate.tolerance=1",
        ),
    ],
    ids=["an adapter that follows vectors", "a live teacher, a lexical half"],
)  # fmt: skip
def test_exits_learn_with(make_config: MakeConfig, settings: tuple[str, ...], tmp_path: Path) -> None:
    config = make_config(*settings, "train.epochs=0.5", "name=with")
    result = run_config(config, runs=tmp_path)
    assert result is not None
    parts = (*config.exits, *config.smaller)  # none of them encodes queries alone
    assert [one["name"] for one in result.report["smaller"]] == [one.name for one in parts]
    learned = result.report["generations"][0]["decision"] in ("accepted", "merged")
    said = "taught along with it" if learned else "not taught: nothing was accepted"
    assert all(one["description"].endswith(said) for one in result.report["smaller"][: len(config.exits)])
    assert all(one["exits"] > 0 for one in metrics(result.folder))
    name = parts[-1].name
    export_run("with", tmp_path / "bundle", student=name, runs=tmp_path)
    assert verify_bundle(tmp_path / "bundle").ok


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["train.also={}"], "train.also: found neither layers nor dims; expected some, such as {layers: [3]"),
        (["train.also={layers: [1, 1]}"], "train.also.layers.1: found 1 again; expected another number"),
        (["train.also={dims: [4]}"], "train.also.dims.0: found 4; expected"),
        (["train.also={layers: [0]}"], "train.also.layers.0: found 0; expected"),
        (["train.also={dims: [8]}", "student.train=query"], "found exits, but student.train is query"),
        (["train.also={layers: [1]}", "student.train=adapter"], "found [1], but student.train is adapter: no layer"),
        (
            ["train.also={layers: [1]}", "train.freeze=['layers:1']"],
            "found 1, but train.freeze holds layers:1: no layer",
        ),
        (["train.also={dims: [8]}", "smaller=[{dims: 8}]"], "smaller.0: found final-dims8, which train.also teaches"),
    ],
)
def test_contradictions_are_refused(make_config: MakeConfig, settings: list[str], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_config(*settings)
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("also", "problem"),
    [
        ("{layers: [9]}", "has [0-9]+ layers, found 9 asked for; expected fewer"),
        ("{dims: [4000]}", "train.also.dims asks for 4000, the student's vectors have [0-9]+; expected fewer"),
    ],
)
def test_what_the_base_lacks_is_refused_before_any_work(
    make_config: MakeConfig, also: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises((RequestError, ModelError), match=problem):
        run_config(make_config(f"train.also={also}"), runs=tmp_path)
    assert not list(tmp_path.glob("*/report.json"))
