"""Which files of a folder are read, and that nothing passed over goes uncounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdretrieval.corpus.read.documents import is_document_folder
from sdretrieval.corpus.read.documents.folder import (
    PassedOver,
    document_files,
    extension_of,
    format_of,
    name_without_extension,
)


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("words")


def walked(folder: Path) -> tuple[list[str], PassedOver]:
    passed = PassedOver()
    return [path.relative_to(folder).as_posix() for path in document_files(folder, passed)], passed


@pytest.mark.parametrize(
    ("name", "extension", "kind"),
    [
        ("a.txt", ".txt", "text"),
        ("A.MD", ".md", "Markdown"),
        ("a.b.rst.gz", ".rst.gz", "reStructuredText"),
        ("a.htm", ".htm", "HTML"),
        ("a.pdf", ".pdf", "PDF"),
        ("a.pdf.gz", ".pdf.gz", ""),
        ("a.docx", ".docx", "Word"),
        ("a.PPTX", ".pptx", "PowerPoint"),
        ("a.docx.gz", ".docx.gz", ""),
        ("a.doc", ".doc", ""),
        ("a.tar.gz", ".tar.gz", ""),
        ("a.gz", ".gz", ""),
        ("README", "", ""),
    ],
)
def test_formats_by_name(name: str, extension: str, kind: str) -> None:
    assert (extension_of(name), format_of(name)) == (extension, kind)
    assert name_without_extension(name) + extension == name[: len(name) - len(extension)] + extension


def test_files_come_sorted_and_others_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "b.md", "a.txt", "z/c.html", "c/d.PDF", "x.png", "y.png", "Makefile", ".hidden.md", ".git/a.txt")
    files, passed = walked(tmp_path)
    assert files == ["a.txt", "b.md", "c/d.PDF", "z/c.html"]
    assert passed.extensions == {".png": 2, "(none)": 1} and passed.hidden == 2


def test_links_to_what_is_read_anyway_and_loops_are_passed_over(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write(folder, "a.txt", "sub/b.txt", ".store/blob", ".store/d/e.md")
    for name, target in {
        "loop": folder, "sub/up": folder / "sub", "second": folder / "sub", "a2.txt": folder / "a.txt",
        "self.txt": folder / "self.txt", "gone.txt": folder / "nothing.txt", "self": folder / "self",
        "c.md": folder / ".store/blob", "d": folder / ".store/d", "d2": folder / ".store/d",
    }.items():  # fmt: skip
        (folder / name).symlink_to(target)
    (folder / ".store/d/itself").symlink_to(folder / ".store/d")
    files, passed = walked(folder)
    assert files == ["a.txt", "c.md", "gone.txt", "self.txt", "d/e.md", "sub/b.txt"]
    assert sorted(passed.links) == ["a2.txt", "d/itself", "d2", "loop", "second", "self", "sub/up"]


def test_links_that_lead_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    write(folder, "a.txt", "sub/b.txt")
    write(outside, "secret.txt", "more/c.md", "x.png")
    for name, target in {
        "file.txt": outside / "secret.txt", "sub/up.md": Path("../../outside/more/c.md"), "all": outside,
        "up": tmp_path, "twice.txt": outside / "link", "x.png": outside / "x.png",
    }.items():  # fmt: skip
        (folder / name).symlink_to(target)
    (outside / "link").symlink_to(outside / "secret.txt")
    files, passed = walked(folder)
    assert files == ["a.txt", "sub/b.txt"] and passed.extensions == {".png": 1} and not passed.links
    assert sorted(passed.outside) == ["all", "file.txt", "sub/up.md", "twice.txt", "up"]
    (tmp_path / "door").symlink_to(folder)  # the folder itself may be a link: it was asked for
    assert walked(tmp_path / "door")[0] == files


def test_a_document_folder_has_documents_and_is_no_beir_folder(tmp_path: Path) -> None:
    assert not is_document_folder(tmp_path) and not is_document_folder(tmp_path / "nothing")
    write(tmp_path, "x.csv")
    assert not is_document_folder(tmp_path)
    (tmp_path / "link.txt").symlink_to(Path(__file__))  # `read_folder` says why it is not read
    assert is_document_folder(tmp_path)
    (tmp_path / "link.txt").unlink()
    write(tmp_path, "deep/in/a.rst")
    assert is_document_folder(tmp_path) and not is_document_folder(tmp_path / "x.csv")
    write(tmp_path, "corpus.jsonl")
    assert not is_document_folder(tmp_path)
