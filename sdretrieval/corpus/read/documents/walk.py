"""The files of a folder, in sorted order, and what was passed over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

FORMAT_OF = {
    ".txt": "text", ".text": "text", ".md": "Markdown", ".markdown": "Markdown", ".rst": "reStructuredText",
    ".html": "HTML", ".htm": "HTML", ".pdf": "PDF",
}  # fmt: skip
"""Extension -> format. All but PDF are read gzipped too (`.txt.gz`)."""
READ = "Files of these kinds are read: .txt, .md, .rst, .html (each also as .gz) and .pdf"


@dataclass
class PassedOver:
    """What the walk met and did not take."""

    extensions: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    links: list[str] = field(default_factory=list)
    """Links to what is read anyway: loops, and second names of files and folders."""
    unreadable: list[str] = field(default_factory=list)


BEIR_PARTS = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.zst", "queries.jsonl", "qrels")


def is_document_folder(folder: Path) -> bool:
    """Whether `folder` holds files that `read_folder` reads, and no part of a BEIR folder (which may be broken)."""
    if not folder.is_dir() or any((folder / part).exists() for part in BEIR_PARTS):
        return False
    return next(document_files(folder, PassedOver()), None) is not None


def read_files(folder: Path) -> list[Path]:
    """The files that `read_folder` reads, broken links among them left out."""
    return [path for path in document_files(folder, PassedOver()) if path.is_file()]


def extension_of(name: str) -> str:
    """The extension in lower case, `.gz` with the one before it."""
    path = Path(name.lower())
    return "".join(path.suffixes[-2:]) if path.suffix == ".gz" else path.suffix


def name_without_extension(name: str) -> str:
    """What a file without a title is called."""
    return name[: -len(extension_of(name))] if extension_of(name) else name


def format_of(name: str) -> str:
    """The format of a file by its name; empty where it is none of ours."""
    extension = extension_of(name)
    inner = extension.removesuffix(".gz")
    return FORMAT_OF.get(inner, "") if extension == inner or inner != ".pdf" else ""


def document_files(folder: Path, passed: PassedOver) -> Iterator[Path]:
    """The files to read, sorted by name within each folder, the folder's own files first."""
    root = folder.resolve()
    waiting, seen = [folder], set[Path]()
    while waiting:
        here = waiting.pop()
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
        except OSError as error:
            passed.unreadable.append(f"{here.relative_to(folder)}/: {error.strerror}")
            continue
        inner: list[Path] = []
        for entry in entries:
            path = here / entry.name
            if entry.name.startswith("."):
                passed.hidden += 1
            elif entry.is_symlink() and _read_anyway(path, root, seen):
                passed.links.append(str(path.relative_to(folder)))
            elif _is_folder(path):
                inner.append(path)
            elif format_of(entry.name):
                yield path
            else:
                passed.extensions[extension_of(entry.name) or "(none)"] += 1
        waiting += reversed(inner)


def _read_anyway(link: Path, root: Path, seen: set[Path]) -> bool:
    """Whether a link leads to what the walk meets under its own name, back to where it stands, or where one led before.

    `seen` are the folders outside that links led to; only those can be met twice, for `root` itself is a tree.
    """
    try:
        target = link.resolve(strict=True)
    except (
        OSError,
        RuntimeError,
    ):  # a loop of links is a RuntimeError until Python 3.12; broken ones are met on reading
        return not link.exists() and not format_of(link.name)
    if target == root or target in root.parents or target in seen:
        return True
    if target.is_dir():
        seen.add(target)
    inside = target.is_relative_to(root) and not any(part.startswith(".") for part in target.relative_to(root).parts)
    return inside and (target.is_dir() or bool(format_of(target.name)))


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # a link to where we may not look
        return False
