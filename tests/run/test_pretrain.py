"""A student that learns from documents alone before it is taught: what comes of it, and what does not."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from sdretrieval.errors import ConfigError, CorpusError, ModelError
from sdretrieval.evaluation import gate
from sdretrieval.run.api import RunResult, forecast_config, open_stages, plan_config, run_config
from sdretrieval.run.loop import begin, mine_base
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.pretrain import LEAST_LENGTH, rows_of_pieces
from sdretrieval.stages.tokens import Tokens
from sdretrieval.store.runner import Artifact
from tests.helpers.runs.nursery import Nursery
from tests.helpers.runs.tiny_runs import (
    MakeConfig,
    artifact,
    figures,
    keys_of,
    ledger_of,
    made_in,
    run,
    to_run,
    vectors_ND,
)

PRETRAIN = "pretrain={updates: 12, documents_per_batch: 24, learning_rate: 1e-3}"


def accept_everything(patch: pytest.MonkeyPatch) -> None:
    def decide(*args: Any, **how: Any) -> gate.GateDecision:
        return replace(gate.decide(*args, **how), accepted=True, decided=True)

    patch.setattr("sdretrieval.stages.gate.decide", decide)


@pytest.fixture
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that accepts everything."""
    accept_everything(monkeypatch)


@pytest.fixture(scope="module")
def pretrained(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run whose gate accepted what was learned from documents, and then a generation."""
    with pytest.MonkeyPatch.context() as patch:
        accept_everything(patch)
        return run(make_config(PRETRAIN, "evaluate.controls=[hard_labels]"), tmp_path_factory.mktemp("pretrained"))


def test_everything_begins_with_what_was_accepted(pretrained: RunResult, tiny_student: Path) -> None:
    keys, folder = keys_of(pretrained.folder), pretrained.folder
    assert keys["1/encode"] == keys["pretrained/encode"] != keys["student_0/encode"]
    started = [record for record in ledger_of(folder) if record["stage"] in ("1/train", "1/train:hard_labels")]
    assert len(started) == 2 and all(keys["pretrained/merge"] in record["inputs"] for record in started)
    report = pretrained.report
    assert report["pretrained"]["decision"] == "accepted" and report["generations"][0]["decision"] == "accepted"
    systems = ["bm25", "student_0", "hybrid_0", "pretrained", "teacher@pretrained", "hard_labels", "generation_1"]
    assert report["systems"] == [*systems, "final", "hybrid_final"]
    base, new, mixed = (
        load_file(path / "model.safetensors")
        for path in (
            tiny_student,
            artifact(folder, "pretrained/train") / "student",
            artifact(folder, "pretrained/merge") / "student",
        )
    )
    assert max(float((base[name] - new[name]).abs().max()) for name in base) > 1e-3
    for name, weight in mixed.items():
        torch.testing.assert_close(weight, (base[name] + new[name]) / 2)
    moved = np.abs(vectors_ND(folder, "pretrained/encode") - vectors_ND(folder, "student_0/encode")).max()
    assert moved > 1e-3
    serving = json.loads((folder / "serving.json").read_text())
    assert serving["keys"]["base_index"] == keys["student_0/index"], "search --base is the config's model"
    page = (folder / "report.html").read_text()
    assert "Pretraining on documents: accepted" in page
    counts = {record["stage"]: record["counts"] for record in ledger_of(folder)}["pretrained/train"]
    assert (counts["updates"], counts["documents_seen"]) == (12, 12 * 24)


def test_nothing_is_made_again(pretrained: RunResult, make_config: MakeConfig) -> None:
    config = make_config(PRETRAIN, "evaluate.controls=[hard_labels]")
    assert to_run(plan_config(config, runs=pretrained.folder.parent)) == {}


def test_what_the_gate_refuses_is_forgotten(letters: Path, make_config: MakeConfig, tmp_path: Path) -> None:
    """The base finds everything, so that nothing can gain."""
    result = run(make_config(PRETRAIN, corpus={"source": str(letters)}), tmp_path)
    keys = keys_of(result.folder)
    assert result.report["pretrained"]["decision"] == "rejected"
    assert keys["1/encode"] == keys["student_0/encode"] == keys["final/encode"] != keys["pretrained/encode"]
    assert "teacher@student_0" in result.report["systems"]
    base, again = (vectors_ND(result.folder, f"{name}/encode") for name in ("student_0", "1"))
    np.testing.assert_array_equal(base, again)
    # The loaded base is not what was trained: what it encodes later is the base's.
    first = vectors_ND(result.folder, "1/encode:teacher0")
    assert all((np.abs(first - row).max(axis=1) < 1e-5).any() for row in base[:5])
    assert result.details["headline"] == "Nothing that was trained passed the gate: the final student is the base."
    assert any(note.startswith("Pretraining on documents: rejected: ") for note in result.details["notes"])


def test_an_adapter_learns_behind_it(always: None, make_config: MakeConfig, tmp_path: Path) -> None:
    result = run(make_config(PRETRAIN, "student.train=adapter", "train.learning_rate=1e-2"), tmp_path)
    before, after = (vectors_ND(result.folder, f"{name}/encode") for name in ("pretrained", "2"))
    map_DD, *_ = np.linalg.lstsq(before, after, rcond=None)
    found = before @ map_DD
    cosines = (found * after).sum(axis=1) / np.linalg.norm(found, axis=1) / np.linalg.norm(after, axis=1)
    assert cosines.min() > 0.9 and np.abs(before - after).max() > 1e-3, "a linear map of the pretrained vectors"
    assert len([one for one in made_in(result.folder) if one.endswith("/encode")]) == 4, (
        "base, pretrained, mapped, mixed"
    )


def test_a_student_without_a_teacher_may_still_be_better(
    always: None, letters: Path, make_config: MakeConfig, tmp_path: Path
) -> None:
    teacher = {"kind": "ema", "view": {"windows": "first"}, "weight": "auto"}  # sees what the student sees
    result = run(make_config(PRETRAIN, corpus={"source": str(letters)}, teacher=teacher, probe={}), tmp_path)
    assert result.report["trained"] and result.report["generations"] == []
    assert "Nothing was trained" not in result.details["headline"]
    assert any(note.startswith("Nothing was taught: the probe found no teacher") for note in result.details["notes"])
    keys = keys_of(result.folder)
    assert keys["final/encode"] == keys["pretrained/encode"]


def test_documents_of_measuring_queries_give_no_pieces(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(PRETRAIN, "corpus.labels=false", "corpus.dev_queries=30", "corpus.generated_queries=20")
    assert run_config(config, runs=tmp_path, until="0/tokens") is None
    made = {name: Artifact(name, artifact(tmp_path / "tiny", f"0/{name}")) for name in ("corpus", "tokens")}
    collection, tokens = Collection(made["corpus"]), Tokens("", made["tokens"].path)
    of = {
        kind: {one.document_row for one in collection.query_removed if (one.split == "dev") == (kind == "dev")}
        for kind in ("dev", "train")
    }
    group_N = np.arange(len(tokens.documents))
    copied = next(
        row for row in range(len(group_N)) if row not in of["dev"] and tokens.documents.lengths[row] >= LEAST_LENGTH
    )
    group_N[copied] = group_N[min(of["dev"])]  # as if it were a copy of a document that measures
    rows = set(rows_of_pieces(collection, tokens, group_N).tolist())
    assert of["dev"] and not rows & of["dev"]
    long = set(np.flatnonzero(tokens.documents.lengths >= LEAST_LENGTH).tolist())
    assert rows == long - of["dev"] - {copied} and rows & of["train"]


def test_a_killed_pretraining_continues_to_the_same_student(
    nursery: Nursery, make_config: MakeConfig, tmp_path: Path
) -> None:
    config = make_config(PRETRAIN, "train.save_every=3")
    checkpoint = "store/partial/*/trainer/checkpoint-*/complete.json"
    killed = nursery.run(config, tmp_path / "a", kill_at="pretrained/train", kill_when=checkpoint)
    assert killed.code == -signal.SIGKILL, killed.said
    for folder in ("a", "b"):
        ended = nursery.run(config, tmp_path / folder)
        assert ended.code == 0, ended.said
        if folder == "a":
            assert any("training continues from checkpoint-" in line for line in ended.said)
    reports = [json.loads((tmp_path / folder / "tiny" / "report.json").read_text()) for folder in ("a", "b")]
    for report in reports:
        report["pretrained"].pop("seconds")
    assert figures(reports[0]) == figures(reports[1])


def test_a_plan_knows_what_pretraining_takes(make_config: MakeConfig, tmp_path: Path) -> None:
    plan = plan_config(make_config(PRETRAIN), runs=tmp_path)
    addresses = [line.address for line in plan]
    assert addresses.index("student_0/encode") < addresses.index("pretrained/train") < addresses.index("1/train")
    fitted = forecast_config(make_config(PRETRAIN), runs=tmp_path)
    one = fitted.forecast.stages["pretrained/train"]
    assert one.amount is not None and (one.amount.count, one.amount.unit) == (12, "updates")
    assert one.seconds is not None and one.seconds > 0
    assert one.peak_bytes is not None


def test_what_cannot_be_pretrained_is_refused(make_config: MakeConfig, tiny_corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pretrain: found a section, but student.train is query"):
        make_config(PRETRAIN, "student.train=query")
    with pytest.raises(ModelError, match="no_such_part"):  # an adapter freezes nothing, what comes before it may
        run(make_config(PRETRAIN, "student.train=adapter", "train.freeze=[no_such_part]"), tmp_path / "runs")
    short = Path(shutil.copytree(tiny_corpus, tmp_path / "short"))
    lines = [json.loads(line) for line in (short / "corpus.jsonl").read_text().splitlines()]
    (short / "corpus.jsonl").write_text(
        "".join(json.dumps({**line, "title": "", "text": line["text"][:12]}) + "\n" for line in lines)
    )
    with pytest.raises(CorpusError, match="pretrain: found 0 documents of 16 tokens or more to learn from; expected 2"):
        run(make_config(PRETRAIN, corpus={"source": str(short)}), tmp_path / "runs")


def test_single_stages_begin_with_it_too(pretrained: RunResult, make_config: MakeConfig) -> None:
    """What `score` and `probe` look at is what the run trains on, and nothing is made again for them."""
    runs, before = pretrained.folder.parent, len(ledger_of(pretrained.folder))
    config = make_config(PRETRAIN, "evaluate.controls=[hard_labels]")
    with open_stages(config, lambda run: mine_base(begin(run)), "score", runs=runs) as opened:
        base = begin(opened)
        assert mine_base(base).key == keys_of(pretrained.folder)["1/mine"]
        assert base.run.base.key == keys_of(pretrained.folder)["pretrained/merge"]
    assert made_in(pretrained.folder, after=before) == []
