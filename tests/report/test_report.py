"""What a run's report says: its schema, its words, what was removed, what it cost; and what commands read of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.config import Config, load_config
from sdretrieval.corpus import load_corpus
from sdretrieval.errors import ModelError
from sdretrieval.evaluation import holm
from sdretrieval.mining.candidates import Candidates
from sdretrieval.report.costs import generation_costs
from sdretrieval.report.removed import mining_of
from sdretrieval.run.api import RunResult, plan_config, run_config
from sdretrieval.stages.gate import Generation
from sdretrieval.stages.run import Weights
from sdretrieval.store.runner import Artifact
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, ledger_of, sealed_again, vectors_ND

SYSTEMS = [
    "bm25",
    "student_0",
    "hybrid_0",
    "teacher@student_0",
    "hard_labels",
    "shuffled_teacher",
    "generation_1",
    "final",
    "hybrid_final",
]
GENERATION_KEYS = {"generation", "decision", "proven", "reason", "difference", "interval", "level", "p", "seconds"}


# --- report.json and the run's folder


def test_systems_stand_in_the_order_of_the_report(finished: RunResult) -> None:
    assert finished.report["systems"] == SYSTEMS


def test_report_json_holds_the_promised_keys(finished: RunResult) -> None:
    report = json.loads((finished.folder / "report.json").read_text())
    assert report == finished.report
    assert report["schema"] == 1
    assert (report["corpus"], report["split"], report["n_queries"], report["seeds"]) == ("tiny", "test", 24, [13])
    for part in ("measures", "dev_measures"):
        assert list(report[part]) == SYSTEMS
        assert all(set(values) == {"nDCG@10", "Recall@100"} for values in report[part].values())
        assert all(0 <= value <= 1 for values in report[part].values() for value in values.values())
    assert report["seconds"] > 0
    assert report["peak_rss_bytes"] > 10**7
    assert [set(one) >= GENERATION_KEYS for one in report["generations"]] == [True]
    assert report["generation_costs"] == []  # one generation: nothing to compare


def test_final_is_tested_against_base_hybrid_and_controls(finished: RunResult) -> None:
    tests, measures = finished.report["tests"], finished.report["measures"]
    pairs = [(row["a"], row["b"]) for row in tests]
    beaten = ["student_0", "hybrid_0", "hard_labels", "shuffled_teacher"]
    assert pairs == [*(("final", name) for name in beaten), ("hybrid_final", "hybrid_0")]
    for row in tests:
        assert row["difference"] == pytest.approx(measures[row["a"]]["nDCG@10"] - measures[row["b"]]["nDCG@10"])
        low, high = row["interval95"]
        assert low <= row["difference"] <= high
        assert 0 < row["p"] <= row["p_holm"] <= 1


def test_an_accepted_generation_becomes_final(finished: RunResult) -> None:
    (one,) = finished.report["generations"]
    assert one["decision"] == "accepted"
    assert finished.report["measures"]["final"] == finished.report["measures"]["generation_1"]
    assert finished.report["measures"]["final"]["nDCG@10"] > finished.report["measures"]["student_0"]["nDCG@10"]


def test_the_headline_says_what_the_test_against_the_base_says(finished: RunResult) -> None:
    row = next(row for row in finished.report["tests"] if row["b"] == "student_0")
    low, high = row["interval95"]
    assert row["p"] < row["p_holm"], "else this could not tell which of the two is shown"
    expected = (
        f"({row['difference']:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}, p = {row['p_holm']:.3f} after Holm)"
    )
    assert f"{expected}: {row['verdict']}." in finished.details["headline"]


def test_the_run_folder_holds_what_is_promised(finished: RunResult, full_config: Config) -> None:
    folder = finished.folder
    assert load_config(folder / "config.yaml") == full_config
    page = (folder / "report.html").read_text()
    assert page.lower().startswith("<!doctype html>")
    assert all(name in page for name in SYSTEMS)
    runs = {f"{name}.{split}.trec" for name in SYSTEMS for split in ("dev", "test")}
    assert {path.name for path in (folder / "runs").iterdir()} == runs
    fields = {"stage", "key", "cached", "seconds", "counts"}
    assert all(set(record) >= fields for record in ledger_of(folder))


def test_stages_that_were_made_are_not_shown_as_cached(finished: RunResult) -> None:
    """A stage that later stages ask for again stands in the report as it was first met."""
    shown = {f"{row['generation']}/{row['stage']}": row["cached"] for row in finished.details["stages"]}
    assert shown["1/encode"] is False
    assert shown["1/index"] is False
    assert not any(shown.values())


def test_the_student_folder_gives_the_vectors_of_the_final_index(finished: RunResult, tiny_corpus: Path) -> None:
    from sentence_transformers import SentenceTransformer

    records = [json.loads(line) for line in (tiny_corpus / "corpus.jsonl").read_text().splitlines()]
    student = SentenceTransformer(str(finished.folder / "student"), device="cpu")
    found = student.encode([f"{record['title']} {record['text']}" for record in records])
    np.testing.assert_allclose(found, vectors_ND(finished.folder, "final/encode"), atol=1e-5)


# --- what was removed, and what else a reader must know


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def judged(folder: Path, split: str) -> list[tuple[str, str]]:
    rows = [line.split("\t") for line in (folder / "qrels" / f"{split}.tsv").read_text().splitlines()[1:]]
    return [(query, document) for query, document, _ in rows]


def append(path: Path, *lines: str) -> None:
    path.write_text(path.read_text() + "".join(f"{line}\n" for line in lines))


@pytest.fixture(scope="module")
def awkward_corpus(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny collection with a copy of a positive, two documents with one text, a document with a query's id (as in
    ArguAna), and 21 test queries whose positives train judges too, one of which repeats its train query."""
    folder = Path(shutil.copytree(tiny_corpus, tmp_path_factory.mktemp("awkward") / "awkward"))
    documents = {record["_id"]: record for record in read_lines(folder / "corpus.jsonl")}
    queries = {record["_id"]: record for record in read_lines(folder / "queries.jsonl")}
    train = judged(folder, "train")
    (first, positive), (second, _) = train[:2]
    twin = {"_id": "", "title": "twin", "text": f"{queries[second]['text']} {queries[first]['text']} twin"}
    append(
        folder / "corpus.jsonl",
        json.dumps({**documents[positive], "_id": "copy"}),
        *(json.dumps({**twin, "_id": name}) for name in ("twin1", "twin2")),
        json.dumps({"_id": first, "title": "", "text": f"itself {queries[first]['text']}"}),
    )
    asked = [{"_id": f"again{n}", "text": f"tell {queries[query]['text']}"} for n, (query, _) in enumerate(train[:21])]
    asked[5]["text"] = queries[train[5][0]]["text"]
    append(folder / "queries.jsonl", *map(json.dumps, asked))
    append(folder / "qrels" / "test.tsv", *(f"again{n}\t{document}\t1" for n, (_, document) in enumerate(train[:21])))
    return folder


