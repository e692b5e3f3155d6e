"""What a run makes of losses and a person's verdicts."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.config import Config
from sdretrieval.corpus import load_corpus
from sdretrieval.errors import RequestError
from sdretrieval.mining.candidates import Candidates
from sdretrieval.run.api import dry_run, run_config
from sdretrieval.store import Store
from sdretrieval.targets.build import Targets
from sdretrieval.training.trainer import read_metrics
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, ledger_of

AUTO = [
    {"kind": "ema", "view": {"windows": "all"}, "weight": "auto"},
    {"kind": "ema", "view": {"windows": "first"}, "weight": "auto"},
    {"kind": "lexical", "weight": "auto"},
]


def keys(config: Config, folder: Path) -> dict[str, str]:
    return {stage.address: stage.key for stage in dry_run(config, Store(folder / "store"), assume=True)}


def test_settings_of_another_loss_or_stage_are_in_no_key(finished: Any) -> None:
    identity = {record["stage"]: record["identity"] for record in ledger_of(finished.folder)}
    assert "verdicts" not in identity["0/corpus"]
    assert "margin_scale" not in identity["1/train"]
    assert identity["1/train:hard_labels"]["loss"] == "listwise_kl"
    assert not {"0/verdicts"} & set(identity)


def test_what_a_setting_does_not_touch_keeps_its_key(make_config: MakeConfig, tmp_path: Path) -> None:
    controls = "evaluate.controls=[hard_labels]"
    before = keys(make_config(controls), tmp_path)
    assert keys(make_config(controls, "train.margin_scale=0.1"), tmp_path) == before, "another loss's setting"
    margin = keys(make_config(controls, "train.loss=margin_mse"), tmp_path)
    assert {address for address in before if margin[address] != before[address]} & {
        "1/train",
        "1/train:hard_labels",
    } == {"1/train"}
    scaled = keys(make_config(controls, "train.loss=margin_mse", "train.margin_scale=0.1"), tmp_path)
    assert scaled["1/train"] != margin["1/train"] and scaled["1/targets"] == margin["1/targets"] == before["1/targets"]
    labelled = keys(make_config(controls, "targets.label_evidence=4"), tmp_path)
    assert labelled["1/train"] != before["1/train"] and labelled["1/score"] == before["1/score"]
    assert labelled["1/train:hard_labels"] == before["1/train:hard_labels"]


@pytest.fixture(scope="module")
def verdicts(finished: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One candidate of a training query marked relevant, one marked not, and a mark of a test query."""
    corpus = load_corpus(artifact(finished.folder, "0/corpus") / "corpus")
    candidates = Candidates.load(artifact(finished.folder, "1/mine"))
    lines = ["verdict\tquery_id\tdocument_id"]
    for position, word in ((0, "relevant"), (1, "not")):
        document = candidates.rows[position][~candidates.positive[position]][0]
        query = corpus.query_ids[candidates.query_rows_Q[position]]
        lines.append(f"{word}\t{query}\t{corpus.document_ids[document]}")
    lines.append(f"relevant\t{next(iter(corpus.qrels['test']))}\td0")
    path = tmp_path_factory.mktemp("verdicts") / "marks.tsv"
    path.write_text("\n".join(lines) + "\n", encoding="utf8")
    return path


