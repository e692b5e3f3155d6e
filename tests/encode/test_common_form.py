"""A saved student is read by other servers and by older versions: each one's documented fields are there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer

from sdretrieval.cli.lookup import lengths_of
from sdretrieval.encode.adapter import with_adapter
from sdretrieval.encode.common_form import write_common_form
from sdretrieval.encode.prompts import Prompts
from sdretrieval.encode.student import load_student, save_student

TEI_MODULES = {f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize", "Dense")}
"""What text-embeddings-inference 1.9 can parse in modules.json; anything else stops it."""
TEXTS = ["where is the ore", "a text of oslo and coal that is a good deal longer than the others are", "ore"]


def load_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf8"))


def pooling_as_tei_reads_it(folder: Path) -> str:
    """Its PoolConfig has no defaults for the first three."""
    settings = load_json(folder / "config.json")
    modes = {key: settings[f"pooling_mode_{key}"] for key in ("cls_token", "mean_tokens")}
    modes["lasttoken"] = settings.get("pooling_mode_lasttoken", False)
    assert isinstance(settings["word_embedding_dimension"], int)
    (chosen,) = [key for key, value in modes.items() if value]
    return chosen


@pytest.fixture(params=["plain", "adapter"])
def saved(request: pytest.FixtureRequest, tiny_student: Path, tmp_path: Path) -> tuple[Path, Any]:
    """A saved student in the common form, and what it encoded before it was saved."""
    student = load_student(str(tiny_student), max_tokens=48, prompts=Prompts("where ", "near "), device="cpu")
    model = student.model
    if request.param == "adapter":
        model = with_adapter(model)
        with torch.no_grad():
            next(model[-2].parameters()).add_(torch.randn(32, 32, generator=torch.Generator().manual_seed(1)) / 10)
    save_student(model, tmp_path / "saved")
    write_common_form(tmp_path / "saved")
    return tmp_path / "saved", np.stack([model.encode_query(TEXTS), model.encode_document(TEXTS)])


def test_the_vectors_are_the_same(saved: tuple[Path, Any]) -> None:
    folder, before = saved
    model = SentenceTransformer(str(folder), device="cpu")
    np.testing.assert_array_equal(np.stack([model.encode_query(TEXTS), model.encode_document(TEXTS)]), before)


def test_every_reader_finds_its_fields(saved: tuple[Path, Any]) -> None:
    folder, _ = saved
    modules = load_json(folder / "modules.json")
    assert {one["type"] for one in modules} <= TEI_MODULES
    (pooling,) = [one["path"] for one in modules if one["type"].endswith("Pooling")]
    assert pooling_as_tei_reads_it(folder / pooling) == "mean_tokens"
    # sentence-transformers 5 gives these to Transformer(...), and fails on any other.
    assert load_json(folder / "sentence_bert_config.json") == {"max_seq_length": 48, "do_lower_case": False}
    for one in modules[2:]:
        settings = load_json(folder / one["path"] / "config.json")
        assert set(settings) <= {"in_features", "out_features", "bias", "activation_function"}
    # fastembed takes the lesser of these two, and the tokens from the third.
    tokenizer = load_json(folder / "tokenizer_config.json")
    assert tokenizer["model_max_length"] == tokenizer.get("max_length", 48) == 48
    assert tokenizer["tokenizer_class"] != "TokenizersBackend", "transformers 4 has no such class"
    assert not {"is_local", "local_files_only"} & set(tokenizer)
    assert load_json(folder / "special_tokens_map.json")["pad_token"] == tokenizer["pad_token"]
    # Whoever reads tokenizer.json alone cuts where the student was measured.
    assert len(Tokenizer.from_file(str(folder / "tokenizer.json")).encode("ore " * 100).ids) == 48


def test_a_shorter_length_of_queries_is_known_to_this_package_alone(tiny_student: Path, tmp_path: Path) -> None:
    save_student(load_student(str(tiny_student), max_tokens=48, query_tokens=24, device="cpu").model, tmp_path / "s")
    write_common_form(tmp_path / "s")
    assert lengths_of(tmp_path / "s") == (48, 24)
    assert load_json(tmp_path / "s" / "sentence_bert_config.json")["max_seq_length"] == 48


def test_a_second_time_changes_nothing(saved: tuple[Path, Any]) -> None:
    folder, _ = saved
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    write_common_form(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_two_encoders_each_have_the_form(tiny_student: Path, tmp_path: Path) -> None:
    queries, documents = (load_student(str(tiny_student), max_tokens=48, device="cpu").model for _ in range(2))
    with torch.no_grad():
        next(queries.parameters()).mul_(1.5)
    save_student(queries, tmp_path / "pair", documents)
    before = SentenceTransformer(str(tmp_path / "pair"), device="cpu")
    wanted = np.stack([before.encode_query(TEXTS), before.encode_document(TEXTS)])
    write_common_form(tmp_path / "pair")
    router = load_json(tmp_path / "pair" / "router_config.json")
    assert set(router["types"].values()) <= TEI_MODULES
    poolings = [name for name, kind in router["types"].items() if kind.endswith("Pooling")]
    assert [pooling_as_tei_reads_it(tmp_path / "pair" / name) for name in poolings] == ["mean_tokens"] * 2
    after = SentenceTransformer(str(tmp_path / "pair"), device="cpu")
    np.testing.assert_array_equal(np.stack([after.encode_query(TEXTS), after.encode_document(TEXTS)]), wanted)
    assert lengths_of(tmp_path / "pair") == (48, 48)
