"""`score`: the pairs that somebody else scores, and the scores that somebody else uses."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import Call, Finished
from tests.helpers.runs.tiny_runs import artifact


@pytest.fixture
def copied(finished: Finished, tmp_path: Path) -> Path:
    """RUNS with the finished run and its store."""
    return Path(shutil.copytree(finished.runs, tmp_path / "runs"))


def test_scores_of_a_finished_run_are_read_not_made(
    finished: Finished, copied: Path, call: Call, tmp_path: Path
) -> None:
    lines = (copied / "tiny" / "ledger.jsonl").read_text()
    done = call("score", "tiny", "--export", tmp_path / "said.tsv", "--runs", copied)
    assert done.code == 0, done.err
    assert "score: the mixture of 0.25 ema:full_context + 0.75 lexical, calibrated" in done.out
    assert "columns: query, document, score, ema:full_context, lexical" in done.out
    assert (copied / "tiny" / "ledger.jsonl").read_text() == lines
    header, first, *_ = (tmp_path / "said.tsv").read_text().splitlines()
    assert header.split("\t")[:3] == ["query", "document", "score"] and len(first.split("\t")) == 5


def test_what_others_appended_since_is_none_of_a_finished_run(
    finished: Finished, copied: Path, call: Call, tmp_path: Path
) -> None:
    asked = ("score", "tiny", "--runs", copied, "--export")
    call(*asked, tmp_path / "before.tsv")
    other = ("--runs", copied, "--set", "teacher.members.0.view.stride=9")
    assert call("doubts", finished.config, *other).code == 0
    assert call("run", finished.config, *other, "--set", "teacher.members.1.weight=0.1", "--until", "1/score").code == 0
    done = call(*asked, tmp_path / "after.tsv")
    assert done.code == 0, done.err
    assert (tmp_path / "after.tsv").read_bytes() == (tmp_path / "before.tsv").read_bytes()


def test_a_config_gives_the_same_file_as_its_run(finished: Finished, copied: Path, call: Call, tmp_path: Path) -> None:
    for target, name in (("tiny", "a.tsv.gz"), (finished.config, "b.tsv.gz"), (copied / "tiny", "c.tsv.gz")):
        done = call("score", target, "--export", tmp_path / name, "--runs", copied, "--json")
        assert done.code == 0, done.err
        record = done.json()
        assert record["file"] == str(tmp_path / name) and record["generation"] == 1 and record["queries"] == 40
    a, b, c = ((tmp_path / f"{name}.tsv.gz").read_bytes() for name in "abc")
    assert a == b == c


def test_from_pairs_to_a_run_by_the_command_line(
    config: Path, copied: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = yaml.safe_load(config.read_text())
    settings |= {"teacher": {"kind": "scores", "file": str(tmp_path / "scores.tsv")}, "probe": {"guard": False}}
    own = tmp_path / "own.yaml"
    own.write_text(yaml.safe_dump(settings))
    done = call("score", own, "--pairs", tmp_path / "pairs.tsv", "--runs", copied)
    assert done.code == 0, done.err
    assert "pairs of 40 queries" in done.out and "teacher: {kind: scores, file: FILE}" in done.out
    refused = call("run", own, "--runs", copied)
    assert refused.code == 2 and "scores.tsv: is not there" in refused.err
    pairs = [line.split("\t") for line in (tmp_path / "pairs.tsv").read_text().splitlines()[1:]]
    scores = [f"{query}\t{document}\t{len(text) / 7:.4f}" for query, document, _, text in pairs]
    (tmp_path / "scores.tsv").write_text("\n".join(scores[1:]) + "\n")
    lacking = call("run", own, "--runs", copied)
    assert lacking.code == 1 and "lacks 1 of" in lacking.err and "missing-pairs.tsv" in lacking.err
    (tmp_path / "scores.tsv").write_text("\n".join(scores) + "\n")
    assert call("run", own, "--runs", copied, "--until", "1/targets").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --pairs FILE (what is to be scored) and --export FILE (what was scored)"),
        (["--pairs", "a.tsv", "--export", "b.tsv"], "give one of --pairs FILE"),
        (["--export", "b.tsv", "--teacher-row"], "--teacher-row goes with --pairs"),
        (["--pairs", "a.csv"], "a.csv: expected a file name that ends in .tsv, .tsv.gz or .parquet"),
        (["--pairs", "nowhere/a.tsv"], "there is no folder nowhere; make it first"),
        (["--export", "b.tsv", "--generation", "2"], "--generation 2: the config has 1 generation; expected 1 to 1"),
    ],
)
def test_what_is_refused(
    config: Path, call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = call("score", config, *arguments, "--runs", tmp_path / "runs")
    assert (done.code, done.out) == (2, "") and message in done.err
    assert not (tmp_path / "runs").exists()


def test_targets_that_are_no_config_and_no_run(copied: Path, call: Call, tmp_path: Path) -> None:
    done = call("score", "tinny", "--export", tmp_path / "a.tsv", "--runs", copied)
    assert done.code == 2 and "no run 'tinny'; runs in" in done.err
    done = call("score", "tinny.yaml", "--export", tmp_path / "a.tsv", "--runs", copied)
    assert done.code == 2 and "config tinny.yaml: no such file" in done.err
    done = call("score", "tiny", "--export", tmp_path / "a.tsv", "--runs", copied, "--set", "seeds=[1]")
    assert done.code == 2 and "--set changes a config; tiny is a run" in done.err


def test_scores_that_left_the_store(copied: Path, call: Call, tmp_path: Path) -> None:
    shutil.rmtree(artifact(copied / "tiny", "1/score"))
    done = call("score", "tiny", "--export", tmp_path / "a.tsv", "--runs", copied)
    assert done.code == 2 and "the stage 1/score is not in the store" in done.err and "run the config again" in done.err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("q\td\tgood\n", "1 broken line: line 1: the score is 'good'"),
        ("q\td\tnan\n", "is nan, expected a finite float32"),
    ],
)
def test_a_broken_file_of_scores_is_refused_before_the_first_stage(
    config: Path, call: Call, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "scores.txt").write_text(content)
    teacher = f"teacher={{kind: scores, file: {tmp_path / 'scores.txt'}}}"
    done = call("run", config, "--runs", tmp_path / "runs", "--set", teacher)
    assert done.code == 2 and message in done.err
    assert not list(tmp_path.glob("runs/store/artifacts/*/*"))
