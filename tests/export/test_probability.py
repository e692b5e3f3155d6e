"""A bundle carries the map from scores to probabilities, and verify notices another one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.export.bundle import export_bundle
from sdretrieval.export.documents import Passages
from sdretrieval.export.layout import LEXICAL, open_lexical, open_probabilities, write_probabilities
from sdretrieval.export.searcher import Searcher
from sdretrieval.export.verify import verify_bundle
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.indexes.probability import Probabilities, ProbabilityMap
from sdretrieval.indexes.vector import VectorIndex
from tests.export.conftest import sign_again

MAP = ProbabilityMap(bias=-2.0, score=1.5, lead=3.0, coverage=4.0, agreement=2.0)


@pytest.fixture(scope="module")
def probabilities(given: dict[str, Any]) -> Probabilities:
    documents = given["documents"]
    texts = [documents.full_text(row) for row in range(len(documents))]
    return Probabilities(MAP, LexicalIndex.build(texts), estimate=True)


def failed(folder: Path) -> set[str]:
    return {check.name for check in verify_bundle(folder).checks if not check.ok}


def test_a_bundle_says_how_probable_its_hits_are(
    given: dict[str, Any], probabilities: Probabilities, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    export_bundle(folder, **given, probabilities=probabilities, lexical=probabilities.lexical)
    searcher = Searcher.open(folder, device="cpu")
    query = "dough oven crust near oslo"
    hits = searcher.search(query, 5)
    wanted = probabilities.of([query], given["index"].search(searcher.encoder.queries([query]), 5))[0]
    assert [hit.probability for hit in hits] == pytest.approx(wanted.tolist(), abs=1e-5)
    assert len(set(wanted.round(4))) > 1
    assert searcher.probabilities is not None and searcher.probabilities.estimate
    assert [check.name for check in verify_bundle(folder).checks][-1] == "probabilities" and not failed(folder)

    path = folder / "probability.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"map": MAP.to_json() | {"coverage": 3.0}}))
    assert failed(folder) == {"files", "probabilities"}
    with pytest.raises(DamagedArtifact, match="changed since the export: probability.json"):
        Searcher.open(folder, device="cpu")
    sign_again(folder)
    assert failed(folder) == {"probabilities"}
    for broken in ("[]", "{}", json.dumps(record | {"map": None}), json.dumps(record | {"map": {"bias": "x"}})):
        path.write_text(broken)
        sign_again(folder)
        with pytest.raises(DamagedArtifact, match="probability.json"):
            Searcher.open(folder, device="cpu")
    path.unlink()
    sign_again(folder)
    assert failed(folder) == {"probabilities"}


CARDS = {"index/card.json": (), "probability.json": ("map",), "lexical/lexical.json": ()}
"""A bundle's cards, and their fields that hold fields."""


def test_a_card_whose_field_is_missing_or_of_another_type_is_refused_by_its_name(
    given: dict[str, Any], probabilities: Probabilities, tmp_path: Path
) -> None:
    given["index"].save(tmp_path / "index")
    write_probabilities(probabilities, tmp_path)
    assert probabilities.lexical is not None
    probabilities.lexical.save(tmp_path / LEXICAL)
    opened: dict[str, Callable[[], object]] = {
        "index/card.json": lambda: VectorIndex.load(tmp_path / "index", "cpu"),
        "probability.json": lambda: open_probabilities(tmp_path, probabilities.lexical),
        "lexical/lexical.json": lambda: open_lexical(tmp_path, 120),
    }
    for name, inner in CARDS.items():
        path, open_it = tmp_path / name, opened[name]
        whole = json.loads(path.read_text())
        for field in whole:
            needed = name != "index/card.json" or field in ("factory", "count", "dims", "device")
            number = isinstance(whole[field], int | float) and not isinstance(whole[field], bool)
            changed = [whole | {field: None}, whole | {field: "4" if number else 4}]
            changed += [{other: value for other, value in whole.items() if other != field}] if needed else []
            for record in changed:
                path.write_text(json.dumps(record))
                with pytest.raises(DamagedArtifact, match=rf"{re.escape(str(path))}: {field}: .*again$"):
                    open_it()
        for field in inner:
            for key in whole[field]:
                path.write_text(json.dumps(whole | {field: whole[field] | {key: None}}))
                with pytest.raises(DamagedArtifact, match=rf"{field}\.{key}: .* found null.*export the run again$"):
                    open_it()
        path.write_text(json.dumps(whole))
    path = tmp_path / "index" / "card.json"
    whole = json.loads(path.read_text())
    for settings, said in (({"rescore": "x"}, "settings.rescore: found .x."), ({"depth": 3}, "unexpected .* 'depth'")):
        path.write_text(json.dumps(whole | {"settings": settings}))
        with pytest.raises(DamagedArtifact, match=said):
            VectorIndex.load(tmp_path / "index", "cpu")


