"""Vectors refreshed in part: what is encoded, what a run may call exact, and what is left alone."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.config import Config, index_identity
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.known import DIGESTS
from sdretrieval.errors import RequestError
from sdretrieval.mining.candidates import Candidates
from sdretrieval.run.api import RunResult, open_run, plan_config, run_config
from sdretrieval.stages import renewal
from sdretrieval.store import Store
from tests.helpers.runs.nursery import Nursery
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, keys_of, ledger_of, made_in, vectors_ND

FEW = ("corpus.train_queries=4", "mine.depth=4", "mine.keep=4", "mine.lexical=false", "gate.measure=nDCG@2",
       "train.candidates_per_query=4", "train.epochs=20", "gate.tolerance=1", "generations=2")  # fmt: skip
"""Lists so few and so short that some of the 120 documents stand in none."""


def run(config: Config, runs: Path) -> RunResult:
    result = run_config(config, runs=runs)
    assert result is not None
    return result


def card_of(folder: Path, address: str = "2/refresh") -> dict[str, Any]:
    return dict(json.loads((artifact(folder, address) / "refresh.json").read_text()))


def lists_of(folder: Path, address: str) -> list[list[int]]:
    return [sorted(rows.tolist()) for rows in Candidates.load(artifact(folder, address)).rows]


@pytest.fixture(scope="module")
def runs(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    """The same two generations with every document encoded, and with those that lists need; in one store."""
    root = tmp_path_factory.mktemp("runs")
    return {
        refresh: run(make_config(*FEW, f"name={refresh}", f"index.refresh={refresh}"), root)
        for refresh in ("full", "partial")
    }


def test_partial_encodes_what_lists_need_and_no_more(runs: dict[str, RunResult]) -> None:
    folder, full = runs["partial"].folder, runs["full"].folder
    card = card_of(folder)
    assert card["decision"] == "partial" and not card["exact"]
    assert 24 <= card["documents_encoded"] < card["documents"] == 120
    fresh = np.load(artifact(folder, "2/refresh") / "documents" / DIGESTS) != b""
    assert fresh.sum() == card["documents_encoded"], "the sample is written as well"
    exact, mixed, old = vectors_ND(full, "2/encode"), vectors_ND(folder, "2/refresh"), vectors_ND(full, "1/encode")
    np.testing.assert_allclose(mixed[fresh], exact[fresh], atol=1e-6)
    assert np.abs(mixed[~fresh] - exact[~fresh]).max() > 1e-3
    assert np.abs(mixed - exact).mean() < np.abs(old - exact).mean(), "what is not encoded is carried"
    queries = [Embeddings.load(artifact(f, a) / "queries").vectors_WD for f, a in
               ((full, "2/encode"), (folder, "2/refresh"))]  # fmt: skip
    np.testing.assert_allclose(queries[0], queries[1], atol=1e-6)


def test_every_listed_document_is_fresh(runs: dict[str, RunResult]) -> None:
    folder = runs["partial"].folder
    fresh = np.load(artifact(folder, "2/refresh") / "documents" / DIGESTS) != b""
    assert all(fresh[rows].all() for rows in lists_of(folder, "2/mine"))


def test_nearly_all_lists_are_the_true_ones(runs: dict[str, RunResult]) -> None:
    exact, found = (lists_of(runs[name].folder, "2/mine") for name in ("full", "partial"))
    shares = [np.isin(one, other).mean() for one, other in zip(exact, found, strict=True)]
    assert np.mean(shares) >= 0.85


def test_the_first_generation_and_what_is_measured_last_are_those_of_full(runs: dict[str, RunResult]) -> None:
    full, partial = (keys_of(runs[name].folder) for name in ("full", "partial"))
    shared = [stage for stage in full if stage.split("/")[0] in ("0", "1") and not stage.endswith("gate")]
    assert {stage: partial[stage] for stage in shared} == {stage: full[stage] for stage in shared}
    assert "2/refresh" not in full and "2/encode" not in partial
    assert {"3/encode", "final/encode"} <= set(partial) and "3/refresh" not in partial


def test_full_leaves_keys_as_they_were(make_config: MakeConfig) -> None:
    usual = index_identity(make_config().index)
    for refresh in ("full", "partial", "auto"):
        assert index_identity(make_config(f"index.refresh={refresh}").index) == usual, "an index is of its vectors"


def test_the_report_says_what_is_not_exact(runs: dict[str, RunResult]) -> None:
    assert runs["full"].report["staleness"] == []
    report, details = runs["partial"].report, runs["partial"].details
    (row,) = report["staleness"]
    assert (row["stage"], row["system"], row["decision"], row["exact"]) == (
        "2/refresh",
        "generation_1",
        "partial",
        False,
    )
    assert 0 < row["movement"]["left"] < row["movement"]["mean"] <= 2
    assert 0 <= row["overlap"]["sampled"] <= 1 and 0 < row["tokens"] < row["tokens_of_all"]
    assert row["dev"]["measure"] == "nDCG@2"
    assert row["dev"]["pools_fresh"] == pytest.approx(report["dev_measures"]["generation_1"]["nDCG@2"])
    assert row["dev"]["cost"] == pytest.approx(row["dev"]["pools_fresh"] - row["dev"]["lists_fresh"])
    described = {one["system"]: one["description"] for one in details["table"]}
    assert described["generation_1"].endswith("measured on partly stale vectors")
    assert not any("stale" in text for name, text in described.items() if name != "generation_1")
    assert any("generation_1 is measured on partly stale vectors" in note for note in details["notes"])
    first, second = (one["reason"] for one in report["generations"])
    assert first.endswith("Measured on partly stale vectors: the candidate.")
    if report["generations"][0]["decision"] == "accepted":
        assert second.endswith("Measured on partly stale vectors: the student before.")
    page = (runs["partial"].folder / "report.html").read_text()
    assert "Partly stale vectors" in page and "generation_1, not exact" in page


def test_costs_show_fewer_tokens(runs: dict[str, RunResult]) -> None:
    costs = {row["stage"]: row for row in runs["partial"].report["generation_costs"]}
    assert costs["refresh"]["unit"] == "tokens" and costs["refresh"]["over_first"][0] < 1
    assert "encode" not in costs
    whole = {row["stage"]: row for row in runs["full"].report["generation_costs"]}
    assert whole["encode"]["over_first"][0] == 1 and "refresh" not in whole


def test_dev_pools_are_measured_as_whole_vectors_measure_them(runs: dict[str, RunResult]) -> None:
    full, partial = (runs[name].report["dev_measures"]["generation_1"]["nDCG@2"] for name in ("full", "partial"))
    assert partial == pytest.approx(full, abs=0.05)


def test_a_student_that_did_not_move_keeps_vectors_index_and_lists(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(*FEW, "index.refresh=auto", "train.learning_rate=1e-12", "train.epochs=1")
    folder = run(config, tmp_path).folder
    card, keys = card_of(folder), keys_of(folder)
    assert (card["decision"], card["why"]) == ("skip", "no sampled document moved")
    assert card["documents_encoded"] == card["sample"] < 30
    np.testing.assert_array_equal(vectors_ND(folder, "2/refresh"), vectors_ND(folder, "1/encode"))
    assert keys["2/index"] == keys["1/index"], "the old index serves on"


def test_auto_encodes_everything_where_nearly_everything_is_needed(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("index.refresh=auto", "generations=2")
    assert run_config(config, runs=tmp_path, until="2/refresh") is None
    card = card_of(tmp_path / "tiny")
    assert card["decision"] == "full" and card["exact"] and "of the documents are needed" in card["why"]
    assert card["overlap"]["lists"] == 1 and card["dev"]["cost"] == 0
    assert run_config(make_config("name=whole", "generations=2"), runs=tmp_path, until="2/encode") is None
    np.testing.assert_allclose(
        vectors_ND(tmp_path / "tiny", "2/refresh"), vectors_ND(tmp_path / "whole", "2/encode"), atol=1e-6
    )


def test_a_small_movement_is_left_alone_only_where_dev_hardly_changes(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(renewal, "FRESH_ENOUGH", 0.0)
    for most, decision in ((1.0, "skip"), (-1.0, "partial")):
        monkeypatch.setattr(renewal, "DEV_CHANGE", most)
        config = make_config(*FEW, f"name={decision}", "index.refresh=auto")
        assert run_config(config, runs=tmp_path / decision, until="2/refresh") is None
        card = card_of(tmp_path / decision / decision)
        assert card["decision"] == decision and "with dev's own documents fresh" in card["why"]
        assert (card["overlap"]["lists"] is None) == (decision == "skip")
        kept = np.load(artifact(tmp_path / decision / decision, "2/refresh") / "documents" / DIGESTS) != b""
        assert kept.sum() == (0 if decision == "skip" else card["documents_encoded"]), "what a look encoded is kept"
        assert card["exact"] == kept.all()


def test_a_killed_refresh_goes_on_to_the_same_vectors(
    nursery: Nursery, make_config: MakeConfig, runs: dict[str, RunResult], tmp_path: Path
) -> None:
    config = make_config(*FEW, "name=partial", "index.refresh=partial")
    when = "store/partial/*/documents/chunks/*.npz"
    killed = nursery.run(config, tmp_path, until="2/refresh", kill_at="2/refresh", kill_when=when)
    assert killed.code == -signal.SIGKILL, killed.said
    ended = nursery.run(config, tmp_path, until="2/refresh")
    assert ended.code == 0, ended.said
    assert any("2/refresh begins (was interrupted; continues)" in line for line in ended.said)
    folder, alone = tmp_path / "partial", runs["partial"].folder
    assert keys_of(folder)["2/refresh"] == keys_of(alone)["2/refresh"]
    np.testing.assert_allclose(vectors_ND(folder, "2/refresh"), vectors_ND(alone, "2/refresh"), atol=1e-6)
    assert card_of(folder)["documents_encoded"] == card_of(alone)["documents_encoded"]
    assert not (artifact(folder, "2/refresh") / "documents" / "chunks").exists()


def test_a_plan_names_the_refresh_and_makes_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    plan = {line.address for line in plan_config(make_config(*FEW, "index.refresh=partial"), runs=tmp_path)}
    assert {"1/encode", "2/refresh", "2/index", "2/mine", "3/encode"} <= plan and "2/encode" not in plan
    assert not Store(tmp_path / "store").root.exists() or made_in(tmp_path / "tiny") == []


def test_until_names_a_stage_that_full_does_not_have(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"--until 2/refresh: this config has no such stage"):
        run_config(make_config("generations=2"), runs=tmp_path, until="2/refresh")


def test_a_student_that_becomes_final_is_encoded_whole_from_what_is_fresh(
    make_config: MakeConfig, runs: dict[str, RunResult]
) -> None:
    """As where a later generation is refused. It changes the store of `runs`, so it stands last."""
    root = runs["partial"].folder.parent
    whole = keys_of(runs["full"].folder)["2/encode"]
    with open_run(make_config(*FEW, "name=first", "index.refresh=partial"), runs=root) as pipeline:
        pipeline.measure_base()
        lists = pipeline.mine(1, pipeline.base)
        candidate = pipeline.train(1, pipeline.base, pipeline.teach(1, pipeline.base, lists))
        pipeline.store.discard(whole)
        pipeline.measure_final(candidate)
    counts = next(dict(r["counts"]) for r in ledger_of(root / "first") if r["stage"] == "final/encode")
    assert counts["document_windows_reused"] == card_of(runs["partial"].folder)["documents_encoded"]
    assert keys_of(root / "first")["final/encode"] == whole, "a key of whole vectors"
    final, mixed = (vectors_ND(root / "first", address) for address in ("final/encode", "2/refresh"))
    fresh = np.load(artifact(root / "first", "2/refresh") / "documents" / DIGESTS) != b""
    np.testing.assert_array_equal(final[fresh], mixed[fresh])
    assert np.abs(final[~fresh] - mixed[~fresh]).max() > 1e-3
