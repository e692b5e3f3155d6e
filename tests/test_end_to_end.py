"""The end-to-end comparison: the peers' script, what a ledger says of time, processes watched, both sides together."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import end_to_end, peers_scifact
from benchmarks.children import Child, watch
from benchmarks.end_to_end import Ours, Theirs, both_reached, time_rows
from benchmarks.ledger_costs import Costs, Reached, costs_of, dev_over_time, first_at
from benchmarks.record import Row
from sdretrieval import load_config
from sdretrieval.files import read_json
from sdretrieval.store.run_folder import read_report
from tests.helpers.runs.tiny_runs import settings


def _stage(stage: str, key: str, inputs: Sequence[str] = (), seconds: float = 1.0, **counts: Any) -> dict[str, Any]:
    return {
        "stage": stage, "key": key, "inputs": list(inputs), "seconds": seconds, "cached": False, "counts": counts,
    }  # fmt: skip


LEDGER = [
    _stage("0/corpus", "corpus", seconds=2),
    _stage("1/encode", "vectors", ["corpus", "base"], 4),
    _stage("1/evaluate:dev", "dev1", ["vectors"], **{"nDCG@10": 0.5}),
    _stage("1/evaluate:test", "test1", ["vectors"], 32),
    _stage("0/evaluate:teacher:dev", "teacher", ["vectors"], 64),
    _stage("1/train", "student", ["vectors"], 8),
    _stage("2/encode", "vectors2", ["student:average"], 16),
    _stage("2/evaluate:dev", "dev2", ["vectors2"], **{"nDCG@10": 0.7}),
    _stage("1/gate", "gate", ["dev1", "dev2"]),
    _stage("1/train:hard_labels", "hard", ["vectors"], 128),
    _stage("hard_labels/evaluate:dev", "dev_hard", ["hard"], 256, **{"nDCG@10": 0.9}),
    {**_stage("final/evaluate:dev", "dev2", ["vectors2"], **{"nDCG@10": 0.7}), "cached": True},
    _stage("final/evaluate:test", "test2", ["vectors2"]),
]


def test_a_ledger_is_parted_into_what_led_to_the_student_controls_and_report() -> None:
    assert costs_of(LEDGER, "test") == Costs(student=2 + 4 + 1 + 8 + 16 + 1 + 1 + 1, controls=128 + 256, report=32 + 64)


def test_dev_over_time_knows_trained_students_alone_each_once() -> None:
    values = dev_over_time(LEDGER, [float(at) for at in range(len(LEDGER))], "nDCG@10")
    assert values == [Reached(2.0, 0.5), Reached(7.0, 0.7)]
    assert first_at(values, 0.6) == 7.0 and first_at(values, 0.8) is None


def test_a_ratio_that_is_a_bound_says_so_and_refutes_no_target() -> None:
    assert "| at least 4.00 | 3: met |" in Row("work", [4.0], 3.0, at_least=True).text
    assert "| at least 2.00 | 3: not decided |" in Row("work", [2.0], 3.0, at_least=True).text


def test_a_ratio_counts_until_our_dev_value_was_reached_by_training() -> None:
    def rows(own_dev: float, *devs: float) -> list[str]:
        own = Ours(50.0, 10**9, Costs(20.0, 25.0, 5.0), [Reached(9.0, 0.5), Reached(40.0, own_dev)], own_dev, Path())
        values = [Reached(30.0 * n, dev) for n, dev in enumerate(devs, start=1)]
        other = Theirs(30.0 * len(devs) + 10, 2 * 10**9, {}, values, 10.0, max(devs), Path())
        return [row.text for row in (*time_rows(own, other, ""), *both_reached(own, other))]

    assert rows(0.7, 0.5, 0.75, 0.8)[:2] == [
        "| to dev nDCG@10 0.7000, ours without controls and report | 3.50 | 3: met | 1.00 against 2.00 GB |  |",
        "| to dev nDCG@10 0.7000, ours whole | 1.40 | 3: **not met** | 1.00 against 2.00 GB |  |",
    ]
    never = rows(0.7, 0.5, 0.6, 0.6)
    assert (
        "0.7000 (theirs never reached it; its best is 0.6000), ours whole | at least 2.00 | 3: not decided" in never[1]
    )
    assert "| to dev nDCG@10 0.6000, first seen after 40 and 60 s | 1.50 |" in never[2]
    nothing = rows(0.5, 0.6, 0.4)
    assert (
        len(nothing) == 2
        and "ours accepted nothing better than the base (0.5000), ours whole | 1.40 |  |" in nothing[1]
    )


def test_processes_are_watched_with_their_children_and_the_lines_they_write(tmp_path: Path) -> None:
    held = "import time; held = bytearray(80_000_000); time.sleep(1.5)"
    work = (
        "import subprocess, sys, pathlib\n"
        f"path = pathlib.Path({str(tmp_path / 'lines')!r})\n"
        f"child = subprocess.Popen([sys.executable, '-c', {held!r}])\n"
        "path.write_text('one\\n'); child.wait(); path.write_text('one\\ntwo\\nthree\\n')"
    )
    child = Child("work", [sys.executable, "-c", work], tmp_path / "log", threads=1, lines_of=tmp_path / "lines")
    watch([child])
    assert child.peak_bytes > 80_000_000
    first, second, third = child.stamps
    assert first < second - 0.5 and second == third <= child.seconds


def test_one_that_fails_ends_the_others_and_shows_its_log(tmp_path: Path) -> None:
    endless = Child("endless", [sys.executable, "-c", "import time; time.sleep(600)"], tmp_path / "endless")
    broken = Child("broken", [sys.executable, "-c", "raise ValueError('no such thing')"], tmp_path / "broken")
    with pytest.raises(RuntimeError, match=r"broken ended with 1 after \d s:\n(.|\n)*ValueError: no such thing"):
        watch([endless, broken])
    assert endless._process is not None and endless._process.returncode is not None


@pytest.mark.parametrize("loss", ["kl", "margin_mse"])
def test_the_peers_script_ends_by_rounds_or_by_what_it_reached(
    loss: str, tiny_corpus: Path, tiny_student: Path, tiny_cross_encoder: Path, tmp_path: Path
) -> None:
    def script(*more: str) -> dict[str, Any]:
        models = ["--student", str(tiny_student), "--teacher", str(tiny_cross_encoder), "--max-tokens", "64"]
        given = [
            str(tiny_corpus),
            *models,
            "--loss",
            loss,
            "--learning-rate",
            "1e-3",
            "--out",
            str(tmp_path / "o.json"),
        ]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the peers' own
            found = peers_scifact.run(peers_scifact.parser().parse_args([*given, *more]), tmp_path)
        assert {**read_json(tmp_path / "o.json"), "total_seconds": 0} == {**found, "total_seconds": 0}
        return found

    found = script("--rounds", "2")
    assert [one["round"] for one in found["rounds"]] == [0, 1, 2]
    assert all(one["lists"] == 40 and one["updates"] == 3 for one in found["rounds"][1:])
    assert found["dev"] == max(one["dev"] for one in found["rounds"]) and 0 <= found["test"] <= 1
    assert {"load", "encode", "mine", "predict", "train", "evaluate"} <= set(found["seconds"])
    if loss == "kl":
        assert len(script("--rounds", "2", "--until-dev", "0")["rounds"]) == 2, "reached after the first round"
        assert len(script("--rounds", "2", "--limit-minutes", "0")["rounds"]) == 1


@pytest.fixture
def config(tiny_corpus: Path, tiny_student: Path, tmp_path: Path) -> Path:
    """A config of seconds, with a control."""
    short = settings(tiny_corpus, tiny_student)
    short["evaluate"] = {"controls": ["hard_labels"]}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(short))
    return path


def test_both_sides_as_processes(config: Path, tiny_cross_encoder: Path, tmp_path: Path) -> None:
    given = [str(config), "--teacher", str(tiny_cross_encoder), "--rounds", "1", "--at-once"]
    given += ["--runs", str(tmp_path / "work"), "--out", str(tmp_path / "found.json")]
    end_to_end.main(given)
    record = json.loads((tmp_path / "found.json").read_text())
    ours, theirs, details = (
        read_report(tmp_path / "work/runs/tiny"),
        read_json(tmp_path / "work/theirs.json"),
        record["details"],
    )
    assert theirs["rounds"][0]["dev"] == pytest.approx(ours["dev_measures"]["student_0"]["nDCG@10"], abs=1e-3)
    assert f"to dev nDCG@10 {ours['dev_measures']['final']['nDCG@10']:.4f}" in record["markdown"]
    assert details["judged"]["ours"] == pytest.approx(ours["measures"]["final"]["nDCG@10"], abs=1e-3)
    assert details["judged"]["theirs"] == pytest.approx(theirs["test"], abs=1e-3)
    assert details["costs"]["controls"] > 0 and details["threads"] == 1
    assert record["seconds"]["ours, to the student alone"][0] < record["seconds"]["ours"][0]
    with pytest.raises(SystemExit, match="holds an earlier comparison"):
        end_to_end.main(given)


def test_what_the_script_cannot_learn_from_is_refused(config: Path) -> None:
    with pytest.raises(SystemExit, match="expected corpus.labels true, no generated_queries"):
        end_to_end.check(load_config(config, ["corpus.labels=false", "evaluate.controls=[]"]))
    with pytest.raises(SystemExit, match="nDCG@10 is not measured; add it to evaluate.measures"):
        end_to_end.check(load_config(config, ["evaluate.measures=[MRR@10]", "gate.measure=MRR@10"]))
