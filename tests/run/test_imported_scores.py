"""Scores made elsewhere as a teacher in a run: exported, imported, and what happens where pairs lack."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sdretrieval.cli.score import pairs_to_score, scores_said
from sdretrieval.config import Config, ScoresConfig
from sdretrieval.corpus import load_corpus
from sdretrieval.corpus.text import words_of
from sdretrieval.errors import MissingScores, RequestError
from sdretrieval.ragged import Ragged
from sdretrieval.run.api import probe_config, run_config
from sdretrieval.stages import imported
from sdretrieval.stages.targets import scores_whole_batch
from sdretrieval.targets.build import Targets
from sdretrieval.teachers.ensemble import TeacherScores
from sdretrieval.teachers.score_file import read_scores
from tests.helpers import tiny
from tests.helpers.runs.tiny_runs import (
    EMA,
    LEXICAL,
    MakeConfig,
    artifact,
    dense,
    ensemble,
    keys_of,
    ledger_of,
    made_in,
)


@pytest.fixture(scope="module")
def scored(
    make_config: MakeConfig, tiny_cross_encoder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Config, Path]:
    """A config with a cross-encoder, and the folder of runs in which it stands scored, its targets made."""
    reader = {"kind": "cross_encoder", "model": str(tiny_cross_encoder), "max_tokens": 96}
    config, runs = make_config(teacher=reader), tmp_path_factory.mktemp("scored")
    run_config(config, runs=runs, until="1/targets")
    return config, runs


def targets_of(runs: Path) -> tuple[bytes, bytes]:
    targets = Targets.load(artifact(runs / "tiny", "1/targets"))
    return targets.log_probs.values_T.tobytes(), targets.weight_Q.tobytes()


@pytest.mark.parametrize("ending", ["tsv", "tsv.gz", "parquet"])
def test_exported_and_imported_a_cross_encoder_gives_the_same_targets_to_the_bit(
    scored: tuple[Config, Path], make_config: MakeConfig, tmp_path: Path, ending: str
) -> None:
    config, runs = scored
    file = tmp_path / f"scores.{ending}"
    record = scores_said(config, file, runs=runs)
    assert record["columns"] == ["query", "document", "score"] and record["pairs"] == len(read_scores(str(file)))
    copy = Path(shutil.copytree(runs, tmp_path / "runs"))
    imported = make_config(teacher={"kind": "scores", "file": str(file)})
    run_config(imported, runs=copy, until="1/targets")
    assert targets_of(copy) == targets_of(runs)
    assert keys_of(copy / "tiny")["1/mine"] == keys_of(runs / "tiny")["1/mine"]
    assert keys_of(copy / "tiny")["1/targets"] != keys_of(runs / "tiny")["1/targets"]


def test_exported_and_imported_bm25_gives_the_same_targets_to_the_bit(make_config: MakeConfig, tmp_path: Path) -> None:
    """Calibrated by minmax: BM25's z-scores are taken over its own top 100, which a file of the lists has not."""
    how = {"calibrate": "minmax"}
    bm25, file = make_config(teacher=LEXICAL, targets=how), tmp_path / "bm25.tsv"
    run_config(bm25, runs=tmp_path / "runs", until="1/targets")
    scores_said(bm25, file, runs=tmp_path / "runs")
    before = targets_of(tmp_path / "runs")
    run_config(
        make_config(teacher={"kind": "scores", "file": str(file)}, targets=how), runs=tmp_path / "runs",
        until="1/targets",
    )  # fmt: skip
    assert targets_of(tmp_path / "runs") == before


def test_a_mixture_is_exported_with_its_members(finished: Any, finished_copy: Path, tmp_path: Path) -> None:
    file = tmp_path / "said.tsv"
    record = scores_said(finished.folder.name, file, runs=finished_copy)
    assert record["columns"] == ["query", "document", "score", "ema:full_context", "lexical"]
    assert record["weights"] == {"ema:full_context": 0.3, "lexical": 0.7}
    scores = TeacherScores.load(artifact(finished.folder, "1/score"))
    whole = read_scores(str(file))
    assert sorted(whole.score_P.tolist()) == sorted(scores.mixed([0.3, 0.7]).values_T.tolist())
    lexical = read_scores(str(file), "lexical")
    assert sorted(lexical.score_P.tolist()) == sorted(scores.members[1].raw.values_T.tolist())


def write_lines(file: Path, lines: list[str]) -> str:
    file.write_text("\n".join(["query\tdocument\tscore", *lines]) + "\n")
    return str(file)


