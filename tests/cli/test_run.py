"""`run`, `plan`, `probe`, `gc`, and what a kill leaves."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.cli.run import print_results_table
from sdretrieval.evaluation import holm
from tests.cli.conftest import Call, Finished

SYSTEMS = ["bm25", "student_0", "hybrid_0", "teacher@student_0", "generation_1", "final", "hybrid_final"]


def stages(runs: Path, name: str = "tiny") -> list[dict[str, object]]:
    return [json.loads(line) for line in (runs / name / "ledger.jsonl").read_text().splitlines()]


def test_a_run_prints_the_table_and_where_things_are(finished: Finished) -> None:
    out = finished.done.out
    assert [line.split()[0] for line in out.splitlines()[4:11]] == SYSTEMS
    assert "test nDCG@10" in out
    assert "verdict" in out
    assert "ybrid search with the final student" in out
    assert f"report:  {finished.runs / 'tiny' / 'report.html'}" in out
    assert f"student: {finished.runs / 'tiny' / 'student'}" in out
    err = finished.done.err
    assert err.count("Stages are GENERATION/STAGE; those of 0 are shared by all generations.") == 1
    assert re.search(r"^1/mine +40 queries, 320 candidates +\d+\.\d s$", err, re.MULTILINE), err
    assert re.search(r"^1/encode +120 windows of documents, 84 of queries +\d+\.\d s$", err, re.MULTILINE)
    assert re.search(r"^1/train +60 updates, 480 queries seen +\d+\.\d s$", err, re.MULTILINE)
    assert "from the store" not in err and "not made yet" not in err
    assert "Traceback" not in finished.done.err


def test_a_second_run_takes_everything_from_the_store(finished: Finished, call: Call) -> None:
    before = json.loads((finished.runs / "tiny" / "report.json").read_text())
    made = len(stages(finished.runs))
    again = call("run", finished.config, "--runs", finished.runs, "--json")
    assert again.code == 0, again.err
    assert again.json()["measures"] == before["measures"]
    assert again.json()["seconds_this_time"] == 0
    assert all(stage["cached"] for stage in stages(finished.runs)[made:])
    keys = {stage["key"] for stage in stages(finished.runs)[made:]}
    assert f"{len(keys)} stages from the store" in again.err and "GENERATION/STAGE" not in again.err


def test_a_stage_that_is_made_again_says_why(finished: Finished, tmp_path: Path, call: Call) -> None:
    runs = Path(shutil.copytree(finished.runs, tmp_path / "runs"))
    done = call("run", finished.config, "--runs", runs, "--set", "mine.keep=6", "--until", "1/score")
    assert re.search(r"^1/mine +40 queries, 240 candidates \(changed: keep\) ", done.err, re.MULTILINE), done.err
    assert re.search(r"^1/score +480 scores \(an earlier stage changed\) ", done.err, re.MULTILINE)
    assert re.search(r"^\d+ stages from the store\n1/mine ", done.err, re.MULTILINE)


def test_plan_says_what_is_cached_and_what_is_not(finished: Finished, call: Call) -> None:
    plan = call("plan", finished.config, "--runs", finished.runs, "--json").json()
    assert all(stage["cached"] for stage in plan)
    changed = call("plan", finished.config, "--runs", finished.runs, "--set", "train.epochs=3", "--json").json()
    assert {stage["stage"]: stage["why"] for stage in changed if not stage["cached"]}["1/train"] == "changed: epochs"
    assert next(stage for stage in changed if stage["stage"] == "1/mine")["cached"]
    table = call("plan", finished.config, "--runs", finished.runs).out
    assert f"{len(plan)} stages cached, 0 to run." in table


def test_plan_runs_nothing(config: Path, tmp_path: Path, call: Call) -> None:
    plan = call("plan", config, "--runs", tmp_path, "--json")
    assert plan.code == 0, plan.err
    assert not any(stage["cached"] for stage in plan.json())
    assert {stage["why"] for stage in plan.json() if stage["predicted"]} == {"not made yet"}
    assert {stage["stage"]: stage["why"] for stage in plan.json()}["final/encode"] == "made by 2/encode"
    assert not list(tmp_path.iterdir())


def test_a_cost_setting_invalidates_nothing(finished: Finished, call: Call) -> None:
    plan = call("plan", finished.config, "--runs", finished.runs, "--set", "student.batch_tokens=64", "--json")
    assert all(stage["cached"] for stage in plan.json())


def test_until_stops_after_a_stage_and_the_run_is_not_finished(config: Path, tmp_path: Path, call: Call) -> None:
    done = call("run", config, "--runs", tmp_path, "--until", "0/corpus")
    assert (done.code, done.out) == (0, "Stopped after 0/corpus, as asked.\n")
    assert [stage["stage"] for stage in stages(tmp_path)] == ["0/corpus"]
    assert "not finished" in call("show", "tiny", "--runs", tmp_path).out
    report = call("report", "tiny", "--runs", tmp_path)
    assert report.code == 2
    assert "is not finished" in report.err


def test_probe_ranks_the_mixtures_and_advises(finished: Finished, call: Call) -> None:
    record = call("probe", finished.config, "--runs", finished.runs, "--json").json()
    differences = [row["difference"] for row in record["rows"]]
    assert differences == sorted(differences, reverse=True)
    assert record["train"] is True
    assert [row["p_holm"] for row in record["rows"]] == pytest.approx(holm([row["p"] for row in record["rows"]]))
    table = call("probe", finished.config, "--runs", finished.runs).out
    assert "dev nDCG@10" in table
    assert "p (Holm)" in table
    assert "advice: take 0.25 ema:full_context + 0.75 lexical, the config's mixture: +" in " ".join(table.split())
    assert "estimate" not in table
    assert "no other model: multi_vector:student (--own-teachers" in " ".join(table.split())


def test_without_labels_advice_is_an_estimate_or_predicted(finished: Finished, call: Call) -> None:
    done = call("probe", finished.config, "--runs", finished.runs, "--set", "corpus.labels=false")
    assert "queries (estimate, on synthetic queries)" in done.out
    assert "dev (estimate) nDCG@10" in done.out
    assert re.search(r"predicted from \d+ queries that people asked", " ".join(done.out.split()))


@pytest.mark.parametrize("split", ["test", "dev"])
def test_without_labels_every_dev_column_is_an_estimate(split: str, capsys: pytest.CaptureFixture[str]) -> None:
    report = {"corpus": "tiny", "split": split, "n_queries": 3, "seeds": [13], "estimate": True}
    print_results_table(report, [{"system": "bm25", "dev": {"M": 0.5}, "test": {"M": 0.5}, "spread": {}}])
    out = capsys.readouterr().out
    assert "dev (estimate) M" in out
    assert "dev M" not in out


def test_a_split_whose_queries_were_made_is_marked_in_head_and_table(capsys: pytest.CaptureFixture[str]) -> None:
    report = {"corpus": "tiny", "split": "test", "n_queries": 1, "estimate": True, "split_is_synthetic": True}
    report["seeds"] = [13]
    print_results_table(report, [{"system": "bm25", "dev": {"M": 0.5}, "test": {"M": 0.5}, "spread": {}}])
    head, *table = capsys.readouterr().out.splitlines()
    assert head == "tiny, test (estimate): 1 query"
    assert "test (estimate) M" in "\n".join(table)


def test_a_run_reported_on_dev_shows_dev_once(finished: Finished, call: Call) -> None:
    on_dev = ["--set", "evaluate.split=dev", "--set", "name=on-dev"]
    out = call("run", finished.config, "--runs", finished.runs, *on_dev).out
    assert out.splitlines()[2].count("nDCG@10") == 1


def test_probe_advises_to_skip_training_if_the_teacher_is_no_better(finished: Finished, call: Call) -> None:
    alone = ["--set", "teacher={kind: ema, view: {windows: first}}"]
    done = call("probe", finished.config, "--runs", finished.runs, *alone)
    assert "advice: skip training, there is nothing to learn: " in done.out
    assert "no asymmetry" in done.err


def test_gc_removes_what_no_run_refers_to_and_nothing_else(finished: Finished, tmp_path: Path, call: Call) -> None:
    runs = tmp_path / "runs"
    shutil.copytree(finished.runs, runs)
    (runs / "store" / "artifacts" / "00" / "00unused").mkdir(parents=True)
    assert "to be removed" in call("gc", "--runs", runs, "--pretend").out
    removed = call("gc", "--runs", runs, "--json").json()["removed"]
    assert "00unused" in [one["key"] for one in removed]
    assert not (runs / "store" / "artifacts" / "00" / "00unused").exists()
    assert all(stage["cached"] for stage in call("plan", finished.config, "--runs", runs, "--json").json())


def test_a_run_that_is_interrupted_says_so_and_goes_on(config: Path, tmp_path: Path, call: Call) -> None:
    command = [sys.executable, "-m", "sdretrieval", "run", str(config), "--runs", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ)
    waited = time.monotonic() + 120
    # In the middle of training: all libraries are loaded by then, none of them has the signal's handler in its hands.
    while not any(tmp_path.glob("store/partial/*/metrics.jsonl")) and time.monotonic() < waited:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert out == ""
    where, to_go_on, again = err.splitlines()[-3:]
    assert re.fullmatch(r"error: interrupted in 1/train \(stage 19 of 36\) at \d+ of 60 updates\.", where)
    assert to_go_on == "Finished stages are in the store. To go on, type:"
    assert shlex.split(again)[1:] == command[1:]
    plan = {stage["stage"]: stage["cached"] for stage in call("plan", config, "--runs", tmp_path, "--json").json()}
    assert plan["0/corpus"]
    assert not plan["final/encode"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_that_a_library_swallows_ends_the_run_all_the_same(
    config: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, number: int, code: int
) -> None:
    from sdretrieval.stages import corpus

    build = corpus.build_corpus

    def swallowing(*given: Any) -> None:
        build(*given)
        with contextlib.suppress(KeyboardInterrupt):
            os.kill(os.getpid(), number)
            time.sleep(1)

    monkeypatch.setattr(corpus, "build_corpus", swallowing)
    done = call("run", config, "--runs", tmp_path)
    assert done.code == code
    assert done.err.splitlines()[-3:] == [
        "error: interrupted in 0/corpus (stage 1 of 36).",
        "Finished stages are in the store. To go on, type:",
        f"  sdretrieval run {config} --runs {tmp_path}",
    ]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    monkeypatch.undo()
    assert call("run", config, "--runs", tmp_path, "--until", "0/corpus").code == 0
