"""Runs whose vectors have a lexical half: measured beside the plain base, learned beside, saved, exported, searched."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from sdretrieval.cli.evaluate import evaluate_models
from sdretrieval.cli.export import export_run
from sdretrieval.cli.search import search
from sdretrieval.config import load_config
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.errors import ModelError, RequestError
from sdretrieval.export.searcher import Searcher
from sdretrieval.export.verify import verify_bundle
from sdretrieval.indexes.half_module import load_with_half
from sdretrieval.indexes.lexical_half import LexicalHalf
from sdretrieval.ragged import Array
from sdretrieval.run.api import plan_config, run_config
from sdretrieval.stages.collection import Collection
from sdretrieval.store.runner import Artifact
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, keys_of, to_run

DIMS, PLAIN = 16, 32
HALF = f"student.lexical_half.dims={DIMS}"
QUERY = "bronze sculpture from Riga"


@pytest.fixture(scope="module")
def run(make_config: MakeConfig, tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Documents alone: some queries are made from them. The test queries keep their judgements."""
    source = Path(shutil.copytree(tiny_corpus, tmp_path_factory.mktemp("corpus") / "tiny"))
    cfg = {"source": str(source), "labels": False, "dev_queries": 30, "generated_queries": 40}
    return run_config(make_config(HALF, corpus=cfg), runs=tmp_path_factory.mktemp("half"))


def vectors(folder: Path, address: str, side: str = "documents") -> Array:
    return np.array(Embeddings.load(artifact(folder, address) / side).vectors_WD)


def test_the_report_has_the_base_without_and_with_the_half(run: Any) -> None:
    means = {system: values["nDCG@10"] for system, values in run.report["measures"].items()}
    assert run.report["systems"][:3] == ["bm25", "student_0", "half_0"]
    assert means["half_0"] > means["student_0"] + 0.1  # a random student: words are all there is to know
    assert ("final", "half_0") in {(test["a"], test["b"]) for test in run.report["tests"]}


def test_training_moves_the_transformers_dims_alone(run: Any) -> None:
    before, after = vectors(run.folder, "1/encode:half"), vectors(run.folder, "2/encode:half")
    assert before.shape[1] == PLAIN + DIMS
    np.testing.assert_array_equal(before[:, PLAIN:], after[:, PLAIN:])
    assert np.abs(before[:, :PLAIN] - after[:, :PLAIN]).max() > 0.01


def test_the_average_that_teaches_has_the_half_in_every_window(run: Any) -> None:
    """Without it a teacher knows less of words than its student, and would teach to undo the half."""
    folder, half_ND = run.folder, np.load(artifact(run.folder, "0/lexical_half") / "documents.npy")
    taught = Embeddings.load(artifact(folder, "1/encode:teacher0:half") / "documents")
    of_window = np.repeat(np.arange(len(half_ND)), np.diff(taught.windows))
    assert len(of_window) > len(half_ND), "some documents have several windows"
    np.testing.assert_array_equal(taught.vectors_WD[:, PLAIN:], half_ND[of_window])


def test_an_adapter_learns_beside_the_half(run: Any) -> None:
    asked = ["student.train=adapter", "train.learning_rate=1e-2", "name=adapter"]
    result = run_config(load_config(run.folder / "config.yaml", asked), runs=run.folder.parent)
    assert result is not None
    before, after = vectors(result.folder, "1/encode:half"), vectors(result.folder, "2/encode:half")
    np.testing.assert_array_equal(before[:, PLAIN:], after[:, PLAIN:])
    assert np.abs(before[:, :PLAIN] - after[:, :PLAIN]).max() > 0.001


