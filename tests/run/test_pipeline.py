"""Whole runs over the tiny collection: what is measured, what is made again, what is accepted, what is left behind."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from sdretrieval.config import Config
from sdretrieval.corpus import load_corpus
from sdretrieval.errors import CorpusError
from sdretrieval.evaluation import read_trec
from sdretrieval.run.api import RunResult, plan_config, run_config
from sdretrieval.stages import precision
from sdretrieval.training import speed
from tests.helpers.runs.nursery import Nursery
from tests.helpers.runs.tiny_runs import (
    EMA,
    LEXICAL,
    MakeConfig,
    artifact,
    copy_without,
    figures,
    keys_of,
    ledger_of,
    made_in,
    run,
    to_run,
    vectors_ND,
)

CONTROLS = "evaluate.controls=[hard_labels, shuffled_teacher]"


# --- what is made again


def test_a_second_run_makes_nothing_and_says_the_same(
    finished: RunResult, full_config: Config, finished_copy: Path
) -> None:
    lines = len(ledger_of(finished_copy / "tiny"))
    again = run(full_config, finished_copy)
    assert len(ledger_of(again.folder)) > lines
    assert made_in(again.folder, after=lines) == []
    assert figures(again.report) == figures(finished.report)
    assert again.report["seconds"] == finished.report["seconds"]
    assert again.report["peak_rss_bytes"] == finished.report["peak_rss_bytes"]
    assert again.report["seconds_this_time"] == 0


def test_hybrid_search_fuses_its_parts_over_the_depth_asked_for(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("gate.measure=nDCG@5", evaluate={"measures": ["nDCG@5"], "depth": 120, "teacher_depth": 5})
    assert run_config(config, runs=tmp_path, until="1/evaluate:hybrid:dev") is None
    words, dense, fused = (
        read_trec(artifact(tmp_path / "tiny", address) / "run.trec")
        for address in ("0/evaluate:bm25:dev", "1/evaluate:dev", "1/evaluate:hybrid:dev")
    )
    assert max(map(len, dense.values())) == 120
    assert {query: set(found) for query, found in fused.items()} == {q: {*words[q], *dense[q]} for q in fused}


def test_until_stops_there_and_another_store_gives_the_same_measures(
    finished: RunResult, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config()
    assert run_config(config, runs=tmp_path, until="1/mine") is None
    folder = tmp_path / "tiny"
    stopped = len(ledger_of(folder))
    assert ledger_of(folder)[-1]["stage"] == "1/mine"
    assert "1/score" not in keys_of(folder)
    assert not (folder / "report.json").exists()
    result = run(config, tmp_path)
    assert "1/mine" not in made_in(folder, after=stopped)
    assert "1/score" in made_in(folder, after=stopped)
    for part in ("measures", "dev_measures"):
        assert result.report[part] == {name: finished.report[part][name] for name in result.report["systems"]}


@pytest.mark.parametrize("setting", ["student.batch_tokens=512", "train.save_every=2", "index.device=auto"])
def test_a_cost_setting_makes_nothing_again(setting: str, make_config: MakeConfig, finished: RunResult) -> None:
    plan = plan_config(make_config(CONTROLS, setting), runs=finished.folder.parent)
    assert len(plan) > 20
    assert to_run(plan) == {}


def test_a_temperature_makes_targets_and_what_follows_again(make_config: MakeConfig, finished: RunResult) -> None:
    why = to_run(plan_config(make_config(CONTROLS, "targets.temperature=0.7"), runs=finished.folder.parent))
    assert why["1/targets"] == "changed: temperature"
    assert why["1/targets:shuffled"] == "changed: temperature"
    assert why["1/train"] == "an earlier stage changed"
    assert {"2/encode", "2/index", "1/gate", "1/train:shuffled_teacher", "final/encode"} <= set(why)
    untouched = {"0/corpus", "0/tokens", "1/encode", "1/index", "1/mine", "1/encode:teacher0", "1/score"}
    assert not (untouched | {"1/train:hard_labels"}) & set(why)


def test_a_weight_does_not_score_again(make_config: MakeConfig, finished: RunResult) -> None:
    config = make_config(CONTROLS, "teacher.members.1.weight=0.4")
    plan = plan_config(config, runs=finished.folder.parent)
    assert to_run(plan)["1/targets"] == "changed: weights"
    reasons = {line.address: line.why for line in plan}
    assert reasons["1/score"] == reasons["1/encode:teacher0"] == "finished earlier"


def test_another_precision_of_encoding_makes_vectors_again_but_no_tokens(
    make_config: MakeConfig, finished: RunResult
) -> None:
    plan = plan_config(make_config(CONTROLS, "student.encode_precision=bfloat16"), runs=finished.folder.parent)
    why = to_run(plan)
    assert why["1/encode"] == why["1/encode:teacher0"] == "changed: encode_precision"
    assert not {"0/corpus", "0/tokens", "0/lexical"} & set(why)


def test_precision_auto_is_decided_once_and_what_was_decided_is_in_the_keys(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A second measurement may say something else, as on a busy machine: under another key, in another store."""
    caplog.set_level(logging.INFO, "sdretrieval")
    asked = "student.encode_precision=auto", "train.precision=auto"

    def encoded(runs: str, measured: str, *changes: str) -> str:
        monkeypatch.setattr(speed, "faster_precision", lambda model, training: (measured, f"{measured} was faster"))
        monkeypatch.setattr(precision, "machine_name", lambda device: f"a machine for {measured}")
        assert run_config(make_config(*(changes or asked)), runs=tmp_path / runs, until="1/encode") is None
        return keys_of(tmp_path / runs / "tiny")["1/encode"]

    first = encoded("old", "bfloat16")
    said = (
        "number format auto: train bfloat16 (bfloat16 was faster), encode bfloat16 (bfloat16 was faster); decided on "
    )
    assert f"{said}a machine for bfloat16, and the store keeps to it" in caplog.text
    assert encoded("old", "float32") == first, "a repeated run keeps to the record"
    assert encoded("new", "float32") != first
    assert encoded("old", "float32", "student.encode_precision=bfloat16") == first, "a key says the format itself"
    plans = [
        plan_config(make_config("student.encode_precision=auto", f"train.precision={one}"), runs=tmp_path / "old")
        for one in ("auto", "bfloat16", "float32")
    ]
    auto, half, full = (next(line.key for line in plan if line.address == "1/train") for plan in plans)
    assert auto == half != full


