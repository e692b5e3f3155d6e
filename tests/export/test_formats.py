"""Every added format gives torch's vectors and hits; a missing engine is named with the pip command."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.encode.prompts import Prompts
from sdretrieval.encode.student import load_student, save_student
from sdretrieval.errors import DamagedArtifact, MissingPackageError, ModelError, WorkError
from sdretrieval.export import encoders
from sdretrieval.export.bundle import export_bundle
from sdretrieval.export.encoders import graphs_of, torch_encoder
from sdretrieval.export.layout import GRAPHS, Manifest, read_manifest
from sdretrieval.export.searcher import Searcher
from sdretrieval.export.verify import nearness, verify_bundle
from tests.export.conftest import LIMITS, PROMPTS

ENGINES = {"onnx": "onnxruntime", "onnx-int8": "onnxruntime", "openvino": "openvino"}


def need(format: str) -> None:
    for package in ("onnx", ENGINES[format]):
        if find_spec(package) is None:
            pytest.skip(f"format {format} needs {package}, which is not installed: pip install 'sdretrieval[export]'")


@pytest.fixture(scope="module", params=list(ENGINES))
def exported(request: pytest.FixtureRequest, given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that holds one added format. Read only."""
    need(request.param)
    folder = tmp_path_factory.mktemp("formats") / str(request.param)
    export_bundle(folder, **given, formats=[request.param])
    return folder


def test_the_bundle_verifies_in_every_format(exported: Path) -> None:
    found = verify_bundle(exported)
    assert found.ok, found.to_json()
    assert [check.name for check in found.checks[2:]] == [
        f"{format}: {what}" for format in ("torch", exported.name) for what in ("vectors", "top 10")
    ]


def test_vectors_of_any_length_agree_with_torch(exported: Path, given: dict[str, Any]) -> None:
    torch, other = (Searcher.open(exported, format=format, device="cpu") for format in ("torch", exported.name))
    texts = ["", "ore", *(given["documents"].full_text(row) for row in range(30))]
    least = 0.95 if exported.name == "onnx-int8" else 0.9999
    assert nearness(torch.encoder.documents(texts), other.encoder.documents(texts)).min() >= least
    assert nearness(torch.encoder.queries(texts), other.encoder.queries(texts)).min() >= least


def test_a_vector_does_not_depend_on_the_texts_beside_it(exported: Path, given: dict[str, Any]) -> None:
    encoder = Searcher.open(exported, format=exported.name, device="cpu").encoder
    texts = [given["documents"].full_text(row) for row in range(12)]
    alone = np.concatenate([encoder.documents([text]) for text in texts])
    np.testing.assert_allclose(encoder.documents(texts), alone, atol=1e-5)


def test_search_in_the_format_finds_the_same(exported: Path, given: dict[str, Any]) -> None:
    torch, other = (Searcher.open(exported, format=format, device="cpu") for format in ("torch", exported.name))
    shared = [
        len({hit.document_id for hit in torch.search(query)} & {hit.document_id for hit in other.search(query)}) / 10
        for query in given["canary_queries"][:20]
    ]
    assert np.mean(shared) >= (0.6 if exported.name == "onnx-int8" else 1.0)


@pytest.mark.parametrize("format", list(ENGINES))
def test_queries_and_documents_of_two_encoders_have_a_graph_each(
    format: str, given: dict[str, Any], tmp_path: Path
) -> None:
    need(format)
    from tests.helpers import tiny

    asks, holds = (
        load_student(str(folder), **LIMITS, prompts=PROMPTS, device="cpu").model
        for folder in (tiny.write_student(tmp_path / "other", seed=5), given["student_folder"])
    )
    save_student(asks, tmp_path / "pair", holds)
    export_bundle(tmp_path / "out", **given | {"student_folder": tmp_path / "pair"}, formats=[format])
    found = verify_bundle(tmp_path / "out")
    assert found.ok, found.to_json()
    torch, other = (Searcher.open(tmp_path / "out", format=name, device="cpu").encoder for name in ("torch", format))
    texts, least = ["ore in oslo", "kiln"], 0.95 if format == "onnx-int8" else 0.9999
    assert nearness(torch.queries(texts), other.queries(texts)).min() >= least
    assert nearness(torch.documents(texts), other.documents(texts)).min() >= least
    assert nearness(other.documents(texts), other.queries(texts)).max() < 0.95, "two encoders, two graphs"


def test_a_damaged_graph_is_a_failed_check(exported: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(exported, tmp_path / "copied"))
    graph = copied / GRAPHS[exported.name]
    graph.write_bytes(graph.read_bytes()[:100])
    names = {check.name for check in verify_bundle(copied).checks if not check.ok}
    assert names == {"files", exported.name}


def test_the_exported_student_stays_in_evaluation_mode(given: dict[str, Any], tmp_path: Path) -> None:
    need("onnx")
    student = load_student(str(given["student_folder"]), **LIMITS, prompts=PROMPTS, device="cpu")
    before = torch_encoder(student).documents(["the ore in oslo"])
    encoders.write_onnx(student, tmp_path / "model.onnx")
    assert not any(module.training for module in student.model.modules())
    np.testing.assert_array_equal(torch_encoder(student).documents(["the ore in oslo"]), before)


def test_a_format_that_leaves_torch_is_not_written(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    need("onnx")
    from tests.helpers import tiny

    other = load_student(str(tiny.write_student(tmp_path / "other", seed=5)), **LIMITS, device="cpu")
    right = encoders.write_onnx
    monkeypatch.setattr(encoders, "write_onnx", lambda student, path: right(other, path))
    with pytest.raises(WorkError, match="format onnx gives other vectors than torch: lowest cosine .* at least 0.9999"):
        export_bundle(tmp_path / "out", **given, formats=["onnx"])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", list(ENGINES))
def test_a_missing_package_is_named_before_work(
    format: str, given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=f"format {format} needs the package onnx, .*run: pip install onnx "):
        export_bundle(tmp_path / "out", **given, formats=[format])
    assert not list(tmp_path.iterdir())


def test_verify_without_the_engine_says_which_package_to_install(
    exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoders, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=f"needs the package {ENGINES[exported.name]}"):
        verify_bundle(exported)
    assert read_manifest(exported).formats == ["torch", exported.name]


def test_a_prompt_outside_pooling_needs_torch(given: dict[str, Any], tmp_path: Path) -> None:
    need("onnx")
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(given["student_folder"]), device="cpu")
    model[1].include_prompt = False
    model.save_pretrained(str(tmp_path / "student"), create_model_card=False)
    prompted = given | {"student_folder": tmp_path / "student", "prompts": Prompts("where is ")}
    with pytest.raises(ModelError, match="leaves its prompt 'where is ' out of pooling .*export --format torch"):
        export_bundle(tmp_path / "out", **prompted, formats=["onnx"])


@pytest.mark.parametrize("lost", ["model.onnx", "document.onnx"])
def test_a_lost_graph_is_not_answered_for_by_the_other_encoders(lost: str, tmp_path: Path) -> None:
    names = ["onnx/model.onnx", "onnx/document.onnx"]
    manifest = Manifest("two", ["torch", "onnx"], 32, 9, 64, 64, Prompts(), {}, {}, files=dict.fromkeys(names, ""))
    (tmp_path / "onnx").mkdir()
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in graphs_of(tmp_path, manifest, "onnx")] == ["model.onnx", "document.onnx"]
    (tmp_path / "onnx" / lost).unlink()
    with pytest.raises(DamagedArtifact, match=f"{lost} is missing: format onnx needs it; export the run again"):
        graphs_of(tmp_path, manifest, "onnx")