def test_a_document_meets_the_query_made_from_it_without_its_words(run: Any) -> None:
    keys = keys_of(run.folder)
    made = (Artifact(keys[f"0/{name}"], artifact(run.folder, f"0/{name}")) for name in ("corpus", "queries"))
    collection, stored = Collection(*made), artifact(run.folder, "0/lexical_half")
    half, removed_PD = LexicalHalf.load(stored / "fitted"), np.load(stored / "query_removed.npy")
    documents_ND, queries_QD = np.load(stored / "documents.npy"), np.load(stored / "queries.npy")
    lost = [
        queries_QD[collection.corpus.query_row[one.query]] @ (documents_ND[one.document_row] - removed_PD[position])
        for position, one in enumerate(collection.query_removed)
    ]
    assert len(lost) == len(removed_PD) and np.mean(lost) > 0.003
    texts = [one.text for one in collection.query_removed[:5]]
    np.testing.assert_allclose(half.documents(texts), removed_PD[:5], atol=1e-5)
    joined = vectors(run.folder, "1/encode:half", "query_removed")
    np.testing.assert_array_equal(joined[:, PLAIN:], removed_PD[: len(joined)])


def test_the_folder_gives_the_vectors_that_were_indexed(run: Any) -> None:
    student = run.folder / "student"
    corpus = Collection(Artifact("", artifact(run.folder, "0/corpus"))).corpus
    for model in (load_with_half(student), SentenceTransformer(str(student), trust_remote_code=True, device="cpu")):
        assert model.similarity_fn_name == "dot" and model.get_embedding_dimension() == PLAIN + DIMS
        found = model.encode_document(list(corpus.document_texts()[:4]))
        np.testing.assert_allclose(found, vectors(run.folder, "final/encode:half")[:4], atol=1e-5)
        found = model.encode_query(corpus.query_texts([0, 1]))
        np.testing.assert_allclose(found, vectors(run.folder, "final/encode:half", "queries")[:2], atol=1e-5)
    with pytest.raises(RequestError, match="call encode_query or encode_document"):
        model.encode(["a text"])
    assert SentenceTransformer(str(student / "transformer")).get_embedding_dimension() == PLAIN


def test_search_evaluate_and_export_use_both_halves(run: Any, tiny_corpus: Path, tmp_path: Path) -> None:
    runs, name = run.folder.parent, run.folder.name
    hits = search(name, QUERY, runs=runs).hits
    plain = search(name, QUERY, base=True, runs=runs).hits
    assert [hit.document_id for hit in plain] != [hit.document_id for hit in hits]
    manifest = export_run(name, tmp_path / "bundle", runs=runs)
    assert manifest.dims == PLAIN + DIMS and verify_bundle(tmp_path / "bundle").ok
    found = Searcher.open(tmp_path / "bundle").search(QUERY)
    assert [(one.document_id, round(one.score, 4)) for one in found] == [
        (one.document_id, round(one.score, 4)) for one in hits
    ]
    assert "trust_remote_code=True" in (tmp_path / "bundle" / "README.md").read_text()
    measured = evaluate_models(name, str(tiny_corpus), measures=["nDCG@10"], runs=runs)["measures"]
    assert measured[name]["nDCG@10"] == pytest.approx(run.report["measures"]["final"]["nDCG@10"], abs=0.03)


def test_another_strength_fits_the_half_again_and_encodes_nothing(run: Any) -> None:
    config, runs = load_config(run.folder / "config.yaml"), run.folder.parent
    assert not to_run(plan_config(config, runs=runs))
    todo = to_run(plan_config(load_config(run.folder / "config.yaml", ["student.lexical_half.strength=2"]), runs=runs))
    assert todo["0/lexical_half"] == "changed: strength" and {"1/encode:half", "1/index", "1/train"} <= set(todo)
    assert not {"0/lexical", "1/encode", "student_0/evaluate:test"} & set(todo)


def test_a_bundle_without_texts_is_refused(run: Any, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="lexical half holds the documents' words, which --no-texts leaves out"):
        export_run(run.folder.name, tmp_path / "bundle", texts=False, runs=run.folder.parent)


def test_a_base_with_a_half_of_another_corpus_is_refused(run: Any, make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(student={"model": str(run.folder / "student"), "max_tokens": 64})
    with pytest.raises(ModelError, match=r"fitted to the words of another corpus; .* name .*student/transformer"):
        plan_config(config, runs=tmp_path)


def test_an_index_that_needs_length_1_is_refused_before_the_run(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="length 1"):
        run_config(make_config(HALF, "index.kind=LSH", "index.rescore=4"), runs=tmp_path)
