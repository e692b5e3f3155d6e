"""What changes while it is read, and what was changed since a run wrote it: refused, never used under its old name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.cli.compare import compare_runs
from sdretrieval.cli.export import export_run
from sdretrieval.cli.lookup import Serving, find_model
from sdretrieval.cli.search import search
from sdretrieval.cli.show import lineage, report_command
from sdretrieval.errors import CorpusError, DamagedArtifact, ModelError, RequestError, SdretrievalError
from sdretrieval.files import write_json
from sdretrieval.run.api import run_config
from sdretrieval.stages import corpus as corpus_stage
from sdretrieval.stages import run as run_stage
from sdretrieval.stages import score as score_stage
from sdretrieval.store.run_folder import checked, read_forecast
from tests.helpers.runs.tiny_runs import MakeConfig

# --- while it is read


def changed_first(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, change: Callable[[], object]) -> None:
    """`change` happens just before the function is called."""
    called = getattr(module, name)

    def after(*given: Any, **how: Any) -> Any:
        change()
        return called(*given, **how)

    monkeypatch.setattr(module, name, after)


def test_a_corpus_that_changes_between_digest_and_reading_is_refused(
    make_config: MakeConfig, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))
    texts = copy / "corpus.jsonl"
    grown = texts.read_text() + '{"_id": "late", "title": "", "text": "came late"}\n'
    changed_first(monkeypatch, corpus_stage, "open_corpus", lambda: texts.write_text(grown))
    with pytest.raises(CorpusError, match="was changed while it was read; run again when nothing writes to it"):
        run_config(make_config(f"corpus.source={copy}"), runs=tmp_path / "runs", until="0/corpus")
    assert not list(tmp_path.glob("runs/store/artifacts/*/*"))
    run_config(make_config(f"corpus.source={copy}"), runs=tmp_path / "runs", until="0/corpus")


def test_a_student_that_changes_after_its_digest_was_taken_is_refused(
    make_config: MakeConfig, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(tiny_student, tmp_path / "student"))
    config = make_config(f"student.model={copy}")
    run_config(config, runs=tmp_path / "runs", until="0/corpus")
    run = run_stage.Run(config, None)  # type: ignore[arg-type]  # no stage is made
    assert run.base.key
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    with pytest.raises(ModelError, match="was changed while it was used: it had the digest"):
        run.student(run.base.student)


def test_scores_that_change_after_their_digest_was_taken_are_refused(
    make_config: MakeConfig, finished: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdretrieval.cli.score import scores_said

    file = tmp_path / "scores.tsv"
    scores_said("tiny", file, runs=finished.folder.parent)
    config = make_config(teacher={"kind": "scores", "file": str(file), "missing": "lowest"})
    text = file.read_text()
    changed_first(monkeypatch, score_stage, "make_teachers", lambda: file.write_text(text.replace("\t1", "\t2")))
    with pytest.raises(RequestError, match="a teacher's model or file of scores was changed while it was used"):
        run_config(config, runs=tmp_path / "runs", until="1/score")


# --- after the run

READERS: dict[str, Callable[[Path], object]] = {
    "search": lambda runs: search("tiny", "dough", runs=runs),
    "evaluate": lambda runs: find_model("tiny", runs),
    "export": lambda runs: export_run("tiny", runs.parent / "bundle", runs=runs),
    "compare": lambda runs: compare_runs("tiny", "tiny", runs),
    "show": lambda runs: lineage("tiny", runs),
    "report": lambda runs: report_command("tiny", runs),
}
READ = [
    ("student/model.safetensors", ("search", "evaluate", "export")),
    ("student/1_Pooling/config.json", ("search", "evaluate", "export")),
    ("serving.json", ("search", "evaluate", "export", "compare")),
    ("report.json", ("show", "report", "export", "compare")),
    ("details.json", ("report",)),
    ("runs/final.test.trec", ("compare",)),
    ("digests.json", tuple(READERS)),
]


@pytest.mark.parametrize(("file", "readers"), READ, ids=[file for file, _ in READ])
def test_a_file_of_a_run_that_was_changed_is_refused_by_all_that_read_it(
    finished_copy: Path, file: str, readers: tuple[str, ...]
) -> None:
    path = finished_copy / "tiny" / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    for content in (bytes(data), b""):
        path.write_bytes(content)
        for reader in readers:
            with pytest.raises(
                DamagedArtifact, match=r"run tiny: .*; run its config again \(sdretrieval run .*config.yaml\)"
            ):
                READERS[reader](finished_copy)
    assert not (finished_copy.parent / "bundle").exists()


def test_what_was_added_to_a_student_is_refused_but_a_hidden_file(finished_copy: Path) -> None:
    student = finished_copy / "tiny" / "student"
    (student / ".DS_Store").write_text("a file browser's")
    assert checked(finished_copy / "tiny", "student") == student
    (student / "adapter_config.json").write_text("{}")
    with pytest.raises(DamagedArtifact, match="file student/adapter_config.json is not of the run"):
        find_model("tiny", finished_copy)


def test_a_run_writes_again_what_was_changed_and_trains_nothing(full_config: Any, finished_copy: Path) -> None:
    folder = finished_copy / "tiny"
    weights = (folder / "student" / "model.safetensors").read_bytes()
    (folder / "student" / "model.safetensors").write_bytes(weights[:-1] + b"x")
    (folder / "digests.json").write_text("{")
    result = run_config(full_config, runs=finished_copy)
    assert result is not None and result.report["seconds_this_time"] == 0
    assert (checked(folder, "student") / "model.safetensors").read_bytes() == weights
    modes = {path.stat().st_mode & 0o077 for path in folder.rglob("*") if path.is_file()}
    assert modes == {0o044}, "a colleague can read all of it"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"1/mine": 3}', '{"1/mine": {"key": "a"}, "blake2b": "0"}'])
def test_a_broken_forecast_is_named_and_left_out(
    full_config: Any, finished: Any, finished_copy: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (finished_copy / "tiny" / "forecast.json").write_text(text)
    assert read_forecast(finished_copy / "tiny") == {}
    assert "what the run was predicted to take is left out" in caplog.text
    assert lineage("tiny", finished_copy)["finished"]
    if not text:
        result = run_config(full_config, runs=finished_copy)
        assert result is not None and result.report["measures"] == finished.report["measures"]


def test_a_broken_ledger_stops_no_run_and_show_says_what_to_do(full_config: Any, finished_copy: Path) -> None:
    ledger = finished_copy / "tiny" / "ledger.jsonl"
    ledger.write_text("[]\n" + ledger.read_text())
    with pytest.raises(
        SdretrievalError, match=r"ledger\.jsonl, line 1 is damaged .*; run the config again, which lists"
    ):
        lineage("tiny", finished_copy)
    result = run_config(full_config, runs=finished_copy)
    assert result is not None and result.report["seconds_this_time"] == 0


def test_a_changed_precision_is_not_believed(make_config: MakeConfig, finished_copy: Path) -> None:
    """`evaluate RUN` reads the measured number format from the store."""
    config = make_config("student.encode_precision=auto")
    serving = Serving.of(finished_copy / "tiny")
    key = serving.record["keys"]["vectors"]
    with serving.store.make("f" * 40, "precision", {}) as work:
        write_json(work.folder / "precision.json", {"encode": "float32"})
    with serving.store.make("e" * 40, "encode", {"inputs": ["f" * 40]}) as work:
        shutil.copytree(serving.store.path_of(key), work.folder, dirs_exist_ok=True)
        (work.folder / "manifest.json").unlink()
    record = {**serving.record, "config": config.model_dump(mode="json")}
    record["keys"] = {**record["keys"], "vectors": "e" * 40}
    fresh = Serving(serving.run, record, type(serving.store)(serving.store.root))
    path = serving.store.path_of("f" * 40) / "precision.json"
    path.write_text(json.dumps({"encode": "bfloat16"}))
    assert fresh.precision() == "float32"