def test_a_plan_runs_nothing(make_config: MakeConfig, tmp_path: Path) -> None:
    plan = plan_config(make_config(CONTROLS, "generations=2"), runs=tmp_path)
    assert {line.why for line in plan if not line.why.startswith("made by ")} == {"not made yet"}
    assert {line.address: line.why for line in plan}["final/encode"] == "made by 3/encode"
    assert {"1/train", "2/train", "2/gate", "1/train:hard_labels", "final/evaluate:test"} <= set(to_run(plan))
    assert list(tmp_path.iterdir()) == []


def test_a_plan_says_that_an_artifact_is_damaged(make_config: MakeConfig, finished_copy: Path) -> None:
    (artifact(finished_copy / "tiny", "1/mine") / "manifest.json").write_text("{")
    plan = {line.address: line for line in plan_config(make_config(CONTROLS), runs=finished_copy)}
    assert (plan["1/mine"].cached, plan["1/mine"].why) == (False, "its artifact is damaged")
    assert plan["1/encode"].cached


def test_a_control_without_labels_is_refused_from_the_store_too(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    """The corpus was made for a run without the control."""
    folder = copy_without(tiny_corpus, tmp_path / "tiny", "train")
    corpus = {"source": str(folder), "labels": False, "unjudged_queries": True, "dev_queries": 16}
    assert run_config(make_config(corpus=corpus), runs=tmp_path / "runs", until="0/corpus") is None
    with pytest.raises(CorpusError, match="has no train judgements, which the control hard_labels learns from"):
        run_config(make_config("evaluate.controls=[hard_labels]", corpus=corpus), runs=tmp_path / "runs")


def test_a_live_teacher_shares_scores_but_not_targets_with_a_frozen_one(
    make_config: MakeConfig, finished: RunResult, finished_copy: Path
) -> None:
    """Live scores join in training: targets with the frozen snapshot's share in them would count it twice."""
    live = make_config(teacher={"kind": "ensemble", "members": [{**EMA, "mode": "live"}, LEXICAL]})
    lines = len(ledger_of(finished_copy / "tiny"))
    result = run(live, finished_copy)
    made = made_in(result.folder, after=lines)
    assert made[:2] == ["1/targets", "1/train"]
    assert "1/score" not in made
    taught = vectors_ND(result.folder, "2/encode")
    assert np.isfinite(taught).all()
    assert np.abs(taught - vectors_ND(finished.folder, "2/encode")).max() > 1e-4


def test_labels_as_evidence_teach_another_student_and_leave_the_control_as_it_is(
    make_config: MakeConfig, finished: RunResult, finished_copy: Path
) -> None:
    lines = len(ledger_of(finished_copy / "tiny"))
    result = run(make_config("targets.label_evidence=0.5", "evaluate.controls=[hard_labels]"), finished_copy)
    made = made_in(result.folder, after=lines)
    assert made[:2] == ["1/targets", "1/train"] and "1/train:hard_labels" not in made
    taught = vectors_ND(result.folder, "2/encode")
    assert np.abs(taught - vectors_ND(finished.folder, "2/encode")).max() > 1e-4
    labels = result.details["mining"]["1"]["labels"]
    assert finished.details["mining"]["1"]["labels"] is None
    assert 0 < len(labels["examples"]) <= labels["doubted"] <= labels["queries"]
    shares = [one["share"] for one in labels["examples"]]
    assert shares == sorted(shares) and shares[-1] < 0.5
    assert labels["examples"][0]["label"] in (result.folder / "report.html").read_text()


def test_an_earlier_runs_systems_leave_its_folder(make_config: MakeConfig, finished_copy: Path) -> None:
    names = {path.name.split(".")[0] for path in (finished_copy / "tiny" / "runs").iterdir()}
    assert {"generation_1", "shuffled_teacher"} <= names
    result = run(make_config("evaluate.controls=[]"), finished_copy)
    assert {path.name.split(".")[0] for path in (result.folder / "runs").iterdir()} == names - {
        "shuffled_teacher", "hard_labels",
    }  # fmt: skip


def test_a_plan_of_made_queries_reads_a_corpus_of_which_no_query_is_chosen_yet(
    make_config: MakeConfig, tmp_path: Path, tiny_corpus: Path
) -> None:
    corpus = {"source": str(tiny_corpus), "labels": False, "generated_queries": 20, "dev_queries": 16}
    asked = make_config("evaluate.controls=[hard_labels]", corpus=corpus)
    assert run_config(asked, runs=tmp_path, until="0/corpus") is None
    addresses = to_run(plan_config(asked, runs=tmp_path))
    assert "0/queries" in addresses and "0/corpus" not in addresses


# --- without labels


def test_a_run_without_labels_never_sees_dev_judgements(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    """Two sources that differ in their dev judgements alone give the same corpus."""
    import shutil

    other = Path(shutil.copytree(tiny_corpus, tmp_path / "other" / "tiny"))
    judged = (other / "qrels" / "dev.tsv").read_text()
    (other / "qrels" / "dev.tsv").write_text(judged.replace("\td", "\td1"))
    found = []
    for number, source in enumerate((tiny_corpus, other)):
        config = make_config(corpus={"source": str(source), "labels": False, "dev_queries": 20})
        assert run_config(config, runs=tmp_path / str(number), until="0/corpus") is None
        made = artifact(tmp_path / str(number) / "tiny", "0/corpus")
        found.append(((made / "notes.json").read_text(), (made / "corpus" / "qrels.json").read_text()))
    assert found[0] == found[1]
    assert all(query.startswith("generated-dev-") for query in json.loads(found[0][1])["dev"])


def test_a_run_without_labels_is_an_estimate_and_may_have_the_hard_label_control(
    make_config: MakeConfig, tiny_corpus: Path, tmp_path: Path
) -> None:
    corpus = {"source": str(tiny_corpus), "labels": False, "dev_queries": 20}
    result = run(make_config("evaluate.controls=[hard_labels]", corpus=corpus), tmp_path)
    assert result.report["estimate"] is True
    assert 10 <= result.report["n_dev_queries"] <= 20  # as many as find their document
    assert result.report["n_queries"] == 24
    assert any("estimate" in note for note in result.details["notes"])
    page = (result.folder / "report.html").read_text()
    assert page.count("<small>dev (estimate)</small>") == 2  # of both measures in the table
    assert "decides on dev (estimate) queries" in page
    assert "<small>dev</small>" not in page
    assert [one["reason"].startswith("by dev (estimate): ") for one in result.report["generations"]] == [True]
    assert "hard_labels" in result.report["measures"]
    updates = {r["stage"]: r["counts"]["updates"] for r in ledger_of(result.folder) if "updates" in r["counts"]}
    assert updates["1/train"] == updates["1/train:hard_labels"]
    differing = result.details["mining"]["1"]["disagreements"]
    assert 0 < len(differing["examples"]) <= differing["found"] <= differing["queries"]
    assert all(one["student"] != one["teacher"] for one in differing["examples"])
    assert differing["examples"][0]["teacher"] in page and "the cheapest to label" in page


# --- teachers that cost


def test_a_cross_encoder_scores_a_pair_once_over_all_generations(
    make_config: MakeConfig, tiny_cross_encoder: Path, tmp_path: Path
) -> None:
    reader = {"kind": "cross_encoder", "model": str(tiny_cross_encoder), "max_tokens": 96, "weight": 0.1}
    enough = ("generations=2", "train.epochs=8", "train.hard_label_weight=1")  # else the first generation gains nothing
    config = make_config(*enough, teacher={"kind": "ensemble", "members": [reader, LEXICAL]})
    result = run(config, tmp_path)
    assert result.report["generations"][0]["decision"] == "accepted"
    counts = {record["stage"]: record["counts"] for record in ledger_of(result.folder)}
    lists = counts["2/mine"]["candidates"]
    assert counts["2/score"]["pairs"] == 2 * lists
    assert 0 < counts["2/score"]["newly_scored_pairs"] < lists
    assert len(result.report["generations"]) == 2
    costs = {row["stage"]: row for row in result.report["generation_costs"]}
    assert set(costs) == {"encode", "index", "mine", "score", "targets", "train", "all"}
    assert all(row["generation"] == 2 and row["seconds_first"] >= 0 for row in costs.values())
    new, first = counts["2/score"]["newly_scored_pairs"], counts["1/score"]["newly_scored_pairs"]
    assert (costs["score"]["amount"], costs["score"]["amount_first"]) == (new, first)
    assert costs["score"]["over_first"][0] == pytest.approx(new / first, abs=1e-3)
    assert costs["train"]["over_first"][0] == 1
    assert costs["all"]["seconds"] == pytest.approx(sum(row["seconds"] for row in costs.values()) / 2, abs=0.01)
    page = (result.folder / "report.html").read_text()
    assert "Later generations beside the first" in page and f"{new:,} pairs newly scored" in page


# --- more than one process


def test_a_worker_makes_a_stage_that_the_run_then_finds(
    make_config: MakeConfig, nursery: Nursery, tmp_path: Path
) -> None:
    config = make_config()
    ended = nursery.run(config, tmp_path, until="1/score", worker=True)
    assert ended.code == 0, ended.said
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["worker.jsonl"]
    assert run_config(config, runs=tmp_path, until="1/score") is None
    assert made_in(tmp_path / "tiny") == []
    assert ledger_of(tmp_path / "tiny")[-1]["stage"] == "1/score"


# --- after the run


def test_a_later_run_that_did_not_finish_changes_nothing_of_what_is_served(
    make_config: MakeConfig, finished_copy: Path
) -> None:
    from sdretrieval.cli.export import card_facts
    from sdretrieval.cli.lookup import Serving
    from sdretrieval.cli.search import search

    before = search("tiny", "dough oven", runs=finished_copy)
    facts = card_facts(
        Serving.of(finished_copy / "tiny"), load_corpus(artifact(finished_copy / "tiny", "0/corpus") / "corpus")
    )
    other = make_config("student.prompts.query=anchor harbour", teacher=LEXICAL)
    assert run_config(other, runs=finished_copy, until="1/score") is None
    assert search("tiny", "dough oven", runs=finished_copy) == before
    corpus = load_corpus(Serving.of(finished_copy / "tiny").corpus_folder())
    assert card_facts(Serving.of(finished_copy / "tiny"), corpus) == facts
    assert [teacher.weight for teacher in facts.teachers] == [0.3, 0.7]
