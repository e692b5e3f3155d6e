"""The page: it loads nothing from elsewhere, and nothing in a document is markup or script to it."""

from __future__ import annotations

import json
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.corpus.verdicts import read_marks
from sdretrieval.errors import RequestError
from sdretrieval.export.documents import IndexedDocuments
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.serve.highlight import LONGEST, highlight
from sdretrieval.serve.verdict_file import VerdictFile
from tests.serve.conftest import export

PAGE = Path("sdretrieval/serve/page")
HOSTILE = (
    '<script>document.title="owned"</script><img src=x onerror="document.title=\'owned\'"> \x1b[31m ore \u202e =1+1'
)


class Tags(HTMLParser):
    """Tags with their attributes, and the text inside scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] in ("script", "style"):
            self.inline += data.strip()


def test_the_page_is_complete_in_itself(serve: Any, folder: Path) -> None:
    client = serve(folder)
    answer = client.get("/")
    found = Tags()
    found.feed(answer.text)
    assert not found.inline, "no script or style of its own text"
    for _, attributes in found.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "href"):
            assert not (attributes.get(name) or "").startswith(("http", "//"))
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    script = client.get("/page.js").text
    assert not any(
        word in script for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "http://", "https://")
    )
    assert client.get("/page.css").headers["content-type"].startswith("text/css")


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.skip("the page is looked at in headless Chromium, which is not installed: apt-get install chromium")


@pytest.fixture(scope="module")
def hostile(serve: Any, given: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A server whose documents try to be markup."""
    documents = given["documents"]
    changed = IndexedDocuments(documents.ids, [HOSTILE] * 120, [f"{HOSTILE} {text}" for text in documents.texts])
    place = export(tmp_path_factory.mktemp("hostile") / "bundle", given)
    changed.write(place)
    from tests.export.conftest import sign_again

    sign_again(place)
    return serve(place, against=place)


def dumped(client: Any, path: str, width: int = 1280) -> str:
    """The page as Chromium has it after its scripts have run."""
    command = [
        chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000",
        f"--window-size={width},900", "--dump-dom", f"{client.base_url}{path}",
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=90, check=True).stdout


def test_documents_are_text_in_a_browser_too(hostile: Any) -> None:
    page = dumped(hostile, "?q=the+ore&mode=hybrid")
    assert "<title>Search: tiny run</title>" in page, "no script of a document has run"
    assert "&lt;script&gt;" in page and "<img" not in page
    assert page.count("<section>") == 2 and "student: 10 hits" in page and "base: 10 hits" in page
    assert "<mark>ore</mark>" in page and "relevant: " in page


def test_words_of_the_query_are_marked_and_the_part_that_has_most_is_shown() -> None:
    filler = "nothing to see here and there " * 40
    text = f"{filler}the red ores of Oslo, an ore. {filler}"
    lexical = LexicalIndex.build([text, "oslo kiln", "a bakery with dough"])
    for index, words in ((lexical, ["ores", "Oslo", "ore"]), (None, ["Oslo", "ore"])):
        found = highlight("ore in OSLO", text, index)
        start, end = found.passage
        assert [text[a:b] for a, b in found.words] == words
        assert start > 0 and end - start <= LONGEST and "red ores of Oslo, an ore" in text[start - 20 : end]
        assert text[end - 1] != " " and text[end] == " ", "no word is cut"
    assert highlight("ore", "", lexical).passage == (0, 0)
    early = highlight("oslo", "In Oslo there is a kiln. " * 3, lexical)
    assert early.passage[0] == 0 and len(early.words) == 3


def test_thumbs_become_lines_that_a_run_takes(serve: Any, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "thumbs.jsonl"
    file.write_text('{"verdict": "relevant", "query_id": "q1", "document_id": "d1"}\n{"verdict": "rele')
    client = serve(folder, verdicts=file)
    assert client.get("/info").json()["verdicts"]
    for verdict in ("relevant", "not"):
        body = {"query": "the ore\nin oslo", "document_id": "d7", "verdict": verdict}
        assert client.post("/verdicts", json=body).status_code == 204
    assert [(mark.verdict, mark.brings_query) for mark in read_marks(file)] == [
        ("relevant", False), ("relevant", True), ("not", True)
    ]  # fmt: skip
    record = json.loads(file.read_text().splitlines()[-1])
    assert record["document_id"] == "d7" and len(record["document_digest"]) > 20
    answer = client.post("/verdicts", json={"query": "x", "document_id": "nowhere", "verdict": "not"})
    assert answer.status_code == 422 and "no document has the id 'nowhere'" in answer.json()["error"]["message"]
    with pytest.raises(RequestError, match=r"found the ending '.tsv'; expected .jsonl"):
        VerdictFile(tmp_path / "thumbs.tsv")
    (tmp_path / "other.jsonl").write_text("hello\n")
    with pytest.raises(RequestError, match="broken JSON"):
        VerdictFile(tmp_path / "other.jsonl")
