"""A bundle as its receiver sees it: complete, the same vectors by plain sentence-transformers, whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
from itertools import count
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from sdretrieval.encode.prompts import Prompts
from sdretrieval.errors import DamagedArtifact, RequestError, WorkError
from sdretrieval.export.bundle import export_bundle
from sdretrieval.export.documents import IndexedDocuments
from sdretrieval.export.layout import digests, is_bundle, read_manifest
from sdretrieval.export.searcher import Searcher
from sdretrieval.export.verify import spread, verify_bundle
from sdretrieval.indexes.vector import VectorIndex
from tests.helpers import tiny


def test_a_bundle_holds_what_it_takes_to_search_and_nothing_else(bundle: Path) -> None:
    model = {"modules.json", "1_Pooling", "2_Normalize", "config.json", "model.safetensors", "tokenizer.json"}
    model |= {"tokenizer_config.json", "special_tokens_map.json", "sentence_bert_config.json"}
    names = {"README.md", "bundle.json", "canaries.safetensors", "documents.parquet", "ids.json", "index"}
    assert {path.name for path in bundle.iterdir()} == model | names | {"config_sentence_transformers.json"}
    manifest = read_manifest(bundle)
    assert manifest.files == digests(bundle)
    assert manifest.formats == ["torch"] and (manifest.dims, manifest.documents) == (32, 120)
    assert (manifest.max_tokens, manifest.query_tokens) == (48, 24)
    assert manifest.lineage["corpus_digest"] == "c" * 32 and len(manifest.lineage["student_digest"]) == 32
    assert json.loads((bundle / "ids.json").read_text())[:2] == ["d0", "d1"]
    assert not [path for path in bundle.parent.iterdir() if path.name.startswith(".")]


def test_plain_sentence_transformers_gives_the_canary_vectors(bundle: Path) -> None:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(bundle), device="cpu")
    vectors, texts = load_file(bundle / "canaries.safetensors"), read_manifest(bundle).canaries
    assert len(texts.queries) == len(texts.documents) == 8
    assert model.max_seq_length == 48 and model.prompts["query"] == "where is "
    np.testing.assert_allclose(model.encode_query(texts.queries), vectors["queries"], atol=1e-5)
    np.testing.assert_allclose(model.encode_document(texts.documents), vectors["documents"], atol=1e-5)


def test_prompts_change_the_vectors_and_no_prompt_overrides_what_the_student_had(
    bundle: Path, given: dict[str, Any], tmp_path: Path
) -> None:
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "bare"
    bare = given | {"student_folder": bundle, "prompts": Prompts()}
    with pytest.raises(WorkError, match="not built by this student"):
        export_bundle(folder, **bare)
    vectors = SentenceTransformer(str(given["student_folder"]), device="cpu")
    vectors.max_seq_length = 48
    bare["vectors_ND"] = vectors.encode([given["documents"].full_text(row) for row in range(120)])
    bare["index"] = VectorIndex.build(bare["vectors_ND"], "exact", "cpu")
    export_bundle(folder, **bare)
    model, query = SentenceTransformer(str(folder), device="cpu"), ["the ore"]
    np.testing.assert_allclose(model.encode_query(query), vectors.encode(query), atol=1e-6)


def test_an_index_of_other_weights_is_not_shipped(given: dict[str, Any], tmp_path: Path) -> None:
    other = tiny.write_student(tmp_path / "other", seed=5)
    with pytest.raises(
        WorkError, match="not built by this student: .* cosine down to .* encode and index the documents"
    ):
        export_bundle(tmp_path / "out", **given | {"student_folder": other})
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith(("out", "."))) == []


def test_float16_vectors_are_the_students_own(given: dict[str, Any], tmp_path: Path) -> None:
    halves = given["vectors_ND"].astype(np.float16)
    export_bundle(
        tmp_path / "out", **given | {"vectors_ND": halves, "index": VectorIndex.build(halves, "IVF,SQfp16", "cpu")}
    )
    assert verify_bundle(tmp_path / "out").ok


def test_a_bundle_is_replaced_even_by_its_own_student(copied: Path, given: dict[str, Any]) -> None:
    (copied / "old.txt").write_text("left over")
    export_bundle(copied, **given | {"student_folder": copied})
    assert not (copied / "old.txt").exists() and verify_bundle(copied).ok
    assert [path.name for path in copied.parent.iterdir()] == [copied.name]


def test_an_empty_folder_is_filled_and_parents_are_made(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    export_bundle(tmp_path / "empty", **given)
    export_bundle(tmp_path / "a" / "b", **given)
    assert is_bundle(tmp_path / "empty") and is_bundle(tmp_path / "a" / "b")


def test_a_relative_target_lies_in_the_working_folder(
    given: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = given | {"student_folder": given["student_folder"].absolute()}
    monkeypatch.chdir(tmp_path)
    export_bundle(Path("out"), **given)
    assert is_bundle(tmp_path / "out")


def test_other_folders_are_not_touched(given: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(
        RequestError, match="is not empty and no bundle .it holds thesis.txt.; only a bundle is replaced"
    ):
        export_bundle(tmp_path, **given)
    with pytest.raises(RequestError, match="thesis.txt is a file; give a folder"):
        export_bundle(tmp_path / "thesis.txt", **given)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_a_failure_leaves_the_old_bundle_as_it_was(copied: Path, given: dict[str, Any]) -> None:
    before = digests(copied)
    wrong = given["vectors_ND"][::-1].copy()
    with pytest.raises(WorkError):
        export_bundle(copied, **given | {"vectors_ND": wrong})
    assert digests(copied) == before and [path.name for path in copied.parent.iterdir()] == [copied.name]


def test_the_rest_of_a_killed_export_is_cleared_away(copied: Path, given: dict[str, Any]) -> None:
    shutil.copytree(copied, copied.with_name(".copied.partial-1"))
    (copied.with_name(".copied.partial-1") / "half").write_text("")
    export_bundle(copied, **given)
    assert verify_bundle(copied).ok and [path.name for path in copied.parent.iterdir()] == [copied.name]


def exporting(folder: Path, given: dict[str, Any], *, die_at_rename: int = 0) -> int:
    """Process id of a fork that exports, on one thread: it has none of its parent's. It may die before a rename."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        signal.alarm(120)  # a library that waits for a thread of the parent's would wait for ever
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
        renames, rename = count(1), Path.rename
        Path.rename = (  # type: ignore[method-assign, assignment]
            lambda path, place: os._exit(9) if next(renames) == die_at_rename else rename(path, place)
        )
        export_bundle(folder, **given)
        code = 0
    finally:
        os._exit(code)


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def test_an_export_that_is_killed_between_its_renames_loses_no_bundle(copied: Path, given: dict[str, Any]) -> None:
    before = digests(copied)
    assert ended(exporting(copied, given, die_at_rename=2)) == 9
    with pytest.raises(
        RequestError, match="an export is replacing it, or was killed .* the earlier one is .*replaced-"
    ):
        verify_bundle(copied)
    with pytest.raises(WorkError):  # the next one fails
        export_bundle(copied, **given | {"vectors_ND": given["vectors_ND"][::-1].copy()})
    assert digests(copied) == before and [path.name for path in copied.parent.iterdir()] == [copied.name]


