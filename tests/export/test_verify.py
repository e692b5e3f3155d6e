"""verify finds what was changed and names it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sdretrieval.errors import DamagedArtifact, MissingPackageError, RequestError
from sdretrieval.export.layout import MANIFEST
from sdretrieval.export.verify import Verification, nearness, verify_bundle
from tests.export.conftest import sign_again
from tests.helpers import tiny

Edit = Callable[[str, Callable[[bytes], bytes]], Path]


def failed(folder: Path) -> dict[str, str]:
    return {check.name: check.detail for check in verify_bundle(folder).checks if not check.ok}


def test_a_fresh_bundle_passes_and_says_what_was_measured(bundle: Path) -> None:
    found = verify_bundle(bundle)
    assert found.ok and [check.name for check in found.checks] == ["files", "index", "torch: vectors", "torch: top 10"]
    assert "lowest cosine 1.000000 with canaries.safetensors over 16 texts" in found.checks[2].detail
    assert found.checks[3].detail.startswith("100.0% of the hits of 8 queries")
    record = json.loads(json.dumps(found.to_json()))
    assert record["ok"] is True and record["checks"][0] == {
        "name": "files",
        "ok": True,
        "detail": found.checks[0].detail,
    }


def test_an_engine_that_is_not_installed_says_nothing_of_the_bundle(
    copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object) -> None:
        raise MissingPackageError("format onnx needs the package onnxruntime")

    monkeypatch.setattr("sdretrieval.export.verify.open_encoder", missing)
    with pytest.raises(MissingPackageError, match="onnxruntime"):
        verify_bundle(copied)


def test_one_flipped_bit_of_the_weights_is_named(edit: Edit) -> None:
    folder = edit("model.safetensors", lambda data: data[:-1] + bytes([data[-1] ^ 1]))
    assert failed(folder)["files"] == "changed since the export: model.safetensors"


def test_other_weights_fail_even_with_digests_brought_up_to_date(copied: Path, tmp_path: Path) -> None:
    other = tiny.write_student(tmp_path / "other", seed=5)
    (copied / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes())
    sign_again(copied)
    found = failed(copied)
    assert set(found) == {"torch: vectors", "torch: top 10"}
    assert float(found["torch: vectors"].split()[2]) < 0.9


def test_swapped_ids_fail_even_with_digests_brought_up_to_date(copied: Path) -> None:
    ids = json.loads((copied / "ids.json").read_text())
    (copied / "ids.json").write_text(json.dumps(ids[::-1]))
    sign_again(copied)
    assert set(failed(copied)) == {"torch: top 10"}


def test_other_prompts_fail_even_with_digests_brought_up_to_date(copied: Path) -> None:
    sign_again(copied, prompts={"query": "storm harbour ", "document": "near "})
    assert "torch: vectors" in failed(copied)


def test_any_change_of_any_field_of_the_manifest_is_noticed(copied: Path) -> None:
    record = json.loads((copied / MANIFEST).read_text())
    changed = [record | {name: [value, 1]} for name, value in record.items() if name not in ("kind", "schema")]
    changed += [{other: value for other, value in record.items() if other != name} for name in record if name != "kind"]
    changed += [
        record | {"query_tokens": 23},
        record | {"lineage": record["lineage"] | {"base_digest": "d" * 32}},
        record | {"files": record["files"] | {"ids.json": "d" * 40}},
        record | {"added": 1},
    ]
    for one in changed:
        (copied / MANIFEST).write_text(json.dumps(one))
        with pytest.raises((DamagedArtifact, RequestError), match="is not as it was exported|is of schema None"):
            verify_bundle(copied)


@pytest.mark.parametrize(
    ("name", "also"),
    [
        ("model.safetensors", "torch"),
        ("index/index.faiss", "index"),
        ("ids.json", "index"),
        ("canaries.safetensors", "canaries"),
    ],
)
def test_a_missing_file_is_named(copied: Path, name: str, also: str) -> None:
    (copied / name).unlink()
    found = failed(copied)
    assert found["files"] == f"missing: {name}"
    assert set(found) == {"files", also}


def test_a_truncated_file_is_a_failed_check_and_no_crash(edit: Edit) -> None:
    for name in ("model.safetensors", "index/index.faiss", "ids.json", "canaries.safetensors"):
        folder = edit(name, lambda data: data[: len(data) // 2])
    assert {"files", "index", "canaries"} <= set(failed(folder))


def test_fewer_ids_than_vectors_fail(copied: Path) -> None:
    (copied / "ids.json").write_text('["d0"]')
    assert "holds 120 vectors of 32 dims and ids.json 1 ids, expected 120 of 32" in failed(copied)["index"]


def test_a_new_file_in_the_bundle_is_named_and_hidden_ones_are_not(copied: Path) -> None:
    (copied / ".gitattributes").write_text("")
    assert verify_bundle(copied).ok
    (copied / "extra.py").write_text("")
    assert failed(copied) == {"files": "not of the export: extra.py"}


def test_nan_in_the_canaries_fails(copied: Path) -> None:
    vectors = load_file(copied / "canaries.safetensors")
    vectors["queries"][0] = np.nan
    save_file(vectors, copied / "canaries.safetensors")
    sign_again(copied)
    assert "lowest cosine 0.0" in failed(copied)["torch: vectors"]


def test_what_is_no_bundle_is_refused(tmp_path: Path, tiny_student: Path) -> None:
    with pytest.raises(
        RequestError, match="absent is no bundle: it has no bundle.json .no such folder.; give a folder"
    ):
        verify_bundle(tmp_path / "absent")
    with pytest.raises(RequestError, match="is no bundle: .* .it is empty."):
        verify_bundle(tmp_path)
    with pytest.raises(RequestError, match="is no bundle: .* .it holds 1_Pooling, "):
        verify_bundle(tiny_student)


def test_a_broken_manifest_is_named(copied: Path) -> None:
    record = json.loads((copied / MANIFEST).read_text())
    for text, error, words in (
        ("{", DamagedArtifact, "bundle.json cannot be read as JSON"),
        ("[]", DamagedArtifact, "bundle.json holds a list; expected a JSON object; export the run again"),
        (json.dumps(record | {"schema": 99}), RequestError, "is of schema 99, expected 4; export the run again"),
        (json.dumps(record | {"kind": "x"}), RequestError, "is of kind 'x', expected 'sdretrieval bundle'"),
        (json.dumps({"kind": record["kind"], "schema": 4}), DamagedArtifact, "not as it was exported: found no digest"),
    ):
        (copied / MANIFEST).write_text(text)
        with pytest.raises(error, match=words):
            verify_bundle(copied)


def test_nearness_is_one_only_for_the_same_vector() -> None:
    a = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    np.testing.assert_allclose(nearness(a, a), 1)
    np.testing.assert_allclose(nearness(a, 2 * a), 0.5)
    np.testing.assert_allclose(nearness(a, -a), -1)


def test_an_empty_verification_is_ok_only_without_failures() -> None:
    assert Verification("x", []).ok


def test_a_pipe_in_a_bundle_is_named_and_not_waited_for(copied: Path) -> None:
    (copied / "ids.json").unlink()
    os.mkfifo(copied / "ids.json")
    with pytest.raises(DamagedArtifact, match="copied: ids.json is a pipe or a device, expected a file"):
        verify_bundle(copied)
