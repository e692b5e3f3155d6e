"""What a run decides: by its probe whether to train, by its gate what to accept."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.errors import RequestError
from sdretrieval.evaluation.gate import decide
from sdretrieval.run.api import RunResult, plan_config, probe_config, run_config
from sdretrieval.stages.probe import choose
from sdretrieval.targets.build import Targets
from tests.helpers.runs.tiny_runs import (
    EMA,
    LEXICAL,
    MakeConfig,
    artifact,
    ensemble,
    keys_of,
    ledger_of,
    made_in,
    run,
    to_run,
    vectors_ND,
)

CONTROLS = "evaluate.controls=[hard_labels, shuffled_teacher]"


def test_the_shuffled_control_has_the_teachers_distributions_on_other_documents(finished: RunResult) -> None:
    true, shuffled = (Targets.load(artifact(finished.folder, f"1/targets{kind}")) for kind in ("", ":shuffled"))
    rows = range(len(true))
    moved = [not np.allclose(true.log_probs[q], shuffled.log_probs[q], atol=1e-3) for q in rows]
    assert np.mean(moved) > 0.9
    taught, control = (vectors_ND(finished.folder, f"{name}/encode") for name in ("2", "shuffled_teacher"))
    assert np.abs(taught - control).max() > 1e-3


def test_the_gate_refuses_what_a_shuffled_teacher_taught(finished: RunResult) -> None:
    before, shuffled, taught = (
        json.loads((artifact(finished.folder, address) / "measured.json").read_text())["per_query"]["nDCG@10"]
        for address in ("1/evaluate:dev", "shuffled_teacher/evaluate:dev", "2/evaluate:dev")
    )
    assert decide(before, taught, tolerance=0.01, seed=13).accepted
    assert not decide(before, shuffled, tolerance=0.01, seed=13).accepted


def test_of_an_accepted_student_and_its_mixture_judged_dev_keeps_the_better(finished: RunResult) -> None:
    made = made_in(finished.folder)
    assert [address for address in made if address.startswith("1/merge:")] == ["1/merge:0.5"], "no other is tried"
    dev = {
        address: np.mean(list(json.loads(text)["per_query"]["nDCG@10"].values()))
        for address in ("2/evaluate:dev", "1m0.5/evaluate:dev")
        for text in [(artifact(finished.folder, address) / "measured.json").read_text()]
    }
    (one,) = finished.report["generations"]
    mixed_is_better = dev["1m0.5/evaluate:dev"] > dev["2/evaluate:dev"]
    assert one["decision"] == ("merged" if mixed_is_better else "accepted")
    keys = keys_of(finished.folder)
    assert keys["final/encode"] == keys["1m0.5/encode" if mixed_is_better else "2/encode"]


def test_a_rejected_generation_gives_the_base_back_after_trying_merges(
    letters: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    """The base finds everything, so no training can gain: neither the candidate nor a merge may pass."""
    config = make_config(corpus={"source": str(letters)})
    assert run_config(config, runs=tmp_path, until="1/gate") is None
    # A plan between the gate and the merges, as after a kill there: it names them and reads nothing of them.
    assert {"1/merge:0.5", "1m0.5/encode"} <= set(to_run(plan_config(config, runs=tmp_path)))
    result = run(config, tmp_path)
    (one,) = result.report["generations"]
    assert (one["decision"], one["proven"]) == ("rejected", False)
    assert one["reason"].startswith("rejected")
    tried = [address for address in made_in(result.folder) if address.startswith("1/merge:")]
    assert tried == ["1/merge:0.5", "1/merge:0.25", "1/merge:0.75"], "each is tried before the base is kept"
    keys = keys_of(result.folder)
    assert keys["final/encode"] == keys["1/encode"] != keys["2/encode"]
    assert np.abs(vectors_ND(result.folder, "2/encode") - vectors_ND(result.folder, "1/encode")).max() > 1e-3
    assert result.report["measures"]["final"] == result.report["measures"]["student_0"]
    assert result.details["headline"] == "No generation passed the gate: the final student is the base."


def test_a_refused_generation_is_not_repeated(letters: Path, make_config: MakeConfig, tmp_path: Path) -> None:
    """From the same student, lists and seed the next one would be the same; a shorter one would not."""
    asked = ("generations=3", "evaluate.controls=[shuffled_teacher]")
    result = run(make_config(*asked, corpus={"source": str(letters)}), tmp_path)
    assert [one["decision"] for one in result.report["generations"]] == ["rejected"]
    assert "generation_2" not in result.report["systems"]
    assert any(note.startswith("1 of 3 generations were run") for note in result.details["notes"])
    assert not any("final student" in note for note in result.details["notes"])
    counts = {record["stage"]: record["counts"] for record in ledger_of(result.folder)}
    assert counts["1/train:shuffled_teacher"]["updates"] == counts["1/train"]["updates"]
    assert to_run(plan_config(make_config(*asked, corpus={"source": str(letters)}), runs=tmp_path)) == {}
    shorter = make_config(*asked, "train.later_epochs=1", "name=shorter", corpus={"source": str(letters)})
    assert [one["generation"] for one in run(shorter, tmp_path).report["generations"]] == [1, 2]


def test_a_probe_by_a_measure_that_sees_no_order_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    asked = make_config("gate.measure=Recall@20", "evaluate.teacher_depth=20", teacher=LEXICAL)
    with pytest.raises(RequestError, match="probe: gate.measure: found .Recall@20.; the probe"):
        probe_config(asked, runs=tmp_path)


@pytest.mark.parametrize("weight", ["auto", 1.0])
def test_a_useless_teacher_trains_nothing_but_the_controls_that_were_asked_for(
    letters: Path, make_config: MakeConfig, tmp_path: Path, weight: object, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = {"kind": "ema", "view": {"windows": "first"}, "weight": weight}  # sees what the student sees
    config = make_config(CONTROLS, "train.epochs=1", corpus={"source": str(letters)}, teacher=teacher, probe={})
    assert config.probe.guard, "unless told otherwise"
    probe = probe_config(config, runs=tmp_path)
    assert (probe["train"], probe["decided"]) == (False, True)
    assert probe["rows"][0]["difference"] == 0
    result = run(config, tmp_path)
    assert result.report["trained"] is False
    assert result.report["generations"] == []
    trained = [record["stage"] for record in ledger_of(result.folder) if "/train" in record["stage"]]
    assert trained == ["1/train:hard_labels", "1/train:shuffled_teacher"]
    assert {"hard_labels", "shuffled_teacher"} <= set(result.report["systems"])
    assert result.report["measures"]["final"] == result.report["measures"]["student_0"]
    assert result.details["headline"].startswith("Nothing was trained: the probe found no teacher better")
    assert all(line.cached for line in plan_config(config, runs=tmp_path))
    assert len(result.details["probe"]) == 1
    (line,) = [record.getMessage() for record in caplog.records if "nothing is trained" in record.getMessage()]
    assert "set probe.guard: false" in line and "estimate" not in line
    if weight != "auto":
        told = config.model_copy(update={"probe": make_config().probe})
        assert run_config(told, runs=tmp_path, until="1/mine") is None, "told otherwise"


def test_without_a_useful_teacher_labels_that_were_asked_for_are_learned_alone(
    letters: Path, make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    teacher = {"kind": "lexical", "weight": "auto"}  # reads words, and finds none
    asked = CONTROLS, "train.hard_label_weight=0.5", "train.epochs=1"
    config = make_config(*asked, corpus={"source": str(letters)}, teacher=teacher, probe={})
    result = run(config, tmp_path)
    assert "the control shuffled_teacher is left out, its teacher says nothing: target_perplexity 3" in caplog.text
    assert "hard_labels" in result.report["systems"]
    assert result.report["trained"] and len(result.report["generations"]) == 1
    counts = {record["stage"]: record["counts"] for record in ledger_of(result.folder)}
    assert counts["1/train"]["updates"] > 0 and "1/targets" not in counts
    assert any("training learned from labels alone" in note for note in result.details["notes"])


def test_too_small_a_dev_decides_nothing_and_says_so_everywhere(
    tiny_corpus: Path, make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import shutil

    folder = Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))
    lines = (folder / "qrels" / "dev.tsv").read_text().splitlines()
    (folder / "qrels" / "dev.tsv").write_text("\n".join(lines[:20]) + "\n")  # 19 queries and a heading
    result = run(make_config("generations=2", "train.epochs=1", corpus={"source": str(folder)}), tmp_path)
    assert "dev has 19 queries, and the gate needs 20" in caplog.text
    (one,) = result.report["generations"]
    assert (one["decision"], one["proven"]) == ("undecided", False)
    assert one["reason"].startswith("undecided: 19 dev queries are too few to tell a gain from luck, 20 are needed")
    few = "dev has 19 queries, 20 are needed to decide"
    assert result.details["headline"] == f"Nothing was accepted, the final student is the base: {few}."
    row = next(row for row in result.details["table"] if row["system"] == "final")
    assert row["description"] == "the base student: dev is too small to decide"
    assert result.report["measures"]["final"] == result.report["measures"]["student_0"]
    assert not any("merge" in address for address in made_in(result.folder))


def test_the_probe_judges_the_mixture_that_would_teach(make_config: MakeConfig, finished_copy: Path) -> None:
    same = {"kind": "ema", "view": {"windows": "first"}}  # sees what the student sees
    useless = ensemble({**same, "weight": 1}, {**LEXICAL, "weight": 0})
    probe = probe_config(make_config(teacher=useless), runs=finished_copy)
    assert probe["rows"][0]["difference"] > 0.1, "another mixture has headroom"
    assert (probe["weights"], probe["train"], probe["chosen"]) == ([1, 0], False, False)
    probe = probe_config(make_config(), runs=finished_copy)  # weights that are no quarters
    assert (probe["weights"], probe["train"], len(probe["rows"])) == ([0.3, 0.7], True, 6)


@pytest.mark.parametrize("labels", ["true", "false"])
def test_only_what_nobody_judged_keeps_the_even_mixture_if_another_is_hardly_better(
    labels: str, make_config: MakeConfig, finished_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    defaults = []

    def chosen(base: Any, tried: Any, kinds: Any, default: Any, seed: int) -> tuple[float, ...]:
        defaults.append(default)
        return choose(base, tried, kinds, default, seed)

    monkeypatch.setattr("sdretrieval.stages.probe.choose", chosen)
    # By a measure of which nothing is known of other collections.
    settings = (f"corpus.labels={labels}", "corpus.dev_queries=20", "gate.measure=nDCG@5", "targets.calibrate=absolute")
    members = [{**EMA, "weight": "auto"}, {**LEXICAL, "weight": "auto"}]
    config = make_config(*settings, teacher={"kind": "ensemble", "members": members})
    probe_config(config, runs=finished_copy)
    assert defaults == [None if labels == "true" else (0.5, 0.5)]


@pytest.fixture(scope="module")
def own(make_config: MakeConfig, finished: RunResult, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """What the probe says of a config whose teacher knows nothing, if it may try the student's own, and RUNS."""
    runs = Path(shutil.copytree(finished.folder.parent, tmp_path_factory.mktemp("own") / "runs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdretrieval.planner.workload.FEW_DOCUMENTS", 0)  # so that prices are measured
        same = {"kind": "ema", "view": {"windows": "first"}}
        return probe_config(make_config(teacher=same, name="own"), runs=runs, own_teachers=True), runs


def test_the_probe_names_a_teacher_that_the_config_lacks(own: tuple[Any, Path], make_config: MakeConfig) -> None:
    record, runs = own
    names = [one["name"] for one in record["members"]]
    assert names == ["ema:same_view", "ema:full_context", "lexical", "multi_vector:student"]
    assert record["train"] and record["chosen"] and record["weights"][0] < 1
    # What it says can be taken as it is, and then is what the probe measures.
    taken = make_config(teacher=record["teacher"])
    members = getattr(taken.teacher, "members", (taken.teacher,))
    assert [member.weight for member in members] == [weight for weight in record["weights"] if weight > 0]
    stages = {line["stage"] for line in ledger_of(runs / "own")}
    assert "0/probe:own" in stages and "0/probe" not in stages, "a run's own probe is another"


def test_a_teacher_has_a_price_and_a_mixture_that_of_its_members(own: tuple[Any, Path]) -> None:
    record, _ = own
    seconds = [one["seconds"] for one in record["members"]]
    assert seconds[0] == 0 and seconds[2] == 0, "what the student has, and BM25, cost nothing"
    assert all(one is not None and one >= 0 for one in seconds), "to a tenth of a second"
    for row in record["rows"]:
        assert row["seconds"] == pytest.approx(
            sum(one for one, weight in zip(seconds, row["weights"], strict=True) if weight > 0), abs=0.11
        )


def test_without_labels_token_vectors_are_not_tried_since_nothing_tells_what_they_are_worth(
    make_config: MakeConfig, finished_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdretrieval.run.api.OWN_QUERIES", 21)
    config = make_config("corpus.labels=false", "corpus.dev_queries=30", "targets.calibrate=absolute", teacher=LEXICAL)
    record = probe_config(config, runs=finished_copy, own_teachers=True)
    assert [one["name"] for one in record["members"]] == ["lexical", "ema:full_context"]
    assert record["n_queries"] == 21, "a sample"
    assert record["predicted"] is not None, "what BM25 adds to the student is known of other collections"


def test_weight_auto_gives_a_useful_teacher_its_weight(make_config: MakeConfig, finished_copy: Path) -> None:
    members = [{**EMA, "weight": "auto"}, {**LEXICAL, "weight": "auto"}]
    config = make_config(teacher={"kind": "ensemble", "members": members})
    probe = probe_config(config, runs=finished_copy)
    assert probe["train"] is True
    assert sum(probe["weights"]) == 1
    assert probe["weights"][1] > 0
    assert len(probe["rows"]) == 5