def test_of_a_bundle_that_somebody_signed_again_the_field_and_the_remedy_are_named(copied: Path) -> None:
    path = copied / "index" / "card.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"factory": None}))
    sign_again(copied)
    said = r"card\.json: factory: Input should be a valid string, found null\); export the run again$"
    with pytest.raises(DamagedArtifact, match=said):
        Searcher.open(copied, device="cpu")
    (check,) = [check for check in verify_bundle(copied).checks if check.name == "index"]
    assert not check.ok and "factory: Input should be a valid string, found null" in check.detail


def test_a_text_that_is_none_is_not_shown_as_one(tmp_path: Path) -> None:
    columns = {"id": ["d"], "title": pa.array([None], pa.large_string()), "text": ["words"]}
    parquet.write_table(pa.table(columns), tmp_path / "documents.parquet")
    with pytest.raises(DamagedArtifact, match=r"documents.parquet cannot be read .row 0 has title None"):
        Passages(tmp_path).passage(0)
    parquet.write_table(pa.table({"id": ["d"], "text": ["words"]}), tmp_path / "documents.parquet")
    with pytest.raises(DamagedArtifact, match=r"columns \['id', 'text'\], expected \['id', 'title', 'text'\]"):
        Passages(tmp_path)


def test_without_texts_no_word_of_them_is_exported(
    given: dict[str, Any], probabilities: Probabilities, tmp_path: Path
) -> None:
    words = probabilities.lexical
    for changed in ({"include_texts": False, "lexical": words}, {"lexical": None}):
        with pytest.raises(RequestError, match="probabilities read the documents' words, which BM25 holds; give it"):
            export_bundle(tmp_path / "out", **given, probabilities=probabilities, **changed)
    bare = replace(probabilities, map=replace(MAP, coverage=0.0, agreement=0.0), lexical=None)
    export_bundle(tmp_path / "out", **given, probabilities=bare, lexical=words, include_texts=False)
    assert not (tmp_path / "out" / "lexical").exists() and not failed(tmp_path / "out")
    hits = Searcher.open(tmp_path / "out", device="cpu").search("ore", 3)
    assert all(hit.probability for hit in hits)


def test_bm25_of_another_corpus_is_refused(given: dict[str, Any], probabilities: Probabilities, tmp_path: Path) -> None:
    other = LexicalIndex.build(["ore"])
    with pytest.raises(RequestError, match="BM25 holds 1 documents, the index 120; build it from the same ones"):
        export_bundle(tmp_path / "out", **given, lexical=other)
    other.save(tmp_path / LEXICAL)
    with pytest.raises(DamagedArtifact, match="lexical holds 1 documents, expected 120"):
        open_lexical(tmp_path, 120)
    write_probabilities(probabilities, tmp_path)
    with pytest.raises(DamagedArtifact, match="lexical is missing: probability.json needs it"):
        open_probabilities(tmp_path, None)
