"""Runs whose query encoder alone learns: documents keep vectors and index, and every way of use takes the right one."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from sdretrieval.cli.evaluate import evaluate_models
from sdretrieval.cli.export import export_run
from sdretrieval.cli.search import search
from sdretrieval.corpus import load_corpus
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.student import load_student
from sdretrieval.errors import ModelError
from sdretrieval.export.searcher import Searcher
from sdretrieval.export.verify import verify_bundle
from sdretrieval.ragged import Array
from sdretrieval.run.api import plan_config, run_config
from tests.helpers.runs.tiny_runs import EMA, MakeConfig, artifact, keys_of, ledger_of, made_in

QUERY = "student.train=query"
LEARNS = (QUERY, "mine.keep=30", "train.candidates_per_query=30", "train.hard_label_weight=1.0", "train.epochs=12")
"""What it takes for the tiny student's queries to find documents that a random encoder has placed."""


@pytest.fixture(scope="module")
def run(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two generations and both controls; the first generation is accepted."""
    config = make_config(*LEARNS, "generations=2", "evaluate.controls=[hard_labels, shuffled_teacher]")
    result = run_config(config, runs=tmp_path_factory.mktemp("query"))
    assert result is not None and result.report["generations"][0]["decision"] == "accepted"
    return result


def vectors(folder: Path, address: str, side: str = "documents") -> Array:
    return np.array(Embeddings.load(artifact(folder, address) / side).vectors_WD)


def counts(folder: Path, address: str) -> dict[str, Any]:
    return dict(next(record["counts"] for record in ledger_of(folder) if record["stage"] == address))


@pytest.mark.parametrize("address", ["2/encode", "3/encode", "hard_labels/encode", "final/encode"])
def test_documents_keep_the_base_students_vectors_and_queries_do_not(run: Any, address: str) -> None:
    before, after = (artifact(run.folder, one) / "documents" for one in ("1/encode", address))
    for name in ("vectors.npy", "windows.npy"):
        assert (before / name).read_bytes() == (after / name).read_bytes()
    assert (before / "vectors.npy").samefile(after / "vectors.npy"), "no second copy on the disk"
    assert np.abs(vectors(run.folder, "1/encode", "queries") - vectors(run.folder, address, "queries")).max() > 0.01


def test_no_document_is_encoded_after_the_base(run: Any) -> None:
    encoded = {record["stage"]: record["counts"] for record in ledger_of(run.folder) if "/encode" in record["stage"]}
    for address, found in encoded.items():
        assert (found["document_windows"] > 0) == address.startswith("1/encode"), address
        assert ("document_tokens" in found) == address.startswith("1/encode") and found["query_windows"] == 84, address
    assert {"2/encode", "2/encode:teacher0", "3/encode", "hard_labels/encode", "shuffled_teacher/encode"} <= set(
        encoded
    )


def test_the_index_is_one_and_made_once(run: Any) -> None:
    keys = keys_of(run.folder)
    indexes = {address: key for address, key in keys.items() if address.endswith("/index")}
    assert {"1/index", "2/index", "3/index", "final/index"} <= set(indexes)
    assert len(set(indexes.values())) == 1
    assert [address for address in made_in(run.folder) if address.endswith("/index")] == ["1/index"]
    assert keys["1/mine"] != keys["2/mine"], "the lists are mined again by the queries as they are now"


def test_the_average_teaches_by_the_base_students_windows(run: Any) -> None:
    first, second = (vectors(run.folder, f"{number}/encode:teacher0") for number in (1, 2))
    assert len(first) > 120 and (first == second).all()
    asked = [vectors(run.folder, f"{number}/encode:teacher0", "queries") for number in (1, 2)]
    assert np.abs(asked[0] - asked[1]).max() > 0.005


def test_a_run_of_both_sides_and_one_of_queries_share_what_comes_before_training(
    make_config: MakeConfig, finished: Any
) -> None:
    plan = {line.address: line.cached for line in plan_config(make_config(QUERY), runs=finished.folder.parent)}
    before = ("0/corpus", "0/tokens", "1/encode", "1/index", "1/mine", "1/score", "1/targets", "2/index")
    assert all(plan[address] for address in before)
    assert not any(plan[address] for address in ("1/train", "2/encode", "1/gate"))


def test_the_final_student_has_both_encoders(run: Any, tiny_student: Path) -> None:
    texts = ["where is the dough, yeast and oslo?", "kiln"]
    final, base = (SentenceTransformer(str(path), device="cpu") for path in (run.folder / "student", tiny_student))
    np.testing.assert_allclose(final.encode_document(texts), base.encode_document(texts), atol=1e-6)
    assert np.abs(final.encode_query(texts) - base.encode_query(texts)).max() > 0.01


def test_search_and_evaluate_and_a_bundle_ask_with_the_trained_encoder(
    run: Any, tiny_corpus: Path, tmp_path: Path
) -> None:
    runs = run.folder.parent
    corpus = load_corpus(artifact(run.folder, "0/corpus") / "corpus")
    row = corpus.split_rows("test")[0]
    scores = vectors(run.folder, "final/encode") @ vectors(run.folder, "final/encode", "queries")[row]
    best = [corpus.document_ids[n] for n in np.argsort(-scores)[:5]]
    text = corpus.query_texts([row])[0]
    assert [hit.document_id for hit in search(run.folder.name, text, 5, runs=runs).hits] == best
    told = evaluate_models(run.folder.name, str(tiny_corpus), runs=runs)["measures"][run.folder.name]
    assert told == pytest.approx(run.report["measures"]["final"], abs=1e-6)
    export_run(run.folder.name, tmp_path / "bundle", runs=runs)
    assert verify_bundle(tmp_path / "bundle").ok
    assert [hit.document_id for hit in Searcher.open(tmp_path / "bundle", device="cpu").search(text, 5)] == best
    card = (tmp_path / "bundle" / "README.md").read_text(encoding="utf8")
    assert "so that an index of the base's documents stays valid" in card


def test_the_report_says_that_the_index_stays_valid(run: Any) -> None:
    assert any("documents keep the base student's vectors" in note for note in run.details["notes"])
    assert "an index of them stays valid" in (run.folder / "report.html").read_text(encoding="utf8")


def test_a_rejected_generation_leaves_one_plain_encoder(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(QUERY, "train.learning_rate=1e-8", "train.epochs=0.2")
    result = run_config(config, runs=tmp_path)
    assert result is not None and result.report["generations"][0]["decision"] == "rejected"
    assert load_student(str(result.folder / "student"), max_tokens=64, device="cpu").document_encoder is None
    assert search("tiny", "dough", 3, runs=tmp_path).hits


def test_merges_mix_query_encoders(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(QUERY, "train.learning_rate=0.05", "train.epochs=1")
    result = run_config(config, runs=tmp_path)
    assert result is not None
    merged = [address for address in keys_of(result.folder) if address.startswith("1m")]
    assert {"1m0.25/index", "1m0.5/index", "1m0.75/index"} & set(merged)
    assert all(counts(result.folder, one)["document_windows"] == 0 for one in merged if one.endswith("/encode"))


def test_training_goes_on_from_the_query_encoder_that_a_run_left(
    run: Any, make_config: MakeConfig, tmp_path: Path
) -> None:
    student = {"model": str(run.folder / "student"), "max_tokens": 64, "device": "cpu"}
    with pytest.raises(ModelError, match='student.train is "both", which trains one for both sides: set it to query'):
        run_config(make_config(student=student), runs=tmp_path)
    result = run_config(make_config(*LEARNS, student={**student, "train": "query"}), runs=tmp_path)
    assert result is not None
    np.testing.assert_allclose(vectors(result.folder, "1/encode"), vectors(run.folder, "1/encode"), atol=1e-6)
    assert result.report["dev_measures"]["student_0"] == pytest.approx(run.report["dev_measures"]["final"], abs=1e-6)


@pytest.fixture(scope="module")
def of_documents(make_config: MakeConfig, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Queries made from documents, their words removed in training; a live average."""
    corpus = {
        "source": str(tiny_corpus), "labels": False, "dev_queries": 12, "generated_queries": 40,
    }  # fmt: skip
    config = make_config(QUERY, corpus=corpus, teacher={
        "kind": "ensemble", "members": [{**EMA, "mode": "live"}, {"kind": "lexical", "weight": 0.7}],
    })  # fmt: skip
    return run_config(config, runs=tmp_path_factory.mktemp("documents"))


def test_documents_without_the_queries_made_from_them_are_encoded_once_for_training(of_documents: Any) -> None:
    hidden = counts(of_documents.folder, "1/encode:hidden")["query_removed_windows"]
    assert hidden > counts(of_documents.folder, "1/encode")["query_removed_windows"], "dev's alone measure"
    whole, left = (
        vectors(of_documents.folder, "1/encode", "query_removed"),
        vectors(of_documents.folder, "1/encode:hidden", "query_removed"),
    )
    np.testing.assert_allclose(left[: len(whole)], whole, atol=1e-6)
    assert keys_of(of_documents.folder)["1/encode:hidden"] in next(
        record["inputs"] for record in ledger_of(of_documents.folder) if record["stage"] == "1/train"
    )


def test_the_log_says_so(make_config: MakeConfig, run: Any, caplog: pytest.LogCaptureFixture) -> None:
    config = make_config(*LEARNS, "generations=2", "evaluate.controls=[hard_labels, shuffled_teacher]")
    with caplog.at_level(logging.INFO, logger="sdretrieval"):
        run_config(config, runs=run.folder.parent)
    assert "only the query encoder learned: a document index that the base student made stays valid" in caplog.text
