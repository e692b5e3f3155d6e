"""Smaller students, fitted to the final one's vectors: what is served, what is reported, what is refused."""

from __future__ import annotations

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
from sdretrieval.run.api import dry_run, forecast_config, run_config
from sdretrieval.store import Store
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, ledger_of

SMALLER = (
    "smaller=[{model: static, epochs: 10}, {layers: 1, epochs: 1}, {dims: 8}, {model: static, dims: 8, epochs: 1}]"
)
NAMES = (
    "final-static", "final-static-queries", "final-layers1", "final-layers1-queries", "final-dims8",
    "final-static-dims8", "final-static-dims8-queries",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Any:
    result = run_config(make_config(SMALLER, "train.learning_rate=1e-3"), runs=tmp_path_factory.mktemp("smaller"))
    assert result is not None
    return result


def vectors(folder: Path, address: str, side: str) -> Array:
    return np.array(Embeddings.load(artifact(folder, address) / side).vectors_WD)


def test_each_is_a_row_of_the_report_with_its_price(run: Any) -> None:
    assert [one["name"] for one in run.report["smaller"]] == list(NAMES)
    assert run.report["systems"][-len(NAMES) :] == list(NAMES)
    for one in run.report["smaller"]:
        name, small, large = one["name"], one["cost"]["smaller"], one["cost"]["final"]
        assert one["kept"] == pytest.approx(
            run.report["measures"][name]["nDCG@10"] / run.report["measures"]["final"]["nDCG@10"]
        )
        assert small["dims"] == (8 if "dims8" in name else large["dims"])
        assert small["query_ms"] > 0 and small["documents_a_second"] > 0
        assert [row["b"] for row in run.report["tests"] if row["a"] == name] == ["final"]
        assert any(note.startswith(f"{name} has nDCG@10") for note in run.details["notes"]), name
    assert all(one["cost"]["smaller"]["parameters"] < one["cost"]["final"]["parameters"]
               for one in run.report["smaller"] if "static" in one["name"] or "layers1" in one["name"])  # fmt: skip


def test_what_is_fitted_comes_nearer_to_the_final_student(run: Any) -> None:
    target, found = (vectors(run.folder, f"{name}/encode", "documents") for name in ("final", "final-static"))
    first = [one["cosine"] for one in map_lines(artifact(run.folder, "final-static/fit") / "metrics.jsonl")]
    assert first[-1] < 0.6 * first[0]
    assert (target * found).sum(axis=1).mean() > 0.8


def map_lines(path: Path) -> list[dict[str, float]]:
    import json

    return [json.loads(line) for line in path.read_text(encoding="utf8").splitlines()]


def test_every_folder_is_a_plain_model_that_gives_the_vectors_that_were_measured(run: Any) -> None:
    corpus = load_corpus(artifact(run.folder, "0/corpus") / "corpus")
    queries, documents = corpus.query_texts()[:5], list(corpus.document_texts()[:5])
    for name in NAMES:
        model = SentenceTransformer(str(run.folder / "smaller" / name), device="cpu")
        stored = vectors(run.folder, f"{name}/encode", "queries")[:5]
        np.testing.assert_allclose(model.encode_query(queries), stored, atol=1e-4, err_msg=name)
        stored = vectors(run.folder, f"{name}/encode", "documents")[:5]
        np.testing.assert_allclose(model.encode_document(documents), stored, atol=1e-4, err_msg=name)
    final = SentenceTransformer(str(run.folder / "student"), device="cpu")
    layers = SentenceTransformer(str(run.folder / "smaller" / "final-layers1"), device="cpu")
    assert layers[0].auto_model.config.num_hidden_layers == 1 < final[0].auto_model.config.num_hidden_layers


def test_queries_alone_search_the_final_students_documents(run: Any) -> None:
    addresses = [f"{name}/encode" for name in ("final-static-queries", "final", "final-static")]
    shared, final, static = (vectors(run.folder, address, "documents") for address in addresses)
    np.testing.assert_array_equal(shared, final)
    assert np.abs(static - final).max() > 0.01
    shared, _, static = (vectors(run.folder, address, "queries") for address in addresses)
    np.testing.assert_array_equal(shared, static)
    keys = {one["stage"]: one["key"] for one in ledger_of(run.folder)}
    assert keys["final-static-queries/index"] == keys["final/index"] != keys["final-static/index"]


@pytest.mark.parametrize("name", ["final-static", "final-static-queries", "final-dims8"])
def test_one_is_exported_verified_and_searched(run: Any, name: str, tmp_path: Path) -> None:
    manifest = export_run(run.folder.name, tmp_path / "bundle", student=name, runs=run.folder.parent)
    assert (manifest.dims == 8) == (name == "final-dims8")
    assert verify_bundle(tmp_path / "bundle").ok
    assert search(str(tmp_path / "bundle"), "ore in oslo", 3).hits
    card = (tmp_path / "bundle" / "README.md").read_text(encoding="utf8")
    assert f"`{name}` is this model" in card and f"--student {name}" in card


def test_beside_a_lexical_half_queries_and_documents_keep_their_encoders(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(
        "smaller=[{model: static, epochs: 1}]", "student.lexical_half.dims=16", "train.epochs=0.1", "name=half"
    )
    result = run_config(config, runs=tmp_path)
    assert result is not None
    for name in ("final-static", "final-static-queries"):
        export_run("half", tmp_path / name, student=name, runs=tmp_path)
        assert verify_bundle(tmp_path / name).ok
        assert search(str(tmp_path / name), "ore in oslo", 3).hits
        card = (tmp_path / name / "README.md").read_text(encoding="utf8")
        assert f"A smaller student (`{name}`) of a larger one" in card and "these are the weights" not in card


def test_a_name_that_the_run_lacks_is_refused(run: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no smaller student 'final-layers2'; it has: final-static, "):
        export_run(run.folder.name, tmp_path / "bundle", student="final-layers2", runs=run.folder.parent)


def test_nothing_is_fitted_twice(run: Any, make_config: MakeConfig) -> None:
    again = run_config(make_config(SMALLER, "train.learning_rate=1e-3"), runs=run.folder.parent)
    assert again is not None and again.report["smaller"] == run.report["smaller"]
    last = [one for one in ledger_of(run.folder) if one["stage"].startswith("final-")]
    assert last and all(one["cached"] for one in last[len(last) // 2 :])


def test_what_stays_frozen_counts_though_nothing_was_trained_but_a_static_student_has_no_such_part(
    letters: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    teacher = {"kind": "ema", "mode": "base"}  # knows nothing: the final student is the base, whatever train says
    same = {"corpus": {"source": str(letters)}, "teacher": teacher, "probe": {}}
    run_config(make_config(**same), runs=tmp_path, until="0/probe")

    def keys(*overrides: str) -> dict[str, str]:
        smaller = "smaller=[{layers: 1, epochs: 1}, {model: static}]"
        plan = dry_run(make_config(smaller, *overrides, **same), Store(tmp_path / "store"))
        return {stage.address: stage.key for stage in plan}

    learned, frozen = keys(), keys("train.freeze=[embeddings]")
    assert "1/train" not in learned
    changed = {address for address, key in learned.items() if frozen[address] != key}
    assert {"final-layers1/fit", "final-static/fit"} & changed == {"final-layers1/fit"}


def test_a_plan_says_how_much_there_is_to_fit(run: Any, make_config: MakeConfig, tmp_path: Path) -> None:
    stages = forecast_config(make_config(SMALLER, "train.learning_rate=1e-3"), runs=tmp_path).forecast.stages
    made = {one["stage"]: one for one in ledger_of(run.folder) if not one["cached"]}
    for name in ("final-static", "final-layers1", "final-dims8"):
        planned, updates = stages[f"{name}/fit"].amount, made[f"{name}/fit"]["counts"]["updates"]
        assert planned is not None and planned.count == pytest.approx(updates, rel=0.2), name
    assert stages["final-layers1/fit"].seconds and stages["final-static/fit"].seconds is None


def test_a_run_stops_at_a_smaller_student(make_config: MakeConfig, run: Any) -> None:
    config = make_config(SMALLER, "train.learning_rate=1e-3", name="stops")
    assert run_config(config, runs=run.folder.parent, until="final-static/fit") is None


@pytest.mark.parametrize(
    ("smaller", "problem"),
    [
        ("[{epochs: 2}]", "smaller.0: found the final student itself; expected another model, fewer layers or fewer"),
        ("[{model: static, layers: 2}]", "smaller.0.layers: found 2, but smaller.0.model is static, which has no"),
        ("[{dims: 8, epochs: 2}]", "smaller.0.epochs: found 2, but smaller.0 has no encoder of its own to fit"),
        ("[{dims: 8}, {dims: 8}]", "smaller.1: found final-dims8 again; expected another model"),
    ],
)
def test_contradictions_are_refused(make_config: MakeConfig, smaller: str, problem: str) -> None:
    with pytest.raises(ConfigError, match=problem.replace("[", r"\[")):
        make_config(f"smaller={smaller}")


def test_no_smaller_student_follows_two_encoders(make_config: MakeConfig) -> None:
    with pytest.raises(ConfigError, match="student.train is query: queries and documents have encoders of their own"):
        make_config("smaller=[{dims: 8}]", "student.train=query")


@pytest.mark.parametrize(
    ("smaller", "problem"),
    [
        ("{layers: 9}", "has [0-9]+ layers, found 9 asked for; expected fewer"),
        ("{dims: 4000}", "smaller.0.dims is 4000, the student's vectors have [0-9]+; expected fewer"),
        ("{model: nowhere}", "nowhere"),
    ],
)
def test_what_the_base_cannot_give_is_refused_before_any_work(
    make_config: MakeConfig, smaller: str, problem: str, tmp_path: Path
) -> None:
    with pytest.raises((RequestError, ModelError), match=problem):
        run_config(make_config(f"smaller=[{smaller}]"), runs=tmp_path)
    assert not list(tmp_path.glob("*/report.json"))
