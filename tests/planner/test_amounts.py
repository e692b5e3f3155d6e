"""What a forecast says a run will take, against what the run's manifests count."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.cli.show import lineage
from sdretrieval.encode.views import Specials, View
from sdretrieval.errors import DamagedArtifact
from sdretrieval.planner import Amount, Fitted, Forecast, Prediction, workload
from sdretrieval.planner.amounts import tokens_held
from sdretrieval.planner.trials import Trials
from sdretrieval.planner.workload import Lengths
from sdretrieval.ragged import Ragged
from sdretrieval.run.api import RunResult, forecast_config, plan_config, run_config
from sdretrieval.units import counted
from tests.helpers import tiny
from tests.helpers.runs.tiny_runs import MakeConfig, ledger_of

SPECIALS = Specials((1,), (2,))
CONTROLS = "evaluate.controls=[hard_labels, shuffled_teacher]"
EXACT = ("tokens", "encode", "index", "targets", "train", "lexical", "corpus", "evaluate", "probe", "probability")
"""Stages whose work is known before it is done; mining may find less than was asked for."""


def stage_of(address: str) -> str:
    return address.split("/")[1].split(":")[0]


def units_of(stages: Mapping[str, Prediction], address: str) -> int:
    """How much of its unit is predicted of a stage."""
    amount = stages[address].amount
    assert amount is not None
    return amount.count


def seconds_of(stages: Mapping[str, Prediction], address: str) -> float:
    """What is predicted of a stage."""
    seconds = stages[address].seconds
    assert seconds is not None
    return seconds


@pytest.fixture(scope="module")
def predicted(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Fitted:
    """The forecast of the config of `finished`, in a store that holds nothing."""
    return forecast_config(make_config(CONTROLS), runs=tmp_path_factory.mktemp("nothing"))


def test_the_forecast_has_every_stage_that_a_run_makes(predicted: Fitted, finished: RunResult) -> None:
    made = {record["stage"] for record in ledger_of(finished.folder) if not record["cached"]}
    assert made == set(predicted.forecast.stages)


def test_other_seeds_and_a_guard_are_predicted_too(
    predicted: Fitted, make_config: MakeConfig, letters: Path, tmp_path: Path
) -> None:
    stages = forecast_config(
        make_config(CONTROLS, "seeds=[13, 14]", f"gate.guard={letters}"), runs=tmp_path
    ).forecast.stages
    assert set(predicted.forecast.stages) <= set(stages)
    for address in ("1/train", "2/encode", "1/train:hard_labels", "2/evaluate:dev"):
        assert stages[f"{address}@14"].amount == stages[address].amount == predicted.forecast.stages[address].amount
        assert stages[f"{address}@14"].seconds == stages[address].seconds
    assert not any(address.startswith(("0/", "1/mine")) for address in stages if address.endswith("@14"))
    letters_read = 57 * 24 + 4 + 20 * 24  # of documents, and of the dev queries
    assert units_of(stages, "1/guard@14") == units_of(stages, "0/guard:student_0")
    assert units_of(stages, "1/guard") == pytest.approx(letters_read, rel=0.25)
    assert seconds_of(stages, "1/guard") > 0


def test_work_predicted_is_the_work_done(predicted: Fitted, finished: RunResult) -> None:
    seen = set()
    for record in ledger_of(finished.folder):
        one = predicted.forecast.stages.get(record["stage"])
        if record["cached"] or one is None or one.amount is None:
            continue
        done = counted(record["stage"], record["counts"])
        assert one.amount.count == pytest.approx(done, rel=0.05), record["stage"]
        if stage_of(record["stage"]) in EXACT:
            assert one.amount.count == done, record["stage"]
        seen.add(stage_of(record["stage"]))
    assert seen == {*EXACT, "mine", "score"} - {"probe"}  # the tiny config's weights are numbers: nothing is probed


def test_if_queries_alone_learn_no_document_is_encoded_again(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("student.train=query", "generations=2")
    queries = forecast_config(config, runs=tmp_path).forecast.stages
    done = run_config(config, runs=tmp_path)
    assert done is not None
    counts = {record["stage"]: record["counts"] for record in ledger_of(done.folder) if not record["cached"]}
    assert units_of(queries, "2/encode") == counted("2/encode", counts["2/encode"])
    assert seconds_of(queries, "2/encode") < seconds_of(queries, "1/encode")
    both = forecast_config(make_config("generations=2"), runs=tmp_path / "other").forecast.stages
    assert seconds_of(queries, "1/train") < seconds_of(both, "1/train")


def test_seconds_are_predicted_if_a_network_does_the_work(predicted: Fitted) -> None:
    timed = {address: one for address, one in predicted.forecast.stages.items() if one.seconds is not None}
    assert {stage_of(address) for address in timed} == {"encode", "train"}
    for one in timed.values():
        assert one.seconds is not None and 0 < one.seconds < 600
        assert one.peak_bytes is not None and one.peak_bytes > 10**7
    assert predicted.forecast.seconds == pytest.approx(sum(one.seconds or 0 for one in timed.values()))
    assert predicted.forecast.peak_bytes == max(one.peak_bytes or 0 for one in predicted.forecast.stages.values())
    others = len(predicted.forecast.stages) - len(timed)
    assert f"{len(timed)} predicted, those that encode, read pairs or train" in predicted.forecast.summary()
    assert predicted.forecast.summary().endswith(f"; {others} small, not timed)")


def test_what_is_not_predicted_counts_for_what_it_took() -> None:
    stages = {
        "1/encode": Prediction(Amount("tokens", 10), 90.0, 10**9, took=5.0),
        "1/mine": Prediction(Amount("candidates", 10), None, None, took=30.0),
        "1/gate": Prediction(None, None, None),
    }
    forecast = Forecast(stages, dict.fromkeys(stages, "key"))
    assert forecast.seconds == 120.0
    assert forecast.summary() == (
        "about 2 min 00 s, 1.0 GB of memory (1 predicted, those that encode, read pairs or train; 1 as long as last "
        "time: 30.0 s; 1 small, not timed)"
    )


def test_more_of_a_thing_takes_longer(make_config: MakeConfig, predicted: Fitted, tmp_path: Path) -> None:
    longer = forecast_config(make_config(CONTROLS, "train.epochs=40"), runs=tmp_path).forecast
    assert seconds_of(longer.stages, "1/train") > seconds_of(predicted.forecast.stages, "1/train")
    assert longer.stages["1/encode"].seconds == predicted.forecast.stages["1/encode"].seconds  # measured once


def test_a_batch_in_pieces_takes_longer_and_holds_a_piece(
    make_config: MakeConfig, predicted: Fitted, tmp_path: Path
) -> None:
    in_pieces = make_config(CONTROLS, "train.batch_tokens=500")
    stages = forecast_config(in_pieces, runs=tmp_path).forecast.stages
    assert seconds_of(stages, "1/train") > seconds_of(predicted.forecast.stages, "1/train")
    assert tokens_held(make_config("train.gradient_accumulation=2"), 9000.0) == 4500
    assert tokens_held(in_pieces, 9000.0) == 500
    assert tokens_held(in_pieces, 300.0) == 300
    assert tokens_held(make_config("train.batch_tokens=1"), 9000.0) == in_pieces.student.max_tokens  # a text at least


def test_the_forecast_is_of_what_the_store_lacks(make_config: MakeConfig, finished: RunResult) -> None:
    runs = finished.folder.parent
    assert forecast_config(make_config(CONTROLS), runs=runs).forecast.stages == {}
    changed = forecast_config(make_config(CONTROLS, "train.epochs=5"), runs=runs).forecast
    todo = [line.address for line in plan_config(make_config(CONTROLS, "train.epochs=5"), runs=runs) if not line.cached]
    assert set(changed.stages) <= set(todo)
    assert "1/train" in changed.stages
    assert "1/mine" not in changed.stages
    assert "final/encode" not in changed.stages  # the same artifact as 2/encode


def test_what_a_gate_refused_is_not_in_the_forecast_again(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config("train.learning_rate=1e-9", "train.epochs=0.2", "generations=2")  # learns nothing
    done = run_config(config, runs=tmp_path)
    assert done is not None
    assert {one["decision"] for one in done.report["generations"]} == {"rejected"}
    assert forecast_config(config, runs=tmp_path).forecast.stages == {}


def test_pairs_of_a_cross_encoder_are_measured_and_weigh(
    make_config: MakeConfig, tiny_cross_encoder: Path, tmp_path: Path
) -> None:
    teacher = {"kind": "cross_encoder", "model": str(tiny_cross_encoder), "max_tokens": 128}
    read = forecast_config(make_config(teacher=teacher), runs=tmp_path).forecast
    fewer = forecast_config(make_config("mine.keep=6", teacher=teacher), runs=tmp_path).forecast
    assert seconds_of(fewer.stages, "1/score") < seconds_of(read.stages, "1/score")
    assert seconds_of(read.stages, "0/evaluate:teacher:dev") > 0
    assert units_of(read.stages, "1/score") == 40 * 8


def test_an_encoder_of_token_vectors_is_measured_and_reads_each_document_once(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    teacher = {"kind": "multi_vector", "model": str(tiny.write_multi_vector(tmp_path / "model"))}
    read = forecast_config(make_config(teacher=teacher), runs=tmp_path).forecast
    fewer = forecast_config(make_config("mine.keep=6", teacher=teacher), runs=tmp_path).forecast
    assert 0 < seconds_of(fewer.stages, "1/score") == seconds_of(read.stages, "1/score"), "of 120 documents"


@given(
    lengths=st.lists(st.integers(0, 400), min_size=1, max_size=40),
    most=st.integers(3, 130),
    stride=st.none() | st.integers(1, 150),
    windows=st.sampled_from(["first", "all"]),
)
def test_tokens_seen_are_those_of_the_windows(lengths: list[int], most: int, stride: int | None, windows: Any) -> None:
    view = View(most, windows, stride)
    texts = Lengths(Ragged.of([np.zeros(n) for n in lengths], np.int32), len(lengths))
    spans = [view.spans(n, SPECIALS.count) for n in lengths]
    assert texts.seen(view, SPECIALS) == pytest.approx(sum(b - a for text in spans for a, b in text))
    assert texts.windows(view, SPECIALS) == pytest.approx(sum(map(len, spans)))


def test_a_sample_stands_for_all_texts() -> None:
    some = Lengths(Ragged.of([np.zeros(n) for n in (10, 30)], np.int32), 1000)
    assert some.total() == 20_000
    assert some.first(100).total() == 2_000


def test_a_run_says_what_it_will_take_and_its_report_what_it_took(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workload, "FEW_DOCUMENTS", 1)
    with caplog.at_level("INFO", logger="sdretrieval"):
        done = run_config(make_config(), runs=tmp_path)
    assert done is not None
    assert "tuning: " in caplog.text  # a step of its own
    assert "stages to make: about" in caplog.text
    rows = {row["stage"]: row for row in done.report["forecast"]}
    assert rows["1/train"]["predicted"]["amount"] == rows["1/train"]["actual"]["amount"] == 20
    assert rows["1/encode"]["predicted"]["amount"] == rows["1/encode"]["actual"]["amount"]
    for row in rows.values():
        assert row["actual"]["peak_rss_bytes"] > 0
        if row["predicted"]["peak_rss_bytes"] is not None:
            assert row["predicted"]["peak_rss_bytes"] > 0.97 * row["actual"]["peak_rss_bytes"], "rather too much"
    assert rows["1/gate"]["unit"] is rows["1/gate"]["actual"]["amount"] is None
    shown = {stage["stage"]: stage["forecast_seconds"] for stage in lineage("tiny", tmp_path)["stages"]}
    assert shown["1/train"] == rows["1/train"]["predicted"]["seconds"]
    assert shown["0/corpus"] is None  # read before anything could be predicted
    assert "Forecast and actual" in (done.folder / "report.html").read_text(encoding="utf8")
    again = run_config(make_config(), runs=tmp_path)  # everything from the store: the forecast of then stays
    assert again is not None
    assert again.report["forecast"] == done.report["forecast"]


@pytest.mark.parametrize("problem", [MemoryError("1.5 TB"), DamagedArtifact("1/gate"), KeyError("a mistake of ours")])
def test_a_forecast_that_cannot_be_made_stops_no_run_and_hides_no_mistake(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    problem: Exception,
) -> None:
    def broken(*_: Any) -> Any:
        raise problem

    monkeypatch.setattr(workload, "FEW_DOCUMENTS", 1)
    monkeypatch.setattr(Trials, "training", broken)
    before = torch.get_num_threads()
    with caplog.at_level("WARNING", logger="sdretrieval"):
        if isinstance(problem, KeyError):
            with pytest.raises(KeyError):
                run_config(make_config(), runs=tmp_path, until="1/train")
            return
        assert run_config(make_config(), runs=tmp_path, until="1/train") is None
    assert f"no forecast of this run ({type(problem).__name__}: {problem}); it goes on" in caplog.text
    assert torch.get_num_threads() == before


def test_as_many_synthetic_queries_are_predicted_as_are_kept(make_config: MakeConfig, tmp_path: Path) -> None:
    made = ("corpus.labels=false", "corpus.dev_queries=8", "corpus.generated_queries=20")
    predicted = forecast_config(make_config(*made), runs=tmp_path).forecast.stages
    assert units_of(predicted, "1/evaluate:dev") == 8
    assert units_of(predicted, "1/targets") == 40 + 20


def test_a_dense_teacher_is_predicted_by_its_own_tokenizer(
    make_config: MakeConfig, tiny_guest: Path, tmp_path: Path
) -> None:
    """It knows fewer words than the student: it cuts them in pieces, and would not understand the student's numbers."""
    guest = Path(shutil.copytree(tiny_guest, tmp_path / "guest"))
    tokenizer = json.loads((guest / "tokenizer.json").read_text())
    signs = {word: number for word, number in tokenizer["model"]["vocab"].items() if number < 120}
    tokenizer["model"]["vocab"] = signs
    (guest / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = make_config(teacher={"kind": "dense", "model": str(guest), "view": {"max_tokens": 128}})
    predicted = forecast_config(config, runs=tmp_path / "runs").forecast.stages
    theirs = units_of(predicted, "0/tokens:teacher0")
    assert theirs > 1.5 * units_of(predicted, "0/tokens")
    run_config(config, runs=tmp_path / "runs", until="0/encode:teacher0")
    counts = {record["stage"]: record["counts"] for record in ledger_of(tmp_path / "runs" / "tiny")}
    assert counted("0/tokens:teacher0", counts["0/tokens:teacher0"]) == theirs
    done = counted("0/encode:teacher0", counts["0/encode:teacher0"])
    assert units_of(predicted, "0/encode:teacher0") == done


def test_a_small_run_is_not_measured(finished: RunResult) -> None:
    assert finished.report["forecast"] == []
