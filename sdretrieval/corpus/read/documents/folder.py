"""`read_folder`: every file of a folder through its parser and the cutter, all trouble counted and named."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sdretrieval.corpus.arrow import document_table, query_table
from sdretrieval.corpus.read.documents.blocks import Parsed, Unread, load_parser
from sdretrieval.corpus.read.documents.cut import cut
from sdretrieval.corpus.read.documents.encodings import decode
from sdretrieval.corpus.read.documents.html import parse_html
from sdretrieval.corpus.read.documents.markdown import parse_markdown
from sdretrieval.corpus.read.documents.office import parse_docx, parse_pptx
from sdretrieval.corpus.read.documents.pdf import parse_pdf
from sdretrieval.corpus.read.documents.plain import parse_plain
from sdretrieval.corpus.read.documents.rst import parse_rst
from sdretrieval.corpus.read.report import ImportReport, Tally, Trouble
from sdretrieval.corpus.text import LIST_AT_MOST, examples, normalised
from sdretrieval.corpus.types import Corpus
from sdretrieval.errors import CorpusError
from sdretrieval.formatting import quantity, readable_bytes
from sdretrieval.progress import track

FORMAT_OF = {
    ".txt": "text", ".text": "text", ".md": "Markdown", ".markdown": "Markdown", ".rst": "reStructuredText",
    ".html": "HTML", ".htm": "HTML", ".pdf": "PDF", ".docx": "Word", ".pptx": "PowerPoint",
}  # fmt: skip
"""Extension -> format. Those of texts are read gzipped too (`.txt.gz`)."""
TEXT_PARSERS: dict[str, Callable[[str], Parsed]] = {
    "text": parse_plain, "Markdown": parse_markdown, "reStructuredText": parse_rst, "HTML": parse_html,
}  # fmt: skip
FILE_PARSERS: dict[str, Callable[[bytes], Parsed | Unread]] = {
    "PDF": parse_pdf, "Word": parse_docx, "PowerPoint": parse_pptx,
}  # fmt: skip
PARSERS_OF = {
    "Markdown": [("markdown_it", ".md"), ("selectolax.lexbor", ".md")],  # Markdown holds HTML
    "HTML": [("selectolax.lexbor", ".html")],
    "PDF": [("pypdf", ".pdf")],
    "reStructuredText": [("docutils", ".rst")],
    "Word": [("mammoth", ".docx"), ("selectolax.lexbor", ".docx")],  # by way of HTML
    "PowerPoint": [("pptx", ".pptx")],
}
AROUND = {
    "HTML": "menus, heads and feet of pages", "PDF": "running heads, page numbers",
    "PowerPoint": "footers, dates, slide numbers",
}  # fmt: skip
"""What the parser of a format takes for no part of the text."""
NOT_IN_IDS = re.compile(r"[\s%#]")
"""Signs of a path that would end an id in a run or qrels file, or be taken for the border to the digest."""
BEIR_PARTS = ("corpus.jsonl", "corpus.jsonl.gz", "corpus.jsonl.zst", "queries.jsonl", "qrels")
UNPACKED_AT_MOST = 1 << 26
"""Bytes of one .gz: some of a few MB unpack to gigabytes."""
READ = "Files of these kinds are read: .txt, .md, .rst, .html (each also as .gz), .pdf, .docx and .pptx"


@dataclass
class PassedOver:
    """What the walk met and did not take."""

    extensions: Counter[str] = field(default_factory=Counter)
    hidden: int = 0
    links: list[str] = field(default_factory=list)
    """Links to what is read anyway: loops, and second names of files and folders."""
    outside: list[str] = field(default_factory=list)
    """Links that lead out of the folder: with one, the author of a folder could make us read any file."""
    unreadable: list[str] = field(default_factory=list)


def is_document_folder(folder: Path) -> bool:
    """Whether `folder` holds files that `read_folder` reads, and no part of a BEIR folder (which may be broken)."""
    if not folder.is_dir() or any((folder / part).exists() for part in BEIR_PARTS):
        return False
    passed = PassedOver()
    return next(document_files(folder, passed), None) is not None or bool(passed.outside)


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
    """The format of a file by its name; empty if it is none of ours."""
    extension = extension_of(name)
    inner = extension.removesuffix(".gz")
    format = FORMAT_OF.get(inner, "")
    return "" if extension != inner and format in FILE_PARSERS else format


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
            try:
                is_folder = path.is_dir()
            except OSError:  # a link to where we may not look
                is_folder = False
            if entry.name.startswith("."):
                passed.hidden += 1
            elif entry.is_symlink() and (not_followed := _not_followed(path, root, seen, passed)) is not None:
                not_followed.append(str(path.relative_to(folder)))
            elif is_folder:
                inner.append(path)
            elif format_of(entry.name):
                yield path
            else:
                passed.extensions[extension_of(entry.name) or "(none)"] += 1
        waiting += reversed(inner)


def _not_followed(link: Path, root: Path, seen: set[Path], passed: PassedOver) -> list[str] | None:
    """The list of `passed` that a link belongs to: it leads out of `root`, or to what the walk meets under its own
    name, back to where it is, or where one led before. None for all others.

    `seen` are the hidden folders that links led to; only those can be met twice, for `root` itself is a tree.
    """
    try:
        target = link.resolve(strict=True)
    except (OSError, RuntimeError):  # a loop is a RuntimeError until Python 3.12; broken links are met on reading
        return None if link.exists() or format_of(link.name) else passed.links
    is_folder = target.is_dir()
    if not target.is_relative_to(root):
        return passed.outside if is_folder or format_of(link.name) else None
    hidden = any(part.startswith(".") for part in target.relative_to(root).parts)
    read_anyway = target in seen or (not hidden and (is_folder or bool(format_of(target.name))))
    if is_folder:
        seen.add(target)
    return passed.links if read_anyway else None


def read_folder(folder: Path, *, max_words: int = 160, overlap_words: int = 32) -> tuple[Corpus, ImportReport]:
    """The documents of `folder` and its subfolders as a corpus of passages without queries.

    A passage holds at most `max_words` words and crosses no heading of its own or a higher level; within a longer
    section neighbours share whole sentences of up to `overlap_words` words. Its title is the file's and the headings
    above it; its id is the file's path, `#`, and a digest of headings and text: no other file changes it, and an edit
    changes only ids nearby.

    Raises `CorpusError` if there is nothing to read, and `MissingPackageError` if a parser is not installed.
    """
    if max_words < 1 or not 0 <= overlap_words <= max_words // 2:
        raise CorpusError(
            f"max_words is {max_words} and overlap_words {overlap_words}: expected at least one word a passage, and an "
            "overlap from 0 to half of max_words."
        )
    passed, tally, first = PassedOver(), Tally(str(folder), "passages"), dict[bytes, str]()
    left_out = Counter[str]()
    files = _files(folder, passed)

    def rows() -> Iterator[tuple[str, str, str]]:
        for path in track(files, f"{folder.resolve().name}: reading", "files"):
            name = path.relative_to(folder).as_posix().encode("utf8", "backslashreplace").decode()
            safe = NOT_IN_IDS.sub(lambda sign: "".join(f"%{byte:02X}" for byte in sign[0].encode()), name)
            parsed, before = _parse(path, name, tally), tally.kept
            if isinstance(parsed, Parsed):
                left_out[format_of(path.name)] += parsed.words_left_out
                title = name_without_extension(name.rpartition("/")[2])
                for passage in cut(parsed, title, max_words, overlap_words):
                    identifier = f"{safe}#{passage.key}"
                    text = normalised(passage.text).encode("utf8", "replace")
                    earlier = first.setdefault(hashlib.blake2b(text, digest_size=8).digest(), identifier)
                    if earlier != identifier:
                        tally.note(Trouble.DUPLICATE, identifier, f"repeats {earlier}")
                    tally.kept += 1
                    yield identifier, passage.title, passage.text
                parsed = Unread(Trouble.EMPTY_FILE, "no text")
            if tally.kept > before:
                tally.read += 1
            else:
                tally.note(parsed.trouble, name, parsed.reason)

    documents = document_table(rows())
    report = _report(tally, passed, folder, left_out)
    if not report.kept:
        met = "; ".join(f"{t.value}: {f.count} ({'; '.join(f.examples)})" for t, f in report.troubles.items())
        raise CorpusError(
            f"None of the {len(files):,} files in {folder} could be read. {met}. Mend or remove them: unlock encrypted "
            "files, run text recognition (e.g. ocrmypdf) over scanned ones."
        )
    return Corpus(folder.resolve().name, documents, query_table(()), {}), report


def _report(tally: Tally, passed: PassedOver, folder: Path, words_left_out: Counter[str]) -> ImportReport:
    """What reading met, with what the walk passed over and, by format, the words that parsers left out."""
    for place in passed.unreadable:
        where, _, reason = place.partition(": ")
        tally.note(Trouble.UNREADABLE, where, reason)
    for link in passed.links:
        tally.note(Trouble.LINK, link, "left out")
    for link in passed.outside:
        tally.note(Trouble.LINK_OUTSIDE, link, f"leads to {(folder / link).resolve()}")
    notes = [f"skipped, other extensions: {_described(passed.extensions)}"] if passed.extensions else []
    notes += [f"skipped, hidden: {passed.hidden:,}"] if passed.hidden else []
    for kind, words in sorted((+words_left_out).items()):
        notes.append(f"words around the text of {kind} files ({AROUND[kind]}), left out: {words:,}")
    return tally.report(tuple(notes))


def _files(folder: Path, passed: PassedOver) -> list[Path]:
    """All files to read, after a check that their parsers are there: not after an hour of reading."""
    if not folder.is_dir():
        what = "is a file, expected a folder" if folder.exists() else "does not exist: check the path"
        raise CorpusError(f"{folder} {what}. {READ}.")
    files = list(document_files(folder, passed))
    if not files:
        held = f"it holds {_described(passed.extensions)}" if passed.extensions else "it holds no files"
        hidden = f", and {passed.hidden:,} hidden ones that are left alone" if passed.hidden else ""
        hidden += f", and links that lead out of it and are not followed: {examples(passed.outside)}" * any(
            passed.outside
        )
        broken = f", and parts that cannot be read: {'; '.join(passed.unreadable[:5])}" if passed.unreadable else ""
        raise CorpusError(f"There are no documents in {folder}: {held}{hidden}{broken}. {READ}; convert others first.")
    require_parsers(files)
    return files


def require_parsers(files: list[Path]) -> None:
    """Raise `MissingPackageError`, holding the pip command, if a parser that the files need is not installed."""
    for name in sorted({format_of(path.name) for path in files} & PARSERS_OF.keys()):
        for module, extension in PARSERS_OF[name]:
            load_parser(module, extension)


def _described(extensions: Counter[str]) -> str:
    """The most frequent extensions with their counts, and the number of files with others."""
    ranked = sorted(extensions.items(), key=lambda item: (-item[1], item[0]))
    others = sum(count for _, count in ranked[LIST_AT_MOST:])
    shown = ", ".join(f"{name} ({count:,})" for name, count in ranked[:LIST_AT_MOST])
    return shown + (f" and {others:,} others" if others else "")


def _parse(path: Path, name: str, tally: Tally) -> Parsed | Unread:
    """A file's blocks, or why there are none; what was lost of it is noted."""
    try:
        if path.exists() and not path.is_file():
            return Unread(Trouble.UNREADABLE, "a pipe or device, no file")
        if not path.name.lower().endswith(".gz"):
            data = path.read_bytes()
        else:
            with gzip.open(path) as packed:
                data = packed.read(UNPACKED_AT_MOST + 1)
            if len(data) > UNPACKED_AT_MOST:
                return Unread(Trouble.UNREADABLE, f"unpacks to more than {readable_bytes(UNPACKED_AT_MOST)}; unpack it")
    except (OSError, EOFError, zlib.error) as error:  # a broken gzip file is an OSError, EOFError or zlib.error
        return Unread(Trouble.UNREADABLE, getattr(error, "strerror", None) or str(error))
    kind = format_of(path.name)
    if not data.strip():
        return Unread(Trouble.EMPTY_FILE, "no text")
    if kind in FILE_PARSERS:
        read = FILE_PARSERS[kind](data)
        if isinstance(read, Parsed) and read.lost_pages:
            tally.note(Trouble.LOST_PAGES, name, f"{quantity(read.lost_pages, 'pages')} left out")
        if isinstance(read, Parsed) and read.unreadable:
            tally.note(Trouble.UNMAPPED, name, quantity(read.unreadable, "characters"))
        if isinstance(read, Parsed) and read.mixed_pages:
            tally.note(Trouble.MIXED, name, quantity(read.mixed_pages, "pages"))
        return read
    decoded = decode(data, may_declare=kind == "HTML")
    if decoded is None:
        return Unread(Trouble.UNREADABLE, "binary data, no text")
    try:
        parsed = TEXT_PARSERS[kind](decoded.text)
    except (RecursionError, ValueError, AssertionError) as error:  # what parsers do with hostile markup
        return Unread(Trouble.UNREADABLE, f"its {kind} does not parse ({type(error).__name__})")
    if decoded.guessed:
        tally.note(Trouble.GUESSED, name, f"read as {decoded.guessed}")
    if decoded.replaced:
        tally.note(Trouble.UNDECODED, name, quantity(decoded.replaced, "characters"))
    return parsed
