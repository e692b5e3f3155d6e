"""`read_folder`: every file through its parser and the cutter, all trouble counted and named."""

from __future__ import annotations

import gzip
import hashlib
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from sdretrieval.corpus.read.documents.blocks import Parsed, load_parser
from sdretrieval.corpus.read.documents.cut import cut
from sdretrieval.corpus.read.documents.decode import decode
from sdretrieval.corpus.read.documents.html import parse_html
from sdretrieval.corpus.read.documents.markdown import parse_markdown
from sdretrieval.corpus.read.documents.pdf import parse_pdf
from sdretrieval.corpus.read.documents.plain import parse_plain
from sdretrieval.corpus.read.documents.report import Finding, FolderReport, Trouble, TroubleKind, described, found_in
from sdretrieval.corpus.read.documents.rst import parse_rst
from sdretrieval.corpus.read.documents.walk import READ, PassedOver, document_files, format_of, name_without_extension
from sdretrieval.corpus.tables import document_table, query_table
from sdretrieval.corpus.text import normalised
from sdretrieval.corpus.types import Corpus
from sdretrieval.errors import CorpusError
from sdretrieval.progress import track

TEXT_PARSERS: dict[str, Callable[[str], Parsed]] = {
    "text": parse_plain, "Markdown": parse_markdown, "reStructuredText": parse_rst, "HTML": parse_html,
}  # fmt: skip
PARSERS_OF = {
    "Markdown": [("markdown_it", ".md"), ("bs4", ".md")],  # Markdown holds HTML
    "HTML": [("bs4", ".html")],
    "PDF": [("pypdf", ".pdf")],
    "reStructuredText": [("docutils", ".rst")],
}
NOT_IN_IDS = re.compile(r"[\s%#]")
"""Signs of a path that would end an id in a run or qrels file, or be taken for the border to the digest."""


def read_folder(folder: Path, *, max_words: int = 160, overlap_words: int = 32) -> tuple[Corpus, FolderReport]:
    """The documents of `folder` and its subfolders as a corpus of passages without queries.

    A passage holds at most `max_words` words and crosses no heading of its own or a
    higher level; within a longer section neighbours share whole sentences of up to `overlap_words` words. Its title is
    the file's and the headings above it; its id is the file's path, `#`, and a digest of headings and text: no other
    file changes it, and an edit changes only ids nearby.

    Raises `CorpusError` where there is nothing to read, and `MissingPackageError` where a parser is not installed.
    """
    _require_sizes(max_words, overlap_words)
    passed = PassedOver()
    files = _files(folder, passed)
    reading = _Reading(folder, max_words, overlap_words)
    rows = track(files, f"{folder.resolve().name}: reading", "files")
    documents = document_table(row for path in rows for row in reading.rows(path))
    report = reading.report(passed)
    if not report.passages:
        raise CorpusError(_nothing_read(report, len(files)))
    corpus = Corpus(folder.resolve().name, documents, query_table(()), {})
    return corpus, report


def _require_sizes(max_words: int, overlap_words: int) -> None:
    if max_words < 1 or not 0 <= overlap_words <= max_words // 2:
        raise CorpusError(
            f"max_words is {max_words} and overlap_words {overlap_words}: expected at least one word a passage, and an "
            "overlap from 0 to half of max_words."
        )


def _files(folder: Path, passed: PassedOver) -> list[Path]:
    """All files to read, after a check that their parsers are there: not after an hour of reading."""
    if not folder.is_dir():
        what = "is a file, expected a folder" if folder.exists() else "does not exist: check the path"
        raise CorpusError(f"{folder} {what}. {READ}.")
    files = list(document_files(folder, passed))
    if not files:
        held = f"it holds {described(_by_count(passed.extensions))}" if passed.extensions else "it holds no files"
        hidden = f", and {passed.hidden:,} hidden ones that are left alone" if passed.hidden else ""
        broken = f", and parts that cannot be read: {'; '.join(passed.unreadable[:5])}" if passed.unreadable else ""
        raise CorpusError(f"There are no documents in {folder}: {held}{hidden}{broken}. {READ}; convert others first.")
    for name in sorted({format_of(path.name) for path in files} & PARSERS_OF.keys()):
        for module, extension in PARSERS_OF[name]:
            load_parser(module, extension)
    return files


def _nothing_read(report: FolderReport, files: int) -> str:
    found = "; ".join(f"{what}: {found.count} ({'; '.join(found.examples)})" for what, found in report.troubles)
    return (
        f"None of the {files:,} files in {report.folder} could be read. {found}. "
        "Mend or remove them: unlock encrypted PDFs, run text recognition (e.g. ocrmypdf) over scanned ones."
    )