@pytest.fixture(scope="module")
def asked(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[str]]]:
    """Runs in which generation 1 is mined, and the pairs to score, as a config writes them whose file is not there."""
    runs = tmp_path_factory.mktemp("asked")
    config = make_config(teacher={"kind": "scores", "file": "not-there-yet.tsv"})
    pairs_to_score(config, runs / "pairs.tsv", runs=runs)
    lines = (runs / "pairs.tsv").read_text().splitlines()
    assert lines[0] == "query\tdocument\tquery_text\tdocument_text"
    return runs, [line.split("\t") for line in lines[1:]]


def overlap(pair: list[str]) -> str:
    """A stand-in for a model elsewhere: shared words that mean something."""
    query, document, asked, text = pair
    shared = set(asked.strip("?").split()) & set(text.replace(".", "").split()) - {"where", "is", "the"}
    return f"{query}\t{document}\t{len(shared) + len(text) / 1e4:.5f}"


def test_mining_does_not_need_the_file_yet(make_config: MakeConfig, asked: tuple[Path, Any], tmp_path: Path) -> None:
    config = make_config(teacher={"kind": "scores", "file": str(tmp_path / "later.tsv")})
    assert run_config(config, runs=asked[0], until="1/mine") is None
    with pytest.raises(RequestError, match=r"later\.tsv: is not there\. `sdretrieval score CONFIG --pairs FILE`"):
        run_config(config, runs=asked[0], until="1/score")


def test_a_whole_run_on_imported_scores(make_config: MakeConfig, asked: tuple[Path, Any], tmp_path: Path) -> None:
    runs, pairs = asked
    file = write_lines(tmp_path / "scores.tsv", [overlap(pair) for pair in pairs])
    teacher = {"kind": "scores", "file": file, "name": "words"}
    result = run_config(make_config(teacher=teacher), runs=runs)
    assert result is not None
    assert "teacher@student_0" not in result.report["systems"], "nobody scored the pairs of dev and test"
    assert TeacherScores.load(artifact(runs / "tiny", "1/score")).members[0].name == "scores:words"
    assert not (runs / "tiny" / "missing-pairs.tsv").exists()
    moved = Path(shutil.copy(file, tmp_path / "elsewhere.tsv"))
    lines = len(ledger_of(runs / "tiny"))
    run_config(make_config(teacher={**teacher, "file": str(moved), "name": "other"}), runs=runs)
    assert made_in(runs / "tiny", after=lines) == [], "a file is known by its content; a label trains nothing anew"


def test_the_reports_row_of_the_teacher_is_there_where_its_pairs_are(
    make_config: MakeConfig, asked: tuple[Path, Any], tmp_path: Path
) -> None:
    runs = asked[0]
    config = make_config(teacher={"kind": "scores", "file": str(tmp_path / "*-scores.tsv")})
    record = pairs_to_score(config, tmp_path / "all.tsv", teacher_row=True, runs=runs)
    assert set(record["parts"]) == {"train", "teacher_row:dev", "teacher_row:test"}
    pairs = [line.split("\t") for line in (tmp_path / "all.tsv").read_text().splitlines()[1:]]
    assert len(pairs) == record["pairs"]
    half = len(pairs) // 2
    write_lines(tmp_path / "a-scores.tsv", [overlap(pair) for pair in pairs[:half]])
    write_lines(tmp_path / "b-scores.tsv", [overlap(pair) for pair in pairs[half:]])
    result = run_config(config, runs=runs)
    assert result is not None and "teacher@student_0" in result.report["systems"]