def test_two_exports_into_one_folder_leave_one_sound_bundle(given: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "out"
    both = [exporting(folder, given | {"include_texts": texts}) for texts in (True, False)]
    assert [ended(one) for one in both] == [0, 0]
    assert verify_bundle(folder).ok and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_colleague_can_read_a_bundle_and_it_needs_no_writing(copied: Path, bundle: Path) -> None:
    mask = os.umask(0)
    os.umask(mask)
    for path in (bundle, *bundle.rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~mask, path
    for path in (*copied.rglob("*"), copied):
        path.chmod(path.stat().st_mode & 0o555)
    before = {path: path.stat().st_mtime_ns for path in (copied, *copied.rglob("*"))}
    assert verify_bundle(copied).ok and Searcher.open(copied, device="cpu").search("ore", 3)
    assert {path: path.stat().st_mtime_ns for path in (copied, *copied.rglob("*"))} == before


def test_what_does_not_fit_together_is_refused_before_work(given: dict[str, Any], tmp_path: Path) -> None:
    documents = given["documents"]
    fewer = IndexedDocuments(documents.ids[:100], documents.titles, documents.texts)
    with pytest.raises(RequestError, match="100 ids, 120 titles, 120 texts, 120 vectors, 120 index rows"):
        export_bundle(tmp_path / "out", **given | {"documents": fewer})
    with pytest.raises(RequestError, match="no canary query that is not empty"):
        export_bundle(tmp_path / "out", **given | {"canary_queries": ["  "]})
    with pytest.raises(RequestError, match="format 'onnx-int4' is unknown; expected one of torch, onnx, onnx-int8"):
        export_bundle(tmp_path / "out", **given, formats=["onnx-int4"])
    wide = np.eye(120, dtype=np.float32)
    with pytest.raises(RequestError, match="the student gives 32 dims, the index holds 120"):
        export_bundle(
            tmp_path / "out", **given | {"vectors_ND": wide, "index": VectorIndex.build(wide, "exact", "cpu")}
        )
    assert not list(tmp_path.iterdir())


def test_a_bundle_whose_manifest_is_broken_is_replaced_as_its_error_advises(
    copied: Path, given: dict[str, Any]
) -> None:
    (copied / "bundle.json").write_text("{")
    with pytest.raises(DamagedArtifact, match="export the run again"):
        verify_bundle(copied)
    export_bundle(copied, **given)
    assert verify_bundle(copied).ok


def test_texts_can_be_left_out(given: dict[str, Any], tmp_path: Path) -> None:
    export_bundle(tmp_path / "out", **given, include_texts=False)
    assert not (tmp_path / "out" / "documents.parquet").exists() and verify_bundle(tmp_path / "out").ok


def test_canaries_are_spread_and_no_text_stands_twice() -> None:
    assert spread([str(n) for n in range(15)]) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert spread(["a", "", "a", "b"]) == [0, 3]
