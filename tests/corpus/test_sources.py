"""Sources: one object for each kind that a corpus comes from. Their digests stand in keys, so their text is fixed."""

from __future__ import annotations

import gzip
import hashlib
import shutil
import sys
from pathlib import Path

import pytest

from sdretrieval.corpus import Columns, find_source, read_beir
from sdretrieval.errors import CorpusError


def digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=20).hexdigest()


@pytest.fixture
def beir(tiny_corpus: Path, tmp_path: Path) -> Path:
    """The cache of downloads, in which the tiny collection is scifact."""
    shutil.copytree(tiny_corpus, tmp_path / "cache" / "beir" / "scifact")
    return tmp_path / "cache"


def test_a_beir_folder_is_its_texts_and_judgements(tiny_corpus: Path) -> None:
    names = ("corpus.jsonl", "queries.jsonl", "qrels/dev.tsv", "qrels/test.tsv", "qrels/train.tsv")
    expected = " ".join(f"{name.rpartition('/')[2]}={digest(tiny_corpus / name)}" for name in names)
    assert find_source(str(tiny_corpus)).digest() == expected


def test_a_download_is_what_its_folder_is(tiny_corpus: Path, beir: Path) -> None:
    folder, download = find_source(str(tiny_corpus)), find_source("beir:scifact", beir)
    assert download.digest() == folder.digest()
    assert download.size(30) == folder.size(30)
    corpus = download.read().corpus
    assert (corpus.name, corpus.digest) == ("scifact", read_beir(tiny_corpus).digest)


def test_a_table_is_its_ending_and_its_content(tmp_path: Path) -> None:
    (tmp_path / "passages.csv").write_text("text\nThe oven is hot.\n")
    source = find_source(str(tmp_path / "passages.csv"))
    assert source.digest() == f"table.csv={digest(tmp_path / 'passages.csv')}"
    assert source.read().corpus.document_texts() == ["The oven is hot."]


@pytest.mark.parametrize("name", ["passages.tsv.gz", "passages.csv.gz", "passages.CSV.GZ"])
def test_a_packed_table_is_what_it_is_inside_too(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(gzip.compress(b"text\nThe oven is hot.\n"))
    found = find_source(str(tmp_path / name)).digest()
    assert found == f"table{name.removeprefix('passages')}={digest(tmp_path / name)}"


def test_a_file_that_cannot_be_read_is_no_end_of_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading the folder counts it and goes on."""
    for name in ("ovens.txt", "secret.txt"):
        (tmp_path / name).write_text("The oven is hot.")
    whole = find_source(str(tmp_path)).digest()

    def refused(path: Path) -> str:
        if path.name == "secret.txt":
            raise PermissionError(13, "Permission denied", str(path))
        return digest(path)

    monkeypatch.setattr("sdretrieval.corpus.sources.digest_file", refused)
    found = find_source(str(tmp_path)).digest()
    assert found == f"ovens.txt={digest(tmp_path / 'ovens.txt')} secret.txt=unreadable" != whole


def test_a_folder_of_documents_is_its_files_with_their_names(tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide" / "ovens.txt").write_text("The oven is hot.")
    source = find_source(str(tmp_path))
    assert source.digest() == f"guide/ovens.txt={digest(tmp_path / 'guide' / 'ovens.txt')}"
    assert source.size() == (1, 0, 16)
    assert list(source.read().corpus.documents["text"]) == ["The oven is hot."]


def test_the_interpreters_library_is_its_version() -> None:
    source = find_source("python-stdlib")
    assert source.digest() == f"python-stdlib {sys.version}"
    assert source.size() == (4000, 4000, 8_000_000)
    assert len(source.read(3).corpus.documents) == 3


def test_what_cannot_be_read_has_no_digest_and_no_size(tiny_corpus: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(tiny_corpus, tmp_path / "copy"))
    source = find_source(str(copy))
    (copy / "queries.jsonl").unlink()
    with pytest.raises(CorpusError, match=r"queries\.jsonl"):
        find_source(str(copy))
    for asked in (source.digest, source.size, source.read):
        with pytest.raises(CorpusError, match=r"queries\.jsonl"):
            asked()


def test_a_source_that_is_not_there_is_refused_at_once() -> None:
    with pytest.raises(CorpusError, match=r"No corpus 'scifct': .* Did you mean beir:scifact\? Understood: a BEIR"):
        find_source("scifct")


def test_columns_are_those_of_a_table(tiny_corpus: Path) -> None:
    with pytest.raises(CorpusError, match=r"Columns can be named for tables only, and .* is none"):
        find_source(str(tiny_corpus), columns=Columns(text=("body",)))
