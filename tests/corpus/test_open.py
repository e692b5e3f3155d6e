"""What a user types as a corpus, and downloads, against a server of this test's own."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from sdretrieval.corpus import download_beir, limit_documents, open_corpus, read_beir
from sdretrieval.errors import CorpusError, MissingPackageError

needs_requests = pytest.mark.skipif(find_spec("requests") is None, reason="beir's download needs the package requests")
pytestmark = pytest.mark.filterwarnings("ignore:Using `tqdm.autonotebook.tqdm`")  # beir's own progress bar


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: object) -> None:
        """Keep requests out of the tests' output."""


@pytest.fixture
def server(tmp_path: Path, tiny_corpus: Path) -> Iterator[str]:
    """Offers the tiny collection as scifact.zip, one of two parts as cqadupstack.zip, and fiqa.zip that is no zip."""
    for name, inside in (("scifact", "scifact"), ("cqadupstack", "cqadupstack/android")):
        shutil.copytree(tiny_corpus, tmp_path / "sources" / name / inside)
        (tmp_path / "served").mkdir(exist_ok=True)
        shutil.make_archive(str(tmp_path / "served" / name), "zip", tmp_path / "sources" / name)
    (tmp_path / "served" / "fiqa.zip").write_text("<html>not found</html>")
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "served"))) as http:
        threading.Thread(target=http.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http.server_port}"
        http.shutdown()


@pytest.fixture
def nobody_listens(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address that refuses at once, as without a network."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{taken.getsockname()[1]}"


@needs_requests
def test_a_download_is_kept_and_not_fetched_again(
    server: str, nobody_listens: str, tmp_path: Path, tiny_corpus: Path
) -> None:
    folder = download_beir("scifact", tmp_path / "cache", server)
    assert read_beir(folder).digest == read_beir(tiny_corpus).digest
    assert download_beir("scifact", tmp_path / "cache", nobody_listens) == folder
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["scifact"], "no archive or temporary folder stays"
    assert not list(folder.glob("*.zip"))


@needs_requests
def test_a_collection_of_parts_asks_for_one(server: str, tmp_path: Path) -> None:
    assert read_beir(download_beir("cqadupstack/android", tmp_path, server)).documents
    with pytest.raises(CorpusError, match="name one of its parts: beir:cqadupstack/android"):
        download_beir("cqadupstack", tmp_path, server)
    (tmp_path / "cache" / "beir").mkdir(parents=True)
    shutil.move(tmp_path / "cqadupstack", tmp_path / "cache" / "beir" / "cqadupstack")
    assert open_corpus("beir:cqadupstack/android", tmp_path / "cache").name == "cqadupstack-android"


@needs_requests
def test_without_a_network_the_next_step_is_named(nobody_listens: str, tmp_path: Path) -> None:
    with pytest.raises(
        CorpusError,
        match=r"beir:scifact is not in the cache and could not be downloaded from http://127.*ConnectionError.*"
        r"Without a network, give the folder of a BEIR collection",
    ):
        download_beir("scifact", tmp_path / "cache", nobody_listens)
    assert list((tmp_path / "cache").iterdir()) == [], "nothing half-made stays"


@needs_requests
def test_an_answer_that_is_no_archive(server: str, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"fiqa\.zip did not answer with a zip archive"):
        download_beir("fiqa", tmp_path, server)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "scifact",
            r"No corpus 'scifact': there is no such folder or file\. Did you mean beir:scifact\? Understood: a",
        ),
        ("nfcorpsu", r"Did you mean beir:nfcorpus\?"),
        ("stdlib", r"Did you mean python-stdlib\?"),
        (
            "ftp:thing",
            r"No corpus 'ftp:thing'.*Understood: a BEIR folder, beir:NAME \(e\.g\. beir:scifact\), a table of "
            r"documents \(\.jsonl, .*hf:NAME, a folder of .*, or python-stdlib",
        ),
        ("beir:", r"Understood: a BEIR folder"),
        ("beir:scifcat", r"beir:scifcat is not among BEIR's collections\. Did you mean beir:scifact\? Known: arguana"),
        ("beir:robust04", r"beir:robust04 cannot be downloaded: its owners hand it out on request only"),
        ("some/where", r"There is no corpus at some/where: the path does not exist"),
    ],
)
def test_what_is_not_understood(source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CorpusError, match=message):
        open_corpus(source, cache=tmp_path)


def test_a_folder_is_opened(tiny_corpus: Path) -> None:
    assert open_corpus(str(tiny_corpus)).digest == read_beir(tiny_corpus).digest


def test_a_limited_corpus_keeps_the_judged_documents(tiny_corpus: Path) -> None:
    whole = read_beir(tiny_corpus)
    judged = {d for qrels in whole.qrels.values() for grades in qrels.values() for d, g in grades.items() if g > 0}
    limited = open_corpus(str(tiny_corpus), max_documents=len(judged) + 5)
    assert judged <= set(limited.document_ids)
    assert len(limited.documents) == len(judged) + 5
    assert limited.qrels == whole.qrels
    assert limited.name == f"tiny-{len(judged) + 5}"
    small = limit_documents(whole, 10)
    assert {d for qrels in small.qrels.values() for grades in qrels.values() for d in grades} <= set(small.document_ids)
    assert limit_documents(whole, 10_000) is whole


def test_a_limit_of_nothing(tiny_corpus: Path) -> None:
    with pytest.raises(CorpusError, match="max_documents is 0, expected 1 or more"):
        open_corpus(str(tiny_corpus), max_documents=0)


@pytest.mark.skipif(find_spec("requests") is not None, reason="the package requests is installed")
def test_without_requests_the_pip_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingPackageError, match=r"Downloading needs the package 'requests': pip install requests"):
        download_beir("scifact", tmp_path)
