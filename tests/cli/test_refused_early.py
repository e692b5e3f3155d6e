"""What used to be noticed after hours is refused before the first stage: exit code 2, and an empty store."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.config import load_config
from sdretrieval.indexes.faiss_library import gpu_count
from sdretrieval.run.api import dry_run
from sdretrieval.run.preflight import check_stage_exists
from sdretrieval.store import Ledger, Store
from tests.cli.conftest import Call, Done, Finished
from tests.helpers import tiny

Refused = Callable[..., Done]


@pytest.fixture
def refused(config: Path, tmp_path: Path, call: Call) -> Refused:
    """`refused(*arguments)`: the command, which must be refused before anything was made."""

    def run(*arguments: object) -> Done:
        done = call("run", config, "--runs", tmp_path / "runs", *arguments)
        assert (done.code, done.out) == (2, ""), done.err
        assert "Traceback" not in done.err
        assert not list(tmp_path.glob("runs/store/artifacts/*/*"))
        assert not (tmp_path / "runs" / "tiny").exists()
        return done

    return run


def changed_model(model: Path, folder: Path, **settings: Any) -> Path:
    """A copy of a model whose config.json says something else; None takes a setting out."""
    copy = Path(shutil.copytree(model, folder))
    card = json.loads((copy / "config.json").read_text()) | settings
    (copy / "config.json").write_text(json.dumps({name: value for name, value in card.items() if value is not None}))
    return copy


def reranker(model: Path, tokens: int = 64) -> str:
    return f"teacher={{kind: cross_encoder, model: {model}, max_tokens: {tokens}}}"


def test_faiss_is_missing(refused: Refused, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    assert "neither faiss-cpu nor faiss-gpu is installed; run: pip install faiss-cpu" in refused().err


@pytest.mark.skipif(gpu_count() > 0, reason="faiss sees a GPU")
def test_a_gpu_is_asked_for_where_there_is_none(refused: Refused) -> None:
    said = refused("--set", "index.device=cuda").err
    assert "index device cuda: faiss sees 0 GPUs; set device to auto or cpu" in said
    assert "pip install faiss-gpu" in said


def test_a_graph_on_the_gpu(refused: Refused) -> None:
    expected = (
        'index.device: found "cuda", but index.kind is HNSW32: GPUs hold exact, and IVF with Flat, SQfp16 or SQ8;'
    )
    assert expected in refused("--set", "index={kind: HNSW32, device: cuda}").err


def test_codes_that_do_not_fit_the_students_dims(refused: Refused) -> None:
    message = refused("--set", "index.kind=PQ12").err
    assert "index kind 'PQ12' makes no index by inner product of 32 dims: " in message
    assert "(32 dims can be cut into 1, 2, 4, 8, 16, 32 parts); see github.com/" in message


def test_a_factory_string_that_faiss_does_not_know(refused: Refused) -> None:
    message = refused("--set", "index.kind=PQ16x").err
    assert (
        "index kind 'PQ16x' makes no index by inner product of 32 dims: could not parse index string PQ16x" in message
    )


def test_a_bi_encoder_as_cross_encoder(refused: Refused, tiny_student: Path, tmp_path: Path) -> None:
    assert "is no cross-encoder: its architecture is BertModel" in refused("--set", reranker(tiny_student)).err
    nameless = changed_model(tiny_student, tmp_path / "nameless", architectures=None)
    assert "is no cross-encoder: modules.json names a Pooling" in refused("--set", reranker(nameless)).err


@pytest.mark.parametrize(
    ("kind", "model", "expected"),
    [
        ("sparse", "student", "is no SparseEncoder: config_sentence_transformers.json says SentenceTransformer; choose "
         "a model that sentence-transformers saved as a SparseEncoder, or give it to a teacher of kind: dense"),
        ("multi_vector", "sparse", "as a MultiVectorEncoder, or give it to a teacher of kind: sparse"),
        ("sparse", "multi_vector", "as a SparseEncoder, or give it to a teacher of kind: multi_vector"),
        ("sparse", "sparse-bert", "is no SparseEncoder: config.json says BertForMaskedLM; choose a model that"),
        ("dense", "multi_vector", "choose a bi-encoder, or give it to a teacher of kind: multi_vector"),
        ("dense", "sparse", "choose a bi-encoder, or give it to a teacher of kind: sparse"),
    ],
)  # fmt: skip
def test_an_encoder_of_another_kind(
    kind: str, model: str, expected: str, refused: Refused, tiny_student: Path, tmp_path: Path
) -> None:
    folder = tiny_student
    if model != "student":
        write = tiny.write_multi_vector if model == "multi_vector" else tiny.write_sparse
        folder = write(tmp_path / model.removesuffix("-bert")).with_name(model)
    assert expected in refused("--set", f"teacher={{kind: {kind}, model: {folder}}}").err


def test_a_classifier_as_cross_encoder(refused: Refused, tiny_cross_encoder: Path, tmp_path: Path) -> None:
    two = changed_model(tiny_cross_encoder, tmp_path / "two", id2label=None, label2id=None)
    assert "has 2 outputs, expected 1 relevance logit; choose a reranker" in refused("--set", reranker(two)).err


def test_a_part_to_freeze_that_the_student_lacks(refused: Refused) -> None:
    said = refused("--set", "train.freeze=[word_embedings]").err
    assert "train.freeze: no parameter's name holds 'word_embedings'; names look like " in said
    assert "leaves no parameter to learn; freeze less" in refused("--set", "train.freeze=[layers:9, pooler]").err


def test_all_problems_are_said_at_once(refused: Refused, tmp_path: Path) -> None:
    nowhere, broken = tmp_path / "nowhere", tmp_path / "broken"
    said = refused("--set", f"corpus.source={nowhere}", "--set", f"student.model={broken}", "--until", "1/mien").err
    assert "3 problems:" in said
    for expected in (str(nowhere), str(broken), "--until 1/mien"):
        assert expected in said


@pytest.mark.parametrize("padding", [1, None])
def test_roberta_counts_positions_from_the_padding_on(
    refused: Refused, padding: int | None, tiny_student: Path, tiny_cross_encoder: Path, tmp_path: Path
) -> None:
    kin = {"model_type": "xlm-roberta", "max_position_embeddings": 130, "pad_token_id": padding}
    student = changed_model(tiny_student, tmp_path / "student", **kin)
    expected = "has 128 positions, max_tokens asks for 129; set max_tokens to at most 128"
    assert expected in refused("--set", f"student.model={student}", "--set", "student.max_tokens=129").err
    teacher = changed_model(tiny_cross_encoder, tmp_path / "teacher", **kin)
    assert expected in refused("--set", reranker(teacher, 129)).err


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("1/train:typo", "--until 1/train:typo: this config has no such stage; did you mean 1/train?"),
        ("1/train:hard_labels", "--until 1/train:hard_labels: this config has no such stage; "),
        ("1/encode:teacher1", "did you mean 1/encode?"),
        ("1/evaluate", "did you mean 1/evaluate:"),
        ("0/evaluate:bm52:dev", "did you mean 0/evaluate:bm25:dev"),
        ("0/precision", "only train.precision: auto or student.encode_precision: auto make a run measure it"),
        ("1/merge:0.3", "--until 1/merge:0.3: this config has no such stage; "),
        ("hard_labels/encode", "this config has no such stage; "),
    ],
)
@pytest.mark.parametrize("worker", [(), ("--worker",)])
def test_a_stage_that_the_run_does_not_have(
    refused: Refused, until: str, expected: str, worker: tuple[str, ...]
) -> None:
    assert expected in refused("--until", until, *worker).err


def test_a_run_probes_only_if_it_is_asked_to(refused: Refused) -> None:
    said = refused("--until", "0/probe", "--set", "probe.guard=false").err
    assert "no such stage; only probe.guard and weight: auto make a run probe; `sdretrieval probe` does it" in said


def test_stages_are_known_beforehand(finished: Finished) -> None:
    stages = dry_run(load_config(finished.config), Store(finished.runs / "store"))
    addresses = {stage.address for stage in stages}
    assert addresses == {record["stage"] for record in Ledger(finished.runs / "tiny" / "ledger.jsonl").read()}
    assert all(stage.cached for stage in stages)
    check_stage_exists("1/merge:0.25", addresses, generations=1)
    check_stage_exists("1m0.75/evaluate:dev", addresses, generations=1)
    check_stage_exists("1m0.5/gate", addresses, generations=1)


@pytest.mark.parametrize("worker", [(), ("--worker",)])
def test_a_run_that_never_meets_until_writes_no_report(
    finished: Finished, tmp_path: Path, call: Call, worker: tuple[str, ...]
) -> None:
    runs = Path(shutil.copytree(finished.runs, tmp_path / "runs"))
    (runs / "tiny" / "report.json").unlink()
    done = call("run", finished.config, "--runs", runs, "--until", "1/merge:0.25", *worker)
    assert done.code == 1
    assert "--until 1/merge:0.25: the run ended without that stage, since a gate or the probe decided" in done.err
    assert "run again without --until for the report" in done.err
    assert not (runs / "tiny" / "report.json").exists()


def test_a_plan_refuses_a_folder_that_a_run_refuses(config: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "one.odt").write_text("a text")
    done = call("plan", config, "--runs", tmp_path, "--set", f"corpus.source={tmp_path / 'papers'}")
    assert (done.code, done.out) == (2, "")
    assert "papers is no BEIR folder: corpus.jsonl missing; it holds 'one.odt'" in done.err


def test_lists_too_short_to_learn_from(config: Path, tmp_path: Path, tiny_corpus: Path, call: Call) -> None:
    """Every query is one of the only two documents, by its id, and a query's own document is never its candidate."""
    folder = tmp_path / "pair"
    (folder / "qrels").mkdir(parents=True)
    lines = (tiny_corpus / "corpus.jsonl").read_text().splitlines()[:2]
    for name in ("corpus.jsonl", "queries.jsonl"):
        (folder / name).write_text("\n".join(lines) + "\n")
    first, second = (json.loads(line)["_id"] for line in lines)
    for split, row in (("train", f"{first}\t{second}"), ("dev", f"{second}\t{first}"), ("test", f"{second}\t{first}")):
        (folder / "qrels" / f"{split}.tsv").write_text(f"query-id\tcorpus-id\tscore\n{row}\t1\n")
    other = ("--set", f"corpus.source={folder}", "--set", "probe.guard=false")
    done = call("run", config, "--runs", tmp_path / "runs", *other)
    assert done.code == 1, done.err
    expected = (
        "1/mine: no query has a list of 2 documents or more, the least that can teach an order (the corpus has 2 "
    )
    assert expected in done.err
    assert "Traceback" not in done.err
