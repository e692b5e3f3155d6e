"""A folder as a corpus: ids, titles, counted trouble, the texts of errors, and thousands of files."""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.corpus import Corpus
from sdretrieval.corpus.read.documents import read_folder
from sdretrieval.corpus.read.report import Trouble
from sdretrieval.errors import CorpusError, MissingPackageError
from tests.helpers.pdf import encrypted, pdf, perhaps_in_columns

WORDS = " ".join(f"word{number}" for number in range(50)) + "."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """One good file of each kind."""
    folder = tmp_path / "papers"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("Plain words.")
    (folder / "b.md").write_text(f"# On Boats\n\n{WORDS}\n\n## Sails\n\nMarkdown words about sails.")
    (folder / "c.rst").write_text("Title\n=====\n\nStructured words.")
    (folder / "d.html").write_text("<title>Page</title><p>Hypertext words.")
    (folder / "sub" / "e.pdf").write_bytes(pdf([["Printed words."]]))
    (folder / "sub" / "f.txt.gz").write_bytes(gzip.compress(b"Packed words."))
    return folder


def by_id(corpus: Corpus) -> dict[str, tuple[str, str]]:
    table = corpus.documents
    return {i: (title, text) for i, title, text in zip(table["id"], table["title"], table["text"], strict=True)}


def ids_of(corpus: Corpus, name: str) -> list[str]:
    return [identifier for identifier in corpus.document_ids if identifier.startswith(f"{name}#")]


def test_every_kind_is_read(folder: Path) -> None:
    corpus, report = read_folder(folder)
    assert [value for key, value in by_id(corpus).items() if not key.startswith("b.md")] == [
        ("a", "Plain words."),
        ("Title", "Structured words."),
        ("Page", "Hypertext words."),
        ("e", "Printed words."),
        ("f", "Packed words."),
    ]
    assert [by_id(corpus)[identifier][0] for identifier in ids_of(corpus, "b.md")] == ["On Boats", "On Boats > Sails"]
    assert corpus.name == "papers" and len(corpus.queries) == 0 and not corpus.qrels
    assert (report.read, report.kept) == (6, 7) and not report.troubles
    assert report.lines() == [f"{folder}: 6 files read, 7 passages kept"]


def test_a_packed_file_that_would_fill_the_memory_is_not_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdretrieval.corpus.read.documents.folder.UNPACKED_AT_MOST", 1 << 20)
    (folder / "bomb.txt.gz").write_bytes(gzip.compress(b"word " * (1 << 18)))
    (folder / "small.txt.gz").write_bytes(gzip.compress(b"Packed on purpose."))
    corpus, report = read_folder(folder)
    assert report.troubles[Trouble.UNREADABLE].examples == ("bomb.txt.gz: unpacks to more than 1.0 MB; unpack it",)
    assert "Packed on purpose." in corpus.documents["text"]


def test_all_trouble_is_counted_and_named(folder: Path) -> None:
    (folder / "blank.md").write_text(" \n")
    (folder / "only_comment.html").write_text("<!-- nothing -->")
    (folder / "latin.txt").write_bytes("caf\xe9 au lait".encode("latin-1"))
    (folder / "torn.txt").write_bytes("größer".encode() + b"\xc3 torn")
    (folder / "binary.txt").write_bytes(b"\x00\x01\x02")
    (folder / "broken.txt.gz").write_bytes(b"no gzip")
    (folder / "short.txt.gz").write_bytes(gzip.compress(b"words" * 1000)[:20])
    (folder / "gone.txt").symlink_to(folder / "nothing")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4 no")
    (folder / "locked.pdf").write_bytes(encrypted(pdf([["secret"]]), "password"))
    (folder / "scan.pdf").write_bytes(pdf([[], []]))
    (folder / "copy.txt").write_text("plain  WORDS.")
    (folder / "x.png").write_bytes(b"x")
    (folder / ".hidden.md").write_text("x")
    os.mkfifo(folder / "pipe.txt")
    outside = folder.parent / "outside.md"
    outside.write_text("secret words")
    (folder / "out.md").symlink_to(outside)
    corpus, report = read_folder(folder)
    assert "secret words" not in corpus.documents["text"]
    assert report.troubles[Trouble.EMPTY_FILE].examples == ("blank.md: no text", "only_comment.html: no text")
    assert report.troubles[Trouble.UNREADABLE].count == 6
    named = {
        example.partition(": ")[0]: example.partition(": ")[2]
        for example in report.troubles[Trouble.UNREADABLE].examples
    }
    assert named["binary.txt"] == "binary data, no text"
    assert named["gone.txt"] == "No such file or directory" and named["pipe.txt"] == "a pipe or device, no file"
    assert "gzip" in named["broken.txt.gz"] and named["broken.pdf"].startswith("no readable PDF (")
    assert report.troubles[Trouble.ENCRYPTED].examples == ("locked.pdf: needs a password",)
    assert report.troubles[Trouble.IMAGE_ONLY].examples == ("scan.pdf: no text on its 2 pages",)
    assert report.troubles[Trouble.UNDECODED].examples == ("torn.txt: 1 character",)
    assert report.troubles[Trouble.GUESSED].examples == ("latin.txt: read as windows-1252",)
    assert report.troubles[Trouble.LINK_OUTSIDE].examples == (f"out.md: leads to {outside}",)
    [copy], [original] = ids_of(corpus, "copy.txt"), ids_of(corpus, "a.txt")
    assert report.troubles[Trouble.DUPLICATE].examples == (f"{copy}: repeats {original}",)
    assert report.read == 9 and json.dumps(report.to_json())
    assert "  1 encrypted file: locked.pdf: needs a password" in report.lines()
    assert [*report.notes] == report.lines()[-2:] == ["skipped, other extensions: .png (1)", "skipped, hidden: 1"]