def _by_count(extensions: Counter[str]) -> dict[str, int]:
    return dict(sorted(extensions.items(), key=lambda item: (-item[1], item[0])))


class _Reading:
    """Turns files into rows, one at a time, and keeps count of what was wrong with them."""

    def __init__(self, folder: Path, max_words: int, overlap_words: int) -> None:
        self.folder, self.max_words, self.overlap_words = folder, max_words, overlap_words
        self.files = self.passages = 0
        self.trouble = {kind: Finding() for kind in TroubleKind}
        self.lost_pages, self.replaced, self.duplicates = Finding(), Finding(), Finding()
        self._first: dict[bytes, str] = {}
        """Digest of a passage's text -> id of the first passage with it."""

    def rows(self, path: Path) -> Iterator[tuple[str, str, str]]:
        """Id, title and text of each passage of a file."""
        name = path.relative_to(self.folder).as_posix().encode("utf8", "backslashreplace").decode()
        parsed = self._parse(path, name)
        before = self.passages
        if isinstance(parsed, Parsed):
            for passage in cut(
                parsed, name_without_extension(name.rpartition("/")[2]), self.max_words, self.overlap_words
            ):
                identifier = f"{NOT_IN_IDS.sub(_escaped, name)}#{passage.key}"
                self._note_duplicate(identifier, passage.text)
                self.passages += 1
                yield identifier, passage.title, passage.text
            parsed = Trouble(TroubleKind.EMPTY, "no text")
        if self.passages > before:
            self.files += 1
        else:
            self.trouble[parsed.kind].add(f"{name}: {parsed.reason}")

    def _parse(self, path: Path, name: str) -> Parsed | Trouble:
        try:
            if path.exists() and not path.is_file():
                return Trouble(TroubleKind.UNREADABLE, "a pipe or device, no file")
            data = path.read_bytes()
            if path.name.lower().endswith(".gz"):
                data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:  # a broken gzip file is an OSError, EOFError or zlib.error
            return Trouble(TroubleKind.UNREADABLE, getattr(error, "strerror", None) or str(error))
        kind = format_of(path.name)
        if not data.strip():
            return Trouble(TroubleKind.EMPTY, "no text")
        if kind != "PDF":
            return self._parse_text(data, kind, name)
        parsed = parse_pdf(data)
        if isinstance(parsed, Parsed) and parsed.lost_pages:
            self.lost_pages.add(f"{name}: {parsed.lost_pages} pages left out")
        return parsed

    def _parse_text(self, data: bytes, kind: str, name: str) -> Parsed | Trouble:
        decoded = decode(data, may_declare=kind == "HTML")
        if "\0" in decoded.text:
            return Trouble(TroubleKind.UNREADABLE, "NUL bytes: binary data, or UTF-16 without its mark")
        try:
            parsed = TEXT_PARSERS[kind](decoded.text)
        except (RecursionError, ValueError, AssertionError) as error:  # what parsers do with hostile markup
            return Trouble(TroubleKind.UNREADABLE, f"its {kind} does not parse ({type(error).__name__})")
        if decoded.replaced:
            self.replaced.add(f"{name}: {decoded.replaced:,} characters")
        return parsed

    def _note_duplicate(self, identifier: str, text: str) -> None:
        digest = hashlib.blake2b(normalised(text).encode("utf8", "replace"), digest_size=8).digest()
        first = self._first.setdefault(digest, identifier)
        if first != identifier:
            self.duplicates.add(f"{identifier} repeats {first}")

    def report(self, passed: PassedOver) -> FolderReport:
        """What was found so far, with what the walk passed over."""
        for place in passed.unreadable:
            self.trouble[TroubleKind.UNREADABLE].add(place)
        return FolderReport(
            folder=str(self.folder),
            files=self.files,
            passages=self.passages,
            skipped=_by_count(passed.extensions),
            hidden=passed.hidden,
            links=found_in(passed.links),
            unreadable=self.trouble[TroubleKind.UNREADABLE].found(),
            encrypted=self.trouble[TroubleKind.ENCRYPTED].found(),
            image_only=self.trouble[TroubleKind.IMAGE_ONLY].found(),
            empty=self.trouble[TroubleKind.EMPTY].found(),
            lost_pages=self.lost_pages.found(),
            replaced=self.replaced.found(),
            duplicates=self.duplicates.found(),
        )


def _escaped(sign: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in sign[0].encode())
