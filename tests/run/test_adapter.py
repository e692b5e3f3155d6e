"""Runs that learn a linear map behind the base student: every vector follows from the base's, no text is read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from sdretrieval.cli.export import export_run
from sdretrieval.corpus import load_corpus
from sdretrieval.encode.adapter import adapter_alone, matrix_of, with_adapter
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.student import load_student
from sdretrieval.errors import ConfigError, ModelError
from sdretrieval.export.verify import verify_bundle
from sdretrieval.ragged import Array
from sdretrieval.run.api import run_config
from tests.helpers.runs.tiny_runs import EMA, MakeConfig, artifact, keys_of, ledger_of

LEARNS = (
    "student.train=adapter", "mine.keep=30", "train.candidates_per_query=30", "train.hard_label_weight=1.0",
    "train.learning_rate=1e-2", "train.epochs=30", "gate.tolerance=0.2",
)  # fmt: skip


@pytest.fixture(scope="module")
def run(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Two generations and both controls."""
    config = make_config(*LEARNS, "generations=2", "evaluate.controls=[hard_labels, shuffled_teacher]")
    result = run_config(config, runs=tmp_path_factory.mktemp("adapter"))
    assert result is not None and result.report["generations"][0]["decision"] == "accepted"
    return result


def vectors(folder: Path, address: str, side: str) -> Array:
    return np.array(Embeddings.load(artifact(folder, address) / side).vectors_WD)


def test_no_text_is_encoded_after_the_base(run: Any) -> None:
    encoded = {one["stage"]: one["counts"] for one in ledger_of(run.folder) if "/encode" in one["stage"]}
    assert {"2/encode", "2/encode:teacher0", "3/encode", "hard_labels/encode", "shuffled_teacher/encode"} <= set(
        encoded
    )
    for address, counts in encoded.items():
        assert ("document_tokens" in counts) == address.startswith("1/encode"), address
        assert ("documents_mapped" in counts) != address.startswith("1/encode"), address


def test_mapped_vectors_are_those_of_the_folder_that_is_served(run: Any, tiny_student: Path) -> None:
    model = SentenceTransformer(str(run.folder / "student"), device="cpu")
    base = SentenceTransformer(str(tiny_student), device="cpu")
    for mine, theirs in zip(model[0].parameters(), base[0].parameters(), strict=True):
        assert (mine == theirs).all(), "the encoder is the base's"
    texts = ["ore in oslo", "salt in lima", "tin"]
    served = model.encode_query(texts)
    old = base.encode_query(texts) @ matrix_of(model)
    np.testing.assert_allclose(served, old / np.linalg.norm(old, axis=1, keepdims=True), atol=1e-5)
    stored, before = (vectors(run.folder, address, "queries") for address in ("final/encode", "1/encode"))
    assert np.abs(stored - before).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(stored, axis=1), 1, atol=1e-5)
    assert any("a linear map behind the base student" in note for note in run.details["notes"])


def test_the_map_of_the_first_generation_learns_on_in_the_second(run: Any) -> None:
    first, second = (
        matrix_of(load_student(str(artifact(run.folder, f"{number}/train") / "student"), max_tokens=32).model)
        for number in (1, 2)
    )
    one = np.eye(len(first))
    assert np.abs(first - second).max() > 0 and np.abs(second - first).mean() < np.abs(second - one).mean()
    average = load_student(str(artifact(run.folder, "1/train") / "average"), max_tokens=32).model
    assert 0 < np.abs(matrix_of(average) - one).mean() < np.abs(first - one).mean()


def test_it_is_exported_and_verified(run: Any, tmp_path: Path) -> None:
    export_run(run.folder.name, tmp_path / "bundle", runs=run.folder.parent)
    assert verify_bundle(tmp_path / "bundle").ok


def test_synthetic_queries_and_a_merge(make_config: MakeConfig, tiny_corpus: Path, tmp_path: Path) -> None:
    corpus = {"source": str(tiny_corpus), "labels": False, "dev_queries": 24, "generated_queries": 60}
    config = make_config(*LEARNS, "gate.tolerance=0.0001", "train.learning_rate=3", corpus=corpus)
    result = run_config(config, runs=tmp_path)
    assert result is not None and result.report["generations"][0]["decision"] in ("rejected", "merged")
    assert "1m0.5/encode" in keys_of(result.folder), "half of the way from the base, which has no map"
    removed = next(one["counts"] for one in ledger_of(result.folder) if one["stage"] == "1/encode:hidden")
    assert removed["query_removed_windows_reused"] > 0, "the base's average has read them"


def test_an_adapter_changes_nothing_until_it_learns(tiny_student: Path) -> None:
    model = SentenceTransformer(str(tiny_student), device="cpu")
    before = model.encode(["ore in oslo"])
    with_adapter(model)
    np.testing.assert_allclose(model.encode(["ore in oslo"]), before, atol=1e-6)
    assert adapter_alone(model)[0] is model[-2]


def test_a_base_with_an_adapter_gets_another_one(run: Any, make_config: MakeConfig, tmp_path: Path) -> None:
    student = {"model": str(run.folder / "student"), "train": "adapter", "max_tokens": 32}
    result = run_config(make_config(*LEARNS, "gate.tolerance=1", student=student), runs=tmp_path)
    assert result is not None and result.report["generations"][0]["decision"] == "accepted"
    model = SentenceTransformer(str(result.folder / "student"), device="cpu")
    base = SentenceTransformer(str(run.folder / "student"), device="cpu")
    assert len(model) == len(base) + 2 and np.array_equal(matrix_of(base), matrix_of_first(model))
    corpus = load_corpus(artifact(result.folder, "0/corpus") / "corpus")
    served = model.encode_query(corpus.query_texts()[:5])
    np.testing.assert_allclose(vectors(result.folder, "final/encode", "queries")[:5], served, atol=1e-4)


def matrix_of_first(model: SentenceTransformer) -> Array:
    """Of the adapter before the last."""
    return np.asarray(model[-4].linear.weight.detach().T)


def test_what_cannot_learn_an_adapter_is_refused(make_config: MakeConfig, tiny_student: Path, tmp_path: Path) -> None:
    model = SentenceTransformer(str(tiny_student), device="cpu")
    longer = SentenceTransformer(modules=list(model.children())[:2], similarity_fn_name="dot", device="cpu")
    longer.save(str(tmp_path / "longer"), create_model_card=False)
    config = make_config(*LEARNS, student={"model": str(tmp_path / "longer"), "train": "adapter", "max_tokens": 32})
    with pytest.raises(ModelError, match="makes vectors of other lengths than 1; student.train is adapter, one linear"):
        run_config(config, runs=tmp_path)
    live = {**EMA, "mode": "live"}
    with pytest.raises(ConfigError, match="student.train is adapter: batches bring vectors, and a live teacher reads"):
        make_config(*LEARNS, teacher=live)


def test_it_learns_beside_a_lexical_half(make_config: MakeConfig, tiny_corpus: Path, tmp_path: Path) -> None:
    corpus = {"source": str(tiny_corpus), "labels": False, "dev_queries": 24, "generated_queries": 60}
    result = run_config(make_config(*LEARNS, "student.lexical_half.dims=16", corpus=corpus), runs=tmp_path)
    assert result is not None
    before, after = (vectors(result.folder, f"{number}/encode:half", "documents") for number in (1, 2))
    np.testing.assert_array_equal(before[:, 32:], after[:, 32:])
    assert np.abs(before[:, :32] - after[:, :32]).max() > 0.01