def test_pages_that_may_have_columns_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(perhaps_in_columns())
    _, report = read_folder(tmp_path)
    assert report.lines()[1:] == ["  1 PDF with pages that may have columns, read across: a.pdf: 1 page"]


def test_what_is_around_the_text_is_left_out_and_its_words_counted(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<nav>Home and <b>contact</b></nav><p>Text.<footer>Imprint</footer>")
    (tmp_path / "only.html").write_text("<header><p>All that the page says.</header>")
    pages = [["The Manual", f"What only page {'abcd'[page]} says.", f"Page {page + 1} of 4"] for page in range(4)]
    (tmp_path / "b.pdf").write_bytes(pdf(pages))
    corpus, report = read_folder(tmp_path)
    assert "Text." in corpus.documents["text"] and "All that the page says." in corpus.documents["text"]
    assert report.notes == (
        "words around the text of HTML files (menus, heads and feet of pages), left out: 4",
        "words around the text of PDF files (running heads, page numbers), left out: 24",
    )


@pytest.mark.parametrize(("module", "package"), [("chardetng_py", "chardetng-py"), ("webencodings", "webencodings")])
def test_a_package_that_only_older_files_need_is_asked_for_by_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    (tmp_path / "a.txt").write_text("größer")
    assert read_folder(tmp_path)[1].kept == 1
    (tmp_path / "b.txt").write_bytes("größer".encode("latin-1"))
    with pytest.raises(MissingPackageError, match=f"Reading non-UTF-8 files needs the package {package}"):
        read_folder(tmp_path)


def test_words_are_whole_whatever_typesetting_made_of_them(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        "<title>Of&shy;fice</title><p>Die Donau&shy;dampf&shy;schiff&shy;fahrt, zero&#8203;width, data&#8288;base, "
        "cafe&#769;"
    )
    (tmp_path / "b.txt").write_text(
        "The o\ufb03ce needs an e\ufb03cient \ufb01lter \ufeffand a wrapped hy\u00ad\nphen."
    )
    spelled = "می\u200cخواهم क्\u200dष ภาษา\u200bไทย ❤\ufe0f m² ™ １２ \uf914 \u212b"
    (tmp_path / "c.md").write_text(spelled)
    corpus = read_folder(tmp_path)[0]
    assert corpus.documents["text"][:] == [
        "Die Donaudampfschifffahrt, zerowidth, database, café",
        "The office needs an efficient filter and a wrapped hyphen.",
        spelled,  # here they are part of the spelling
    ]
    assert corpus.documents["title"][0] == "Office"


def test_a_page_that_would_take_hours_is_named(tmp_path: Path) -> None:
    (tmp_path / "deep.html").write_text("<DIV>" * 100_000 + "text" + "</DIV>" * 100_000)
    (tmp_path / "wide.html").write_text("<div><br>text</div>" * 10_000 + "<p>end")
    _, report = read_folder(tmp_path)
    assert report.read == 1
    assert report.troubles[Trouble.UNREADABLE].examples == ("deep.html: its HTML does not parse (ValueError)",)


def test_only_the_first_five_examples_are_kept(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text("the same")
    _, report = read_folder(tmp_path)
    assert (report.troubles[Trouble.DUPLICATE].count, len(report.troubles[Trouble.DUPLICATE].examples)) == (8, 5)


def test_paths_that_cannot_stand_in_an_id_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "a b#c%\t\u00a0.txt").write_text("words")
    (tmp_path / os.fsdecode(b"\xff.txt")).write_text("more words")
    assert [identifier.partition("#")[0] for identifier in read_folder(tmp_path)[0].document_ids] == [
        "a%20b%23c%25%09%C2%A0.txt",
        "\\udcff.txt",
    ]


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(alphabet="ab .\n#-", min_size=1, max_size=80), min_size=1, max_size=5))
def test_ids_do_not_change_when_another_file_comes(texts: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("stable")
    for number, text in enumerate(["words", *texts]):
        (folder / f"f{number}.md").write_text(text)
    before = by_id(read_folder(folder, max_words=8, overlap_words=2)[0])
    (folder / "a_first.md").write_text("\n\n".join(texts))
    after = by_id(read_folder(folder, max_words=8, overlap_words=2)[0])
    assert {key: value for key, value in after.items() if not key.startswith("a_first.md#")} == before


def test_the_same_folder_gives_the_same_corpus_wherever_it_lies(folder: Path, tmp_path: Path) -> None:
    first, _ = read_folder(folder)
    folder.rename(tmp_path / "moved")
    assert read_folder(tmp_path / "moved")[0].digest == first.digest


def test_thousands_of_files_in_seconds(tmp_path: Path) -> None:
    for number in range(1500):
        (tmp_path / f"{number:04}.md").write_text(f"# Title {number}\n\n{WORDS} {number}\n\n## Part\n\n{WORDS}")
    start = time.perf_counter()
    corpus, report = read_folder(tmp_path)
    assert time.perf_counter() - start < 25
    assert (len(corpus.documents), report.read, report.troubles[Trouble.DUPLICATE].count) == (3000, 1500, 1499)


def test_one_large_file(tmp_path: Path) -> None:
    (tmp_path / "large.txt").write_text("\n\n".join(f"{WORDS} {number}." for number in range(20_000)))
    _, report = read_folder(tmp_path)
    assert 8_000 < report.kept < 20_000


@pytest.mark.parametrize(
    ("module", "package", "file"),
    [
        ("markdown_it", "markdown-it-py", "b.md"),
        ("selectolax.lexbor", "selectolax", "d.html"),
        ("pypdf", "pypdf", "sub/e.pdf"),
        ("docutils", "docutils", "c.rst"),
        ("mammoth", "mammoth", "w.docx"),
        ("pptx", "python-pptx", "w.pptx"),
    ],
)
def test_a_parser_that_is_not_installed_is_asked_for_before_reading(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: str, package: str, file: str
) -> None:
    if "w." in file:
        (folder / file).write_bytes(b"not looked into")
    monkeypatch.setitem(sys.modules, module, None)
    wanted = rf"Reading {Path(file).suffix} files needs the package {package}, which is not installed"
    command = rf"run: pip install {package}  \(.*'sdretrieval\[documents\]'"
    with pytest.raises(MissingPackageError, match=f"{wanted} .*{command}"):
        read_folder(folder)
    (folder / file).unlink()
    if module == "selectolax.lexbor":
        with pytest.raises(MissingPackageError, match=r"Reading \.md files needs the package selectolax"):
            read_folder(folder)
        (folder / "b.md").unlink()
    assert read_folder(folder)[1].read == (4 if module == "selectolax.lexbor" else 6 if "w." in file else 5)


def message(folder: Path, **sizes: int) -> str:
    with pytest.raises(CorpusError) as caught:
        read_folder(folder, **sizes)
    return str(caught.value)


READ = "Files of these kinds are read: .txt, .md, .rst, .html (each also as .gz), .pdf, .docx and .pptx"


def test_error_texts_for_what_is_no_folder_of_documents(tmp_path: Path) -> None:
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.touch()
    folder.mkdir()
    assert message(tmp_path / "nothing") == f"{tmp_path / 'nothing'} does not exist: check the path. {READ}."
    assert message(file) == f"{file} is a file, expected a folder. {READ}."
    assert message(folder) == f"There are no documents in {folder}: it holds no files. {READ}; convert others first."
    for name in ("a.odt", "b.odt", "c", ".d.md"):
        (folder / name).touch()
    (folder / "l.txt").symlink_to(Path(__file__))
    assert message(folder) == (
        f"There are no documents in {folder}: it holds .odt (2), (none) (1), and 1 hidden ones that are left alone, "
        f"and links that lead out of it and are not followed: 'l.txt'. {READ}; convert others first."
    )


def test_error_text_where_no_file_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(pdf([[]]))
    (tmp_path / "b.txt").write_text("")
    assert message(tmp_path) == (
        f"None of the 2 files in {tmp_path} could be read. PDFs without text (scanned pages): 1 (a.pdf: no text on its "
        "1 page); empty files: 1 (b.txt: no text). Mend or remove them: unlock encrypted files, run text recognition "
        "(e.g. ocrmypdf) over scanned ones."
    )


@pytest.mark.parametrize(("most", "overlap"), [(0, 0), (10, 6), (10, -1)])
def test_error_text_for_sizes_that_make_no_passages(folder: Path, most: int, overlap: int) -> None:
    assert message(folder, max_words=most, overlap_words=overlap) == (
        f"max_words is {most} and overlap_words {overlap}: expected at least one word a passage, and an overlap from 0 "
        "to half of max_words."
    )
