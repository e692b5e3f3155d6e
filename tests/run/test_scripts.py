"""The scripts in `pipelines/` do what `sdretrieval run` does, in the same store."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipelines import compressed_index, own_documents, scifact, score_elsewhere, stdlib
from sdretrieval.config import Config, dump_config
from sdretrieval.run.api import RunResult
from tests.helpers import tiny
from tests.helpers.runs.tiny_runs import MakeConfig, figures, ledger_of, made_in


def test_stage_by_stage_is_the_whole_run(
    finished: RunResult, finished_copy: Path, full_config: Config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(full_config))
    monkeypatch.setenv("SDRETRIEVAL_RUNS", str(finished_copy))
    (finished_copy / "tiny" / "report.json").unlink()
    lines = len(ledger_of(finished_copy / "tiny"))
    result = stdlib.main(str(config))
    assert made_in(result.folder, after=lines) == [], "the script asks for just the stages of the run"
    assert figures(result.report) == figures(finished.report)
    assert (result.folder / "report.json").exists()


def test_the_probe_may_say_that_there_is_nothing_to_learn(
    finished_copy: Path,
    full_config: Config,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = yaml.safe_load(dump_config(full_config))
    data["teacher"] = {"kind": "ema", "view": {"windows": "first"}}  # sees just what the student sees
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(data))
    monkeypatch.setenv("SDRETRIEVAL_RUNS", str(finished_copy))
    scifact.main(str(tmp_path / "config.yaml"))
    assert "nothing to distil" in capsys.readouterr().out


def test_pairs_go_elsewhere_and_their_scores_teach(
    finished_copy: Path,
    full_config: Config,
    tiny_cross_encoder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = yaml.safe_load(dump_config(full_config))
    data["teacher"] = {"kind": "scores", "file": str(tmp_path / "scores" / "tiny.tsv")}
    data["evaluate"]["controls"] = []
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(data))
    monkeypatch.setenv("SDRETRIEVAL_RUNS", str(finished_copy))
    lines = len(ledger_of(finished_copy / "tiny"))
    result = score_elsewhere.main(str(tmp_path / "config.yaml"), str(tiny_cross_encoder), "train.epochs=1")
    made = made_in(result.folder, after=lines)
    assert made[:3] == ["1/score", "1/targets", "1/train"], "what is mined is mined once, for the file and for the run"
    out = capsys.readouterr().out
    assert "pairs of 40 queries to score" in out and "generation_1" in out and "report:" in out
    assert result.report["trained"] and (tmp_path / "scores" / "pairs.tsv").is_file()


def test_a_folder_of_documents_becomes_a_searching_student(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    manuals = tmp_path / "manuals"
    manuals.mkdir()
    records = tiny.documents()
    for number, (record, other) in enumerate(zip(records[:60], records[60:], strict=True)):
        (manuals / f"page{number}.md").write_text(
            f"# All about {record['title']} number {number}\n\n{record['text']}\n\n{other['text']}\n"
        )
    asked = {"source": "elsewhere", "labels": False, "dev_queries": 8, "generated_queries": 20}
    (tmp_path / "config.yaml").write_text(dump_config(make_config(corpus=asked)))
    monkeypatch.setenv("SDRETRIEVAL_RUNS", str(tmp_path / "runs"))
    result = own_documents.main(str(manuals), ["an oven"], config=str(tmp_path / "config.yaml"))
    said = capsys.readouterr().out
    assert "queries made for generated: " in said and "estimated nDCG@10" in said
    assert said.split("an oven\n")[1].count("  All about ") == 3
    assert result.report["estimate"] and (result.folder / "student").is_dir()


def test_two_students_are_searched_through_one_compressed_index(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.yaml").write_text(dump_config(make_config()))
    monkeypatch.setenv("SDRETRIEVAL_RUNS", str(tmp_path / "runs"))
    recipes = {"sq8": "{kind: SQ8}"}  # the tiny collection is too small for codes
    rows = compressed_index.main(str(tmp_path / "config.yaml"), recipes=recipes)
    assert [row[0] for row in rows] == ["exact", "sq8"] and rows[1][4].endswith(")")
    assert (tmp_path / "runs" / "tiny-sq8" / "report.json").exists()
    assert "trained with exact" in capsys.readouterr().out