@pytest.fixture(scope="module")
def judged(make_config: MakeConfig, verdicts: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run with margins and verdicts."""
    config = make_config(
        f"corpus.verdicts={verdicts}", "train.loss=margin_mse", "targets.false_negatives.rule=margin",
        "targets.false_negatives.margin=1.5", "train.hard_label_weight=0.1",
    )  # fmt: skip
    return run_config(config, runs=tmp_path_factory.mktemp("judged"))


def test_margins_are_trained_on_at_the_fitted_scale(judged: Any) -> None:
    counts = next(r["counts"] for r in ledger_of(judged.folder) if r["stage"] == "1/train")
    candidates = Candidates.load(artifact(judged.folder, "1/mine"))
    spread = np.std([s - s.mean() for s in candidates.scores])
    assert 0 < counts["margin_scale"] < 2 * spread
    assert "margin_mse" in read_metrics(artifact(judged.folder, "1/train") / "metrics.jsonl")[0]


def test_a_relevant_verdict_makes_a_positive_and_a_refused_one_a_hard_negative(judged: Any, finished: Any) -> None:
    before = Candidates.load(artifact(finished.folder, "1/mine"))
    after, targets = (
        Candidates.load(artifact(judged.folder, "1/mine")), Targets.load(artifact(judged.folder, "1/targets"))
    )  # fmt: skip
    good, bad = (before.rows[position][~before.positive[position]][0] for position in (0, 1))
    assert bool(after.positive[0][after.rows[0] == good][0])
    assert int(after.positive.values_T.sum()) == int(before.positive.values_T.sum()) + 1
    # A margin of the whole scale takes every unlabelled candidate out of the hard term, but not that one.
    masks = [targets.hard_negative[position] for position in range(len(targets))]
    assert masks[1].tolist() == (after.rows[1] == bad).tolist()
    assert sum(int(mask.sum()) for mask in masks) == 1
    assert next(r["counts"] for r in ledger_of(judged.folder) if r["stage"] == "0/verdicts") == {
        "relevant": 1,
        "refused": 1,
        "idle": 1,
    }
    assert (
        load_corpus(artifact(judged.folder, "0/corpus") / "corpus").qrels
        == load_corpus(artifact(finished.folder, "0/corpus") / "corpus").qrels
    ), "nothing that is measured changes"


def test_a_verdict_on_what_the_corpus_lacks_is_refused_before_vectors_are_made(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    path = tmp_path / "marks.csv"
    path.write_text("verdict,query_id,document_id\nnot,q0,nowhere\n")
    with pytest.raises(RequestError, match=r"marks\.csv: line 2: no document of this corpus has the id nowhere"):
        run_config(make_config(f"corpus.verdicts={path}"), runs=tmp_path / "runs")
    assert [record["stage"] for record in ledger_of(tmp_path / "runs" / "tiny")] == ["0/corpus"]
    path.write_text("verdict,query_id,document_id\nperhaps,q0,d0\n")
    with pytest.raises(RequestError, match="line 2: verdict 'perhaps'"):
        run_config(make_config(f"corpus.verdicts={path}", "name=other"), runs=tmp_path / "runs")
    assert not (tmp_path / "runs" / "other").exists()


def test_an_idle_verdict_is_said(
    make_config: MakeConfig, verdicts: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, logger="sdretrieval"):
        run_config(make_config(f"corpus.verdicts={verdicts}"), runs=tmp_path, until="0/verdicts")
    assert (
        "without effect, since about queries that are not trained on (dev, test, or left out): 1 verdict, line 4"
        in caplog.text
    )


def test_queries_that_no_stage_needs_are_not_encoded_and_verdicts_on_them_have_no_effect(
    make_config: MakeConfig, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    few = "corpus.train_queries=8"
    run_config(make_config(few), runs=tmp_path, until="1/encode")
    kept = load_corpus(artifact(tmp_path / "tiny", "0/corpus") / "corpus")
    counts = {record["stage"]: record["counts"] for record in ledger_of(tmp_path / "tiny")}
    assert counts["1/encode"]["query_windows"] == len(kept.queries) == 8 + 20 + 24, "train, dev and test"
    assert {split: len(judged) for split, judged in kept.qrels.items()} == {"train": 8, "dev": 20, "test": 24}
    unused = next(f"q{n}" for n in range(40) if f"q{n}" not in kept.query_row)
    path = tmp_path / "marks.csv"
    path.write_text(f"verdict,query_id,document_id\nnot,{unused},d0\n")
    with caplog.at_level(logging.WARNING, logger="sdretrieval"):
        run_config(make_config(few, f"corpus.verdicts={path}"), runs=tmp_path, until="0/verdicts")
    assert "not trained on (dev, test, or left out): 1 verdict, line 2" in caplog.text
    path.write_text(f"verdict,query_id,document_id\nnot,{unused},nowhere\nnot,q9999,d0\n")
    with pytest.raises(RequestError, match="line 2: no document .* nowhere; line 3: no query .* q9999"):
        run_config(make_config(few, f"corpus.verdicts={path}"), runs=tmp_path, until="0/verdicts")


def test_vectors_are_trained_on_and_shuffled_for_the_control(make_config: MakeConfig, tmp_path: Path) -> None:
    teacher = {"kind": "ensemble", "members": [AUTO[0] | {"weight": 0.5}, AUTO[1] | {"weight": 0.5}]}
    config = make_config("train.loss=embedding", "evaluate.controls=[shuffled_teacher]", teacher=teacher)
    run_config(config, runs=tmp_path, until="1/train:shuffled_teacher")
    folder = tmp_path / "tiny"
    counts = {r["stage"]: r["counts"] for r in ledger_of(folder) if ":" not in r["stage"] or "train" in r["stage"]}
    # Two averages of 32 dimensions each, end to end, are reduced to the student's 32; they say nearly the same.
    assert 0.9 < counts["1/train"]["teacher_vectors_kept"] <= 1
    losses = {
        address: [line["embedding"] for line in read_metrics(artifact(folder, address) / "metrics.jsonl")]
        for address in ("1/train", "1/train:shuffled_teacher")
    }
    # The student starts as its own average: where its vectors are turned to it there is next to nothing to follow.
    assert losses["1/train"][0] < 0.5 * losses["1/train:shuffled_teacher"][0]
