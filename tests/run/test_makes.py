"""A static model, which has no transformer, through a whole run: refused by the gate, merged, exported, searched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from sdretrieval.cli.export import export_run
from sdretrieval.encode.student import load_student
from sdretrieval.errors import ModelError
from sdretrieval.export.encoders import check_graph
from sdretrieval.export.searcher import Searcher
from sdretrieval.run.api import run_config
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, made_in


@pytest.fixture(scope="module")
def static(tiny_student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "static"
    words = SentenceTransformer(str(tiny_student), device="cpu").tokenizer.backend_tokenizer
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        embedding = StaticEmbedding(words, embedding_dim=24)
    SentenceTransformer(modules=[embedding], device="cpu").save_pretrained(str(folder))
    return folder


def test_a_static_model_goes_the_whole_way(static: Path, make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(f"student.model={static}", "train.learning_rate=30", "train.epochs=0.4")
    result = run_config(config, runs=tmp_path)
    assert result is not None and result.report["generations"][0]["decision"] == "rejected"
    made, folder = made_in(tmp_path / "tiny"), tmp_path / "tiny"
    assert [f"1/merge:{share}" in made for share in (0.5, 0.25, 0.75)] == [True] * 3
    old, new, merged = (
        SentenceTransformer(str(one), device="cpu")[0].embedding.weight.detach().numpy()
        for one in (static, artifact(folder, "1/train") / "student", artifact(folder, "1/merge:0.25") / "student")
    )
    np.testing.assert_allclose(merged, 0.75 * old + 0.25 * new, atol=1e-3)
    assert np.abs(new - old).max() > 1

    export_run("tiny", tmp_path / "bundle", runs=tmp_path)
    hits = Searcher.open(tmp_path / "bundle", device="cpu").search("dough yeast oslo", 5)
    assert len(hits) == 5 and hits[0].score > 0.2


def test_a_static_model_has_no_graph(static: Path) -> None:
    with pytest.raises(ModelError, match="the student, or its one side, is static .* export --format torch"):
        check_graph(load_student(str(static), max_tokens=64, device="cpu"), ["torch", "onnx"])


def test_its_only_weights_are_not_frozen_by_default(static: Path, make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no parameter's name holds 'word_embeddings'; names look like 0.embedding.w"):
        run_config(make_config(f"student.model={static}", "train.freeze=[word_embeddings]"), runs=tmp_path)
