"""Search from a bundle gives what the index in memory gives, with texts to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.digests import SEAL, sealed
from sdretrieval.encode.student import load_student
from sdretrieval.errors import DamagedArtifact, RequestError, SdretrievalError
from sdretrieval.export.bundle import export_bundle
from sdretrieval.export.documents import IndexedDocuments
from sdretrieval.export.encoders import torch_encoder
from sdretrieval.export.layout import Manifest, digests, read_manifest
from sdretrieval.export.searcher import Searcher
from sdretrieval.export.verify import verify_bundle
from tests.export.conftest import LIMITS, PROMPTS, sign_again


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


def test_hits_show_title_and_the_whole_text(bundle: Path, given: dict[str, Any]) -> None:
    documents = given["documents"]
    for hit in Searcher.open(bundle, device="cpu").search("the ore in oslo", k=120):
        row = int(hit.document_id[1:])
        assert (hit.title, hit.text) == (documents.titles[row], documents.texts[row])


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
    assert {hit.document_id: hit.title for hit in hits}["d7"] == "a\u2028b\n\ufffd"


def test_more_hits_than_documents_gives_all_documents_once(bundle: Path) -> None:
    hits = Searcher.open(bundle, device="cpu").search("ore", k=1000)
    assert len(hits) == len({hit.document_id for hit in hits}) == 120
    assert len(Searcher.open(bundle, device="cpu").search("bad \udcff byte", k=10**12)) == 120


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
    IndexedDocuments(["d0"], ["t"], ["x"]).write(copied)
    with pytest.raises(DamagedArtifact, match="copied is not as it was exported: changed since .*: documents.parquet"):
        Searcher.open(copied)
    sign_again(copied)
    with pytest.raises(DamagedArtifact, match="has 1 rows for 120 documents"):
        Searcher.open(copied)
    (copied / "ids.json").write_text("[]")
    sign_again(copied)
    with pytest.raises(DamagedArtifact, match="120 vectors of 32 dims and ids.json 0 ids, expected 120 of 32"):
        Searcher.open(copied)


def test_search_trusts_no_file_that_it_reads_and_minds_no_other(copied: Path) -> None:
    (copied / "README.md").write_text("a better card")
    (copied / "canaries.safetensors").unlink()
    assert len(Searcher.open(copied, device="cpu").search("ore", 3)) == 3
    for name in ("1_Pooling/config.json", "modules.json", "index/card.json", "added.json"):
        path = copied / name
        before = path.read_bytes() if path.exists() else None
        path.write_bytes((before or b"{}") + b" ")
        with pytest.raises(DamagedArtifact, match=f"is not as it was exported: .*: {name}"):
            Searcher.open(copied, device="cpu")
        path.unlink() if before is None else path.write_bytes(before)


DEEP = "[" * 100_000
ODD: tuple[Any, ...] = (None, True, -1, 10**40, 1.5, float("inf"), "\ud800", [[1]], {}, {"a": {"b": None}})


def refused(folder: Path) -> list[str]:
    """What a bundle's two readers say; anything but an error of ours, or success, fails the test."""
    said = []
    for read in (lambda: Searcher.open(folder, device="cpu").search("ore", 5), lambda: verify_bundle(folder)):
        try:
            read()
        except SdretrievalError as error:
            said.append(str(error))
    return said


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(
    "name", ["bundle.json", "ids.json", "documents.parquet", "index/card.json", "index/index.faiss"]
)
def test_a_broken_file_is_one_message(name: str, signed: bool, copied: Path) -> None:
    path = copied / name
    whole = path.read_bytes()
    contents = [
        b"",
        whole[: len(whole) // 2],
        DEEP.encode(),
        b"\xff\xfe" + whole,
        b"[]",
        b"{}",
        b"null",
        b"7",
        b"1e999",
    ]
    for content in contents:
        path.write_bytes(content)
        if signed and name != "bundle.json":
            sign_again(copied)
        assert refused(copied), content[:20]
    path.unlink()
    path.mkdir()
    assert refused(copied)


def test_no_value_of_any_field_breaks_a_reader(copied: Path) -> None:
    manifest = json.loads((copied / "bundle.json").read_text())
    fields = [(name,) for name in manifest if name not in ("files", SEAL)]
    fields += [(part, name) for part in ("prompts", "canaries") for name in manifest[part]]
    for part, *rest in fields:
        for odd in ODD:
            value = {**manifest[part], rest[0]: odd} if rest else odd
            (copied / "bundle.json").write_text(json.dumps(sealed(without_seal(manifest) | {part: value})))
            try:
                assert isinstance(read_manifest(copied), Manifest)
            except SdretrievalError as error:
                assert_one_message(error, copied / "bundle.json")
    card = json.loads((copied / "index" / "card.json").read_text())
    odd_cards = [("count", "x"), ("dims", 31), ("factory", None), ("settings", 7), ("settings", {"rescore": "x"})]
    for name, odd in odd_cards:
        (copied / "index" / "card.json").write_text(json.dumps(card | {name: odd}))
        (copied / "bundle.json").write_text(json.dumps(sealed(without_seal(manifest) | {"files": digests(copied)})))
        with pytest.raises(SdretrievalError) as caught:
            Searcher.open(copied, device="cpu").search("ore", 5)
        assert_one_message(caught.value, copied)


def assert_one_message(error: SdretrievalError, path: Path) -> None:
    """It begins with the file or folder, on one line."""
    said = str(error)
    assert said.startswith(str(path)), said
    assert said.isprintable() and len(said) < 500, said


def without_seal(manifest: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in manifest.items() if name != SEAL}