@pytest.fixture(scope="module")
def awkward(awkward_corpus: Path, make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    rule = {"false_negatives": {"rule": "margin", "margin": 0.3}}
    corpus = {"source": str(awkward_corpus)}
    config = make_config("train.hard_label_weight=0.2", "train.epochs=1", corpus=corpus, targets=rule)
    result = run_config(config, runs=tmp_path_factory.mktemp("awkward-runs"))
    assert result is not None
    return result


def test_the_report_shows_what_mining_removed_with_examples_of_each_reason(awkward: RunResult) -> None:
    mined = awkward.details["mining"]["1"]
    assert set(mined["removed"]) == {"own_document", "identical_to_positive", "duplicate_text"}
    assert all(count > 0 for count in mined["removed"].values())
    examples = {example["reason"]: example for example in mined["examples"]}
    assert set(examples) == set(mined["removed"])
    own = examples["own_document"]
    assert own["document"] == f"itself {own['query']}"
    page = (awkward.folder / "report.html").read_text()
    assert all(reason in page for reason in examples)
    assert own["document"] in page


def test_the_report_shows_what_the_false_negative_rule_removed(awkward: RunResult) -> None:
    found = awkward.details["mining"]["1"]["false_negatives"]
    assert 0 < found["removed"] < found["negatives"]
    assert all(example["score"] > example["threshold"] for example in found["examples"])
    page = (awkward.folder / "report.html").read_text()
    assert f"rule margin): {found['removed']} of {found['negatives']} negatives left the hard-label term" in page


def test_queries_that_stand_in_two_splits_are_in_the_notes(awkward: RunResult) -> None:
    assert "Training leaves out 1 query whose text is in two splits." in awkward.details["notes"]


def test_the_note_on_unseen_positives_gives_its_p(awkward: RunResult) -> None:
    parts = awkward.report["seen_positives"]
    (row,) = parts["unseen_tests"]
    note = next(note for note in awkward.details["notes"] if "training has seen" in note)
    assert f"p = {row['p_holm']:.3f} after Holm" in note
    assert row["p"] <= row["p_holm"]


def test_lists_that_are_too_short_to_teach_are_counted(finished: RunResult, tmp_path: Path) -> None:
    whole = Candidates.load(artifact(finished.folder, "1/mine"))
    folder = Path(shutil.copytree(artifact(finished.folder, "1/mine"), tmp_path / "mine"))
    whole.take(np.arange(len(whole) - 3)).save(folder)
    corpus = load_corpus(artifact(finished.folder, "0/corpus") / "corpus")
    mined, targets = Artifact("mine", folder), Artifact("targets", artifact(finished.folder, "1/targets"))
    weights = Weights("base", folder, folder)
    one = Generation(1, "accepted", {}, weights, mined, targets, targets)
    found = mining_of(one, corpus, 0.0)
    assert (found["lists"], found["lists_left_out"], found["false_negatives"]) == (len(whole), 3, None)


# --- one family of comparisons


def test_table_tests_and_headline_say_one_p_over_all_comparisons(finished: RunResult) -> None:
    table = {(row["system"], "student_0"): row for row in finished.details["table"] if "p" in row}
    tests = {(row["a"], row["b"]): row for row in finished.report["tests"]}
    assert tests["final", "student_0"]["p_holm"] == table["final", "student_0"]["p_holm"]
    family = {**table, **tests}
    assert len(family) == finished.details["comparisons"] == 12
    expected = dict(zip(family, holm([row["p"] for row in family.values()]), strict=True))
    assert {pair: row["p_holm"] for pair, row in family.items()} == pytest.approx(expected)
    assert "over all 12 comparisons of this report" in (finished.folder / "report.html").read_text()


# --- what it cost


def test_each_stage_keeps_the_memory_it_was_made_with(finished: RunResult) -> None:
    peaks = [row["peak_rss_bytes"] for row in finished.details["stages"]]
    assert finished.report["peak_rss_bytes"] == max(peaks)
    assert len(set(peaks)) > 1
    for record in ledger_of(finished.folder):
        manifest = json.loads((artifact(finished.folder, record["stage"]) / "manifest.json").read_text())
        assert manifest["peak_rss_bytes"] == record["peak_rss_bytes"]


# --- what commands read of a finished run


def test_the_cards_command_names_a_config_that_is_there(finished: RunResult) -> None:
    from sdretrieval.cli.export import card_facts
    from sdretrieval.cli.lookup import Serving

    corpus = load_corpus(artifact(finished.folder, "0/corpus") / "corpus")
    first = card_facts(Serving.of(finished.folder), corpus).command.splitlines()[0]
    named = first.removeprefix("sdretrieval run ")
    runs = finished.folder.parent
    assert (runs.parent / named).samefile(finished.folder / "config.yaml")
    assert str(runs) not in named


def edit_serving(folder: Path, **student: Any) -> None:
    path = folder / "serving.json"
    record = json.loads(path.read_text())
    record["config"]["student"] |= student
    path.write_text(json.dumps(record))
    sealed_again(folder)


def test_a_run_is_evaluated_as_its_config_says(finished_copy: Path, tiny_student: Path) -> None:
    from sdretrieval.cli.lookup import find_model

    assert (find_model("tiny", finished_copy).trust_remote_code, find_model("tiny", finished_copy).precision) == (
        False, "float32",
    )  # fmt: skip
    edit_serving(finished_copy / "tiny", trust_remote_code=True, encode_precision="bfloat16")
    found = find_model("tiny", finished_copy)
    assert (found.trust_remote_code, found.precision) == (True, "bfloat16")
    assert find_model(str(tiny_student), finished_copy).trust_remote_code is False


def test_a_run_with_precision_auto_writes_what_was_measured_into_its_config(
    make_config: MakeConfig, tmp_path: Path
) -> None:
    from sdretrieval.cli.lookup import find_model

    assert run_config(make_config("student.encode_precision=auto"), runs=tmp_path) is not None
    measured = json.loads((artifact(tmp_path / "tiny", "0/precision") / "precision.json").read_text())["encode"]
    written = tmp_path / "tiny" / "config.yaml"
    first = "# What auto meant as a number format is written out: student.encode_precision "
    assert written.read_text().startswith(f"{first}{measured}, train.precision float32.")
    assert load_config(written) == make_config(f"student.encode_precision={measured}")
    assert find_model("tiny", tmp_path).precision == measured
    assert all(line.cached for line in plan_config(written, runs=tmp_path)), "what it says is what was made"


def test_evaluate_encodes_a_run_in_its_own_precision(finished_copy: Path, tiny_corpus: Path) -> None:
    from sdretrieval.cli.evaluate import evaluate_models

    def vectors() -> dict[str, np.ndarray[Any, Any]]:
        evaluate_models("tiny", str(tiny_corpus), runs=finished_copy)
        made = (finished_copy / "store" / "artifacts").glob("*/*/manifest.json")
        records = [(json.loads(path.read_text()), path.parent) for path in made]
        return {
            record["identity"].get("precision", "float32"): np.load(folder / "vectors.npy")
            for record, folder in records
            if record["stage"] == "evaluate-vectors" and record["identity"]["side"] == "documents"
        }

    assert set(vectors()) == {"float32"}
    edit_serving(finished_copy / "tiny", encode_precision="bfloat16")
    both = vectors()
    assert 1e-5 < np.abs(both["float32"] - both["bfloat16"]).max() < 0.05


OWN_CODE = """
from transformers import BertConfig, BertModel

class OwnConfig(BertConfig):
    model_type = "own"

class OwnModel(BertModel):
    config_class = OwnConfig
"""


def test_code_of_a_runs_own_model_runs_where_the_runs_config_trusts_it_and_never_in_a_bundle(
    finished_copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sdretrieval.cli.export import export_run
    from sdretrieval.cli.lookup import find_model, load_found

    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    student = finished_copy / "tiny" / "student"
    (student / "own.py").write_text(OWN_CODE)
    config = json.loads((student / "config.json").read_text())
    named = {"AutoConfig": "own.OwnConfig", "AutoModel": "own.OwnModel"}
    (student / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": named}))
    edit_serving(finished_copy / "tiny")
    with pytest.raises(ModelError, match="does not load as a bi-encoder"):
        load_found(find_model("tiny", finished_copy))
    edit_serving(finished_copy / "tiny", trust_remote_code=True)
    assert type(load_found(find_model("tiny", finished_copy)).model[0].auto_model).__name__ == "OwnModel"
    with pytest.raises(ModelError, match=r"student\.trust_remote_code: true\), a bundle is opened without it"):
        export_run("tiny", tmp_path / "bundle", runs=finished_copy)
    assert not (tmp_path / "bundle").exists()


def _record(stage: str, key: str, seconds: float, **counts: int) -> dict[str, Any]:
    return {"stage": stage, "key": key, "seconds": seconds, "counts": counts}


def test_what_a_generation_found_costs_nothing_and_a_mixture_belongs_to_the_next() -> None:
    """The first was refused and a mixture taken, which was encoded to be tried. The lists stayed as they were."""
    records = [
        _record("1/encode", "base", 10, document_tokens=100),
        _record("1/mine", "lists", 2, candidates=50),
        _record("1/train:hard_labels", "control", 9, updates=5),
        _record("1/train", "one", 8, updates=5),
        _record("2/encode", "candidate", 10, document_tokens=100),
        _record("1m0.25/encode", "quarter", 11, document_tokens=100),
        _record("1m0.5/encode", "half", 12, document_tokens=100),
        _record("2/encode", "half", 12, document_tokens=100),
        _record("2/mine", "lists", 2, candidates=50),
        _record("2/train", "two", 4, updates=2),
        _record("3/encode", "last", 10, document_tokens=100),
    ]
    costs = {row["stage"]: row for row in generation_costs(records, 2)}
    assert set(costs) == {"encode", "mine", "train", "all"}
    assert (costs["encode"]["amount"], costs["encode"]["seconds"]) == (100, 12)
    assert (costs["mine"]["amount"], costs["mine"]["over_first"]) == (0, [0, 0])
    assert costs["train"]["over_first"] == [0.4, 0.5]
    assert (costs["all"]["seconds_first"], costs["all"]["seconds"]) == (20, 16)