def test_missing_pairs_are_named_and_written_to_be_scored(
    make_config: MakeConfig, asked: tuple[Path, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs, pairs = asked
    file = write_lines(tmp_path / "scores.tsv", [overlap(pair) for pair in pairs[2:]])
    config = make_config(teacher={"kind": "scores", "file": file})
    with pytest.raises(MissingScores) as caught:
        run_config(config, runs=runs)
    first = f"({pairs[0][0]}, {pairs[0][1]}), ({pairs[1][0]}, {pairs[1][1]})"
    missing = runs / "tiny" / "missing-pairs.tsv"
    assert f"lacks 2 of {len(pairs)} pairs" in str(caught.value) and first in str(caught.value)
    assert f"with their texts, are in {missing}: score these, add them to the file" in str(caught.value)
    assert [line.split("\t") for line in missing.read_text().splitlines()[1:]] == pairs[:2]
    with Path(file).open("a") as stream:  # the user comes back
        stream.writelines(overlap(pair) + "\n" for pair in pairs[:2])
        stream.write("a-stranger\td0\t1.0\n")
    caplog.clear()
    assert run_config(config, runs=runs, until="1/score") is None
    assert any("1 of its 41 query ids are not in the corpus ('a-stranger')" in r.getMessage() for r in caplog.records)
    assert not missing.exists(), "what was lacking has been scored"


def test_the_second_generation_asks_for_what_it_mined(
    make_config: MakeConfig, asked: tuple[Path, Any], tmp_path: Path
) -> None:
    runs, pairs = asked
    file = write_lines(tmp_path / "scores.tsv", [overlap(pair) for pair in pairs])
    accepted = ("train.epochs=12", "train.hard_label_weight=1", "gate.tolerance=0.5")
    config = make_config("generations=2", *accepted, teacher={"kind": "scores", "file": file})
    with pytest.raises(MissingScores, match=r"lacks \d+ of \d+ pairs"):
        run_config(config, runs=runs)
    new = [line.split("\t") for line in (runs / "tiny" / "missing-pairs.tsv").read_text().splitlines()[1:]]
    assert not {tuple(pair[:2]) for pair in new} & {tuple(pair[:2]) for pair in pairs}
    with pytest.raises(RequestError, match="--teacher-row with --generation 2: that row is measured once"):
        pairs_to_score(config, tmp_path / "second.tsv", generation=2, teacher_row=True, runs=runs)
    record = pairs_to_score(config, tmp_path / "second.tsv", generation=2, runs=runs)
    second = [line.split("\t") for line in (tmp_path / "second.tsv").read_text().splitlines()[1:]]
    assert record["generation"] == 2 and {tuple(pair[:2]) for pair in new} <= {tuple(pair[:2]) for pair in second}
    write_lines(Path(file), [overlap(pair) for pair in [*pairs, *new]])
    assert run_config(config, runs=runs, until="2/score") is None


@pytest.mark.parametrize(("missing", "said"), [("lowest", "rank below all others"), ("skip", "leave their query's")])
def test_gaps_that_are_allowed_are_said_and_written(
    make_config: MakeConfig, asked: tuple[Path, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture,
    missing: str, said: str,
) -> None:  # fmt: skip
    runs, pairs = asked
    file = write_lines(tmp_path / "scores.tsv", [overlap(pair) for n, pair in enumerate(pairs) if n % 5])
    config = make_config(teacher={"kind": "scores", "file": file, "missing": missing})
    with caplog.at_level(logging.WARNING, logger="sdretrieval"):
        run_config(config, runs=runs, until="1/targets")
    gaps = pairs[::5]
    assert any(
        f"lacks {len(gaps)} of {len(pairs)} pairs (20.0 %), which {said}" in r.getMessage() for r in caplog.records
    )
    written = (runs / "tiny" / "missing-pairs.tsv").read_text().splitlines()[1:]
    assert [line.split("\t") for line in written] == gaps
    log_probs = Targets.load(artifact(runs / "tiny", "1/targets")).log_probs
    assert np.isneginf(log_probs.values_T).sum() == (len(gaps) if missing == "skip" else 0)


def test_a_later_stage_that_lacks_nothing_leaves_what_an_earlier_one_lacked(
    make_config: MakeConfig, asked: tuple[Path, Any], tmp_path: Path
) -> None:
    runs, pairs = asked
    file = tmp_path / "scores.tsv"
    write_lines(file, [overlap(pair) for pair in pairs[3:]])
    teacher = {"kind": "scores", "file": str(file), "missing": "skip"}
    config = make_config(teacher=teacher)
    assert isinstance(config.teacher, ScoresConfig)
    run_config(config, runs=runs, until="1/score")
    corpus = load_corpus(artifact(runs / "tiny", "0/corpus") / "corpus")
    query, document = pairs[-1][:2]
    later = (np.asarray([corpus.query_row[query]]), Ragged.of([[corpus.document_row[document]]], np.int64))
    missing = runs / "tiny" / "missing-pairs.tsv"
    prepared: Any = SimpleNamespace(corpus=corpus, query_removed=(), measuring=0)
    for known, left in ((pairs[3:], pairs[:3]), (pairs[2:], pairs[:2]), (pairs, [])):
        write_lines(file, [overlap(pair) for pair in known])
        teacher = imported.imported_teacher(config.teacher, "scores", corpus)
        imported.note_gaps([teacher], *later, runs / "tiny", prepared)
        written = missing.read_text().splitlines()[1:] if missing.exists() else []
        assert [line.split("\t") for line in written] == left


def test_skipped_pairs_train_and_are_not_exported(
    make_config: MakeConfig, asked: tuple[Path, Any], tmp_path: Path
) -> None:
    runs, pairs = asked
    own = {pair[0] for pair in pairs[:1]}  # the first query has no score at all
    kept = [pair for n, pair in enumerate(pairs) if n % 4 and pair[0] not in own]
    file = write_lines(tmp_path / "scores.tsv", [overlap(pair) for pair in kept])
    imported = {"kind": "scores", "file": file, "missing": "skip", "weight": 0.5}
    controls = "evaluate.controls=[shuffled_teacher]"
    mixed = ensemble(imported, {**EMA, "mode": "live"}, LEXICAL)
    for teacher, until in ((imported, "1/train"), (mixed, None)):
        config = make_config("train.epochs=1", controls, "train.hard_label_weight=0.1", teacher=teacher)
        assert (run_config(config, runs=runs, until=until) is None) is (until is not None)
        targets = Targets.load(artifact(runs / "tiny", "1/targets"))
        assert targets.weight_Q.min() == 0 and np.isneginf(targets.log_probs.values_T).sum() == len(pairs) - len(kept)
        record = scores_said(config, tmp_path / "said.tsv", runs=runs)
        assert record["pairs"] == len(kept)


def test_auto_weights_ask_for_the_probes_pairs_too(
    make_config: MakeConfig, asked: tuple[Path, Any], tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    members = [
        {"kind": "scores", "file": str(tmp_path / "scores.tsv"), "weight": "auto"},
        {**LEXICAL, "weight": "auto"},
    ]
    config = make_config(teacher=ensemble(*members))
    record = pairs_to_score(config, tmp_path / "pairs.tsv", runs=runs)
    assert record["parts"]["train"] == len(asked[1]) and record["parts"]["probe"] > 16
    pairs = [line.split("\t") for line in (tmp_path / "pairs.tsv").read_text().splitlines()[1:]]
    write_lines(tmp_path / "scores.tsv", [overlap(pair) for pair in pairs[: len(asked[1])]])
    with pytest.raises(MissingScores, match="lacks"):
        probe_config(config, runs=runs)
    write_lines(tmp_path / "scores.tsv", [overlap(pair) for pair in pairs])
    record = probe_config(config, runs=runs)
    assert [member["name"] for member in record["members"]] == ["scores:scores", "lexical"]


def test_the_guard_asks_for_the_probes_pairs_and_does_not_insist_on_them(
    make_config: MakeConfig, asked: tuple[Path, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runs, train = asked
    (runs / "tiny" / "missing-pairs.tsv").unlink(missing_ok=True)  # another test's
    config = make_config(teacher={"kind": "scores", "file": str(tmp_path / "scores.tsv")}, probe={})
    record = pairs_to_score(config, tmp_path / "pairs.tsv", runs=runs)
    assert set(record["parts"]) == {"train", "probe"}
    assert run_config(config, runs=runs, until="1/mine") is None, "there is no file yet"
    write_lines(tmp_path / "scores.tsv", [overlap(pair) for pair in train])
    assert run_config(config, runs=runs, until="1/targets") is None
    assert any("nobody can say before training whether" in record.getMessage() for record in caplog.records)
    assert not (runs / "tiny" / "missing-pairs.tsv").exists()
    pairs = [line.split("\t") for line in (tmp_path / "pairs.tsv").read_text().splitlines()[1:]]
    write_lines(tmp_path / "scores.tsv", [overlap(pair) for pair in pairs])
    assert run_config(config, runs=runs, until="0/probe") is None, "now it is asked"


def test_imported_scores_judge_lists_only(make_config: MakeConfig) -> None:
    config = make_config(teacher=ensemble({"kind": "scores", "file": "x.tsv"}, LEXICAL))
    assert not scores_whole_batch(config, [0.5, 0.5])
    assert scores_whole_batch(config, [0.0, 1.0])


def test_queries_made_from_documents_are_scored_elsewhere_without_their_own_words(
    make_config: MakeConfig, tiny_corpus: Path, tiny_guest: Path, tmp_path: Path
) -> None:
    made = {"source": str(tiny_corpus), "labels": False, "dev_queries": 12, "generated_queries": 30}
    members = [{"kind": "scores", "file": str(tmp_path / "scores.tsv")}, dense(tiny_guest)]
    config = make_config(corpus=made, teacher=ensemble(*({**member, "weight": "auto"} for member in members)))
    pairs_to_score(config, tmp_path / "pairs.tsv", runs=tmp_path / "runs")
    pairs = [line.split("\t") for line in (tmp_path / "pairs.tsv").read_text().splitlines()[1:]]
    whole = {f"{record['_id']}": f"{record['title']} {record['text']}" for record in tiny.documents()}
    changed = [(text, whole[document]) for _, document, _, text in pairs if text != whole[document]]
    assert changed and all(words_of(text) <= words_of(full) for text, full in changed)
    assert any(words_of(text) < words_of(full) for text, full in changed)
    write_lines(tmp_path / "scores.tsv", [overlap(pair) for pair in pairs])
    record = probe_config(config, runs=tmp_path / "runs")
    assert record["estimate"] and record["members"][0]["name"] == "scores:scores"
