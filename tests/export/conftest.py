"""One bundle of the tiny student and collection, made once; tests that change it copy it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.corpus import open_corpus
from sdretrieval.digests import SEAL, sealed
from sdretrieval.encode.prompts import Prompts
from sdretrieval.encode.student import load_student
from sdretrieval.export.card import CardFacts, TeacherFact
from sdretrieval.export.documents import IndexedDocuments
from sdretrieval.export.encoders import torch_encoder
from sdretrieval.export.layout import MANIFEST, digests
from sdretrieval.indexes.vector import VectorIndex
from tests.export.reports import REPORT

PROMPTS = Prompts("where is ", "near ")
LIMITS: dict[str, Any] = {"max_tokens": 48, "query_tokens": 24}

FACTS = CardFacts(
    name="tiny run",
    base_model="sentence-transformers/all-MiniLM-L6-v2",
    base_digest="b" * 32,
    corpus="tiny",
    corpus_digest="c" * 32,
    command="sdretrieval run configs/tiny.yaml",
    teachers=[TeacherFact("ema", "reads every window of a document", 0.5), TeacherFact("lexical", "sees words", 0.5)],
    report=REPORT,
)


def sign_again(folder: Path, **changes: Any) -> None:
    """Change fields of bundle.json and bring all digests up to date, as someone would who wants the change unseen."""
    record = json.loads((folder / MANIFEST).read_text()) | {"files": digests(folder)} | changes
    del record[SEAL]
    (folder / MANIFEST).write_text(json.dumps(sealed(record)))


@pytest.fixture(scope="session")
def given(tiny_corpus: Path, tiny_student: Path) -> dict[str, Any]:
    """Keywords for `export_bundle`, all but the folder; an index of the tiny student's own vectors."""
    corpus = open_corpus(str(tiny_corpus))
    student = load_student(str(tiny_student), **LIMITS, prompts=PROMPTS, device="cpu")
    vectors_ND = torch_encoder(student).documents(corpus.document_texts())
    return {
        "student_folder": tiny_student,
        "prompts": PROMPTS,
        **LIMITS,
        "documents": IndexedDocuments.of(corpus),
        "vectors_ND": vectors_ND,
        "index": VectorIndex.build(vectors_ND, "exact", "cpu"),
        "card": FACTS,
        "canary_queries": corpus.query_texts(),
    }


@pytest.fixture(scope="session")
def bundle(given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of format torch. Read only."""
    from sdretrieval.export.bundle import export_bundle

    folder = tmp_path_factory.mktemp("export") / "bundle"
    export_bundle(folder, **given)
    return folder


@pytest.fixture
def copied(bundle: Path, tmp_path: Path) -> Path:
    """A copy of the bundle that a test may change."""
    import shutil

    return Path(shutil.copytree(bundle, tmp_path / "copied"))


@pytest.fixture
def edit(copied: Path) -> Callable[[str, Callable[[bytes], bytes]], Path]:
    """`edit(name, change)`: change a file of the copied bundle; returns the bundle's folder."""

    def change(name: str, how: Callable[[bytes], bytes]) -> Path:
        path = copied / name
        path.write_bytes(how(path.read_bytes()))
        return copied

    return change
