"""Search from a bundle gives what the index in memory gives, with texts to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdretrieval.encode.student import load_student
from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.export.bundle import export_bundle
from sdretrieval.export.encoders import torch_encoder
from sdretrieval.export.layout import IndexedDocuments
from sdretrieval.export.searcher import Searcher
from tests.export.conftest import LIMITS, PROMPTS


def test_search_gives_the_ids_of_the_index_in_memory(bundle: Path, given: dict[str, Any]) -> None:
    student = load_student(str(given["student_folder"]), **LIMITS, prompts=PROMPTS, device="cpu")
    queries = given["canary_queries"][:20]
    wanted = given["index"].search(torch_encoder(student).queries(queries), 7)
    searcher = Searcher.open(bundle, device="cpu")
    for query, rows, scores in zip(queries, wanted.rows_Qk, wanted.scores_Qk, strict=True):
        hits = searcher.search(query, k=7)
        assert [hit.document_id for hit in hits] == [given["documents"].ids[row] for row in rows]
        assert [hit.score for hit in hits] == pytest.approx(scores, abs=1e-5)
        assert [hit.rank for hit in hits] == [1, 2, 3, 4, 5, 6, 7]


def test_hits_show_title_and_the_beginning_of_the_text(bundle: Path, given: dict[str, Any]) -> None:
    documents = given["documents"]
    for hit in Searcher.open(bundle, device="cpu").search("the ore in oslo", k=120):
        row = int(hit.document_id[1:])
        assert (hit.title, hit.text) == (documents.titles[row], documents.texts[row][:300])


def test_without_texts_hits_are_bare_or_show_the_documents_given(given: dict[str, Any], tmp_path: Path) -> None:
    export_bundle(tmp_path / "out", **given, include_texts=False)
    bare = Searcher.open(tmp_path / "out", device="cpu").search("ore", 2)
    assert [(hit.title, hit.text) for hit in bare] == [("", "")] * 2
    turned = IndexedDocuments(*(list(part)[::-1] for part in vars(given["documents"]).values()))
    shown = Searcher.open(tmp_path / "out", documents=turned, device="cpu").search("ore", 2)
    assert shown[0].document_id == bare[0].document_id
    assert shown[0].title == given["documents"].titles[int(shown[0].document_id[1:])]
    with pytest.raises(RequestError, match="119 of the bundle's 120 documents are not among .* the first is 'd1'"):
        Searcher.open(tmp_path / "out", documents=IndexedDocuments(["d0"], ["t"], ["x"]))


def test_line_breaks_and_broken_characters_in_texts_survive(given: dict[str, Any], tmp_path: Path) -> None:
    documents = given["documents"]
    titles = ["a\u2028b\n\ud800" if n == 7 else title for n, title in enumerate(documents.titles)]
    export_bundle(tmp_path / "out", **given | {"documents": IndexedDocuments(documents.ids, titles, documents.texts)})
    hits = Searcher.open(tmp_path / "out", device="cpu").search("ore", 120)
    assert {hit.document_id: hit.title for hit in hits}["d7"] == "a\u2028b\n\ud800"


def test_more_hits_than_documents_gives_all_documents_once(bundle: Path) -> None:
    hits = Searcher.open(bundle, device="cpu").search("ore", k=1000)
    assert len(hits) == len({hit.document_id for hit in hits}) == 120


def test_bad_requests_are_refused(bundle: Path, copied: Path, tmp_path: Path) -> None:
    searcher = Searcher.open(bundle, device="cpu")
    with pytest.raises(RequestError, match="the query is empty"):
        searcher.search("  ")
    with pytest.raises(RequestError, match="k is 0; expected at least 1"):
        searcher.search("ore", k=0)
    with pytest.raises(RequestError, match="no format 'onnx', it holds torch; export the run again with --format onnx"):
        Searcher.open(bundle, format="onnx")
    with pytest.raises(RequestError, match="is no bundle"):
        Searcher.open(tmp_path)
    (copied / "documents.jsonl").write_text("{}\n")
    with pytest.raises(DamagedArtifact, match="has 1 lines for 120 documents"):
        Searcher.open(copied)
    (copied / "ids.json").write_text("[]")
    with pytest.raises(DamagedArtifact, match="names 0 documents, the index holds 120"):
        Searcher.open(copied)
