"""From what a user types as a corpus to the corpus.

Each kind of source says what it is by content, how large, and is read; what a user types becomes one of them in
`find_source`, and nowhere else.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import ceil
from pathlib import Path
from typing import NamedTuple, Protocol

from sdretrieval.corpus.read.beir import BEIR_NAMES, beir_file, download_beir, read_beir, require_beir_folder
from sdretrieval.corpus.read.documents import is_document_folder, read_files, read_folder, require_parsers
from sdretrieval.corpus.read.python_stdlib import build_stdlib
from sdretrieval.corpus.read.qrels import qrels_files, read_qrels
from sdretrieval.corpus.read.tables import (
    Columns,
    Imported,
    import_documents,
    source_files,
    split_slice,
    table_size,
    understands,
)
from sdretrieval.corpus.read.tables.files import PACKED, open_lines
from sdretrieval.corpus.read.tables.hub import is_dataset
from sdretrieval.corpus.text import hash_rank
from sdretrieval.corpus.types import Corpus
from sdretrieval.digests import digest_file
from sdretrieval.errors import CorpusError
from sdretrieval.paths import typed_path

STDLIB = "python-stdlib"
BEIR = "beir"
UNDERSTOOD = (
    "a BEIR folder, beir:NAME (e.g. beir:scifact), a table of documents (.jsonl, .csv, .tsv, .parquet), a folder "
    f"saved by datasets, hf:NAME, a folder of .txt, .md, .rst, .html, .pdf, .docx or .pptx files, or {STDLIB}"
)
PASSAGE_BYTES = 1000
"""Of a passage of 160 words; many are shorter."""
STDLIB_SIZE = (4000, 2000)
"""Documents of python-stdlib unless it is asked for other ones, and more bytes than one of them has."""

logger = logging.getLogger("sdretrieval")
LIMIT_SEED = 13
"""Which documents a limited corpus keeps belongs to the corpus, not to a run: the seed is fixed."""


class TextSize(NamedTuple):
    """How large a collection is, about."""

    documents: int
    queries: int
    bytes: int


class Source(Protocol):
    """Where a corpus comes from. What is not there or broken is met as CorpusError by each of the three."""

    def digest(self) -> str:
        """What the corpus is by content: of files their digests; what is downloaded is downloaded first."""

    def size(self, max_documents: int | None = None) -> TextSize:
        """An estimate, of the corpus cut to `max_documents`; nothing is read through."""

    def preview(self) -> Mapping[str, int] | None:
        """What can be said before reading: judged queries by split (None: not yet known). Raises, as reading would, for
        files and packages that are missing."""

    def read(self, max_documents: int | None = None) -> Imported:
        """The corpus, and what was met on the way. Only what is built (python-stdlib) heeds `max_documents`: the rest
        is cut by `limit_documents` once the judgements are in."""


def find_source(source: str, cache: Path | None = None, columns: Columns | None = None) -> Source:
    """The source that a user's text names. `cache` keeps downloads (None: `default_cache()`); `columns`: of a table.

    Raises CorpusError saying what is understood, with a guess at what was meant.
    """
    if not source.strip():  # as a path it would be the current folder
        raise CorpusError(f"No corpus is named: found {source!r}. Understood: {UNDERSTOOD}.")
    if source != STDLIB and understands(source):
        return Table(source, columns)
    if columns is not None and columns != Columns():
        raise CorpusError(f"Columns can be named for tables only, and {source} is none.")
    if source == STDLIB:
        return Interpreter()
    scheme, _, name = source.partition(":")
    folder = typed_path(source)
    if is_document_folder(folder):
        return DocumentFolder(folder)
    if scheme == BEIR and name:
        return BeirFolder((cache or default_cache()) / BEIR / name, name)
    if folder.exists() or ("/" in source and ":" not in source):  # the latter names a path
        require_beir_folder(folder)
        return BeirFolder(folder)
    meant = {**{known: f"beir:{known}" for known in BEIR_NAMES}, STDLIB: STDLIB, "stdlib": STDLIB}
    near = get_close_matches(source.rpartition(":")[2].lower(), meant, n=1)
    guess = f" Did you mean {meant[near[0]]}?" if near else ""
    raise CorpusError(f"No corpus '{source}': there is no such folder or file.{guess} Understood: {UNDERSTOOD}.")


def default_cache() -> Path:
    """Where downloaded collections are kept: the variable SDRETRIEVAL_CACHE, else `~/.cache/sdretrieval`."""
    return typed_path(os.environ.get("SDRETRIEVAL_CACHE", "~/.cache/sdretrieval"))


@dataclass(frozen=True)
class Table(Source):
    """A table of documents, a saved dataset or `hf:NAME`; of a file's name only the ending counts: so it is read."""

    name: str
    columns: Columns | None = None

    def digest(self) -> str:
        parts = []
        for path in source_files(self.name):  # by its ending a table is read: of a packed one, what it is inside counts
            ending = "".join(path.suffixes[-2:]) if path.suffix.lower() in PACKED else path.suffix
            parts.append(f"table{ending}={digest_file(path)}")
        files = " ".join(parts)
        slice_of = split_slice(self.name)  # it is in the same files as the whole
        return f"{files} {slice_of}" if slice_of else files

    def size(self, max_documents: int | None = None) -> TextSize:
        rows, size = table_size(self.name)
        documents = min(rows, max_documents or rows)
        return TextSize(documents, 0, ceil(size * documents / max(rows, 1)))

    def preview(self) -> Mapping[str, int] | None:
        for path in [] if is_dataset(self.name) else source_files(self.name):
            with open_lines(path):  # a package that unpacks may be missing
                pass
        return {}

    def read(self, max_documents: int | None = None) -> Imported:
        return import_documents(self.name, self.columns)


@dataclass(frozen=True)
class DocumentFolder(Source):
    """A folder of text files. Their names count: passages bear them."""

    folder: Path

    def digest(self) -> str:
        parts = []
        for path in read_files(self.folder):
            try:
                digest = digest_file(path)
            except OSError:  # reading the folder counts and names it, and goes on
                digest = "unreadable"
            parts.append(f"{path.relative_to(self.folder)}={digest}")
        return " ".join(parts)

    def size(self, max_documents: int | None = None) -> TextSize:
        size = sum(path.stat().st_size for path in read_files(self.folder))
        documents = max_documents or size // PASSAGE_BYTES + 1
        return TextSize(documents, 0, min(size, documents * PASSAGE_BYTES))

    def preview(self) -> Mapping[str, int] | None:
        require_parsers(read_files(self.folder))
        return {}

    def read(self, max_documents: int | None = None) -> Imported:
        corpus, report = read_folder(self.folder)
        return Imported(corpus, (report,))


@dataclass(frozen=True)
class Interpreter(Source):
    """`python-stdlib`: built from the library of the interpreter that runs, and known by its version."""

    def digest(self) -> str:
        return f"{STDLIB} {sys.version}"

    def size(self, max_documents: int | None = None) -> TextSize:
        # A document has at most one query.
        documents = max_documents or STDLIB_SIZE[0]
        return TextSize(documents, documents, documents * STDLIB_SIZE[1])

    def preview(self) -> Mapping[str, int] | None:
        return None

    def read(self, max_documents: int | None = None) -> Imported:
        return Imported(build_stdlib() if max_documents is None else build_stdlib(max_documents))


@dataclass(frozen=True)
class BeirFolder(Source):
    """A BEIR folder, known by its texts and judgements; other files in it do not count."""

    folder: Path
    download: str | None = None
    """Of `beir:NAME`, fetched into the cache when it is first asked for anything."""

    def digest(self) -> str:
        texts = [path for path in (self._texts(), beir_file(self.folder, "queries.jsonl")) if path]
        files = [*texts, *qrels_files(self.folder / "qrels")]
        return " ".join(f"{path.name}={digest_file(path)}" for path in files)

    def size(self, max_documents: int | None = None) -> TextSize:
        rows, size = table_size(str(self._texts()))
        queries = beir_file(self.folder, "queries.jsonl")
        documents = min(rows, max_documents or rows)
        return TextSize(
            documents, table_size(str(queries)).documents if queries else 0, ceil(size * documents / max(rows, 1))
        )

    def preview(self) -> Mapping[str, int] | None:
        if self.download and not self.folder.is_dir():
            return None
        with open_lines(self._texts()):
            return {split: len(judged) for split, judged in read_qrels(self.folder / "qrels").by_split.items()}

    def read(self, max_documents: int | None = None) -> Imported:
        self._fetch()
        return Imported(read_beir(self.folder, self.download and self.download.replace("/", "-")))

    def _fetch(self) -> None:
        if self.download:
            download_beir(self.download, self.folder.parents[self.download.count("/")])

    def _texts(self) -> Path:
        self._fetch()
        texts = beir_file(self.folder, "corpus.jsonl")
        judged_alone = (self.folder / "qrels").is_dir() and beir_file(self.folder, "queries.jsonl") is None
        if texts is None or judged_alone:
            self.read()  # raises, saying what is missing: a plan must not accept what a run refuses
        assert texts is not None
        return texts


def open_corpus(
    source: str,
    cache: Path | None = None,
    max_documents: int | None = None,
    keep_positives_of: Collection[str] | None = None,
) -> Corpus:
    """The corpus that `source` names: a BEIR folder, `beir:NAME`, a table of documents, a saved dataset, `hf:NAME`, a
    folder of text files or `python-stdlib`. What was wrong with texts is logged; `import_corpus` returns it.

    `cache` is where downloads are kept (None: `default_cache()`). `max_documents` cuts the corpus, see
    `limit_documents` (and `keep_positives_of` there); python-stdlib is built with that many at once.

    Raises `CorpusError` saying what is understood, with a guess at what was meant.
    """
    imported = import_corpus(source, cache, max_documents)
    for report in imported.reports:
        if report.troubles:
            logger.warning("%s", "\n".join(report.lines()))
    corpus = imported.corpus
    return corpus if max_documents is None else limit_documents(corpus, max_documents, keep_positives_of)


def import_corpus(
    source: str, cache: Path | None = None, max_documents: int | None = None, columns: Columns | None = None
) -> Imported:
    """As `open_corpus`, with what was met while reading. `columns` names those of a table of documents.

    `max_documents` limits what is built (python-stdlib) only; cut the rest by `limit_documents` when judgements are in.
    """
    if max_documents is not None and max_documents < 1:
        raise CorpusError(f"max_documents is {max_documents}, expected 1 or more.")
    return find_source(source, cache, columns).read(max_documents)


def limit_documents(corpus: Corpus, max_documents: int, keep_positives_of: Collection[str] | None = None) -> Corpus:
    """`corpus` cut to `max_documents`, for trying things out: its figures compare with no published ones.

    Documents with a positive judgement stay first, a hash chooses among equals. Queries that lose all positives lose
    their judgements; the name says how many documents are left. `keep_positives_of`: the splits whose judgements may
    decide what stays (None: all); the others' judgements are left as they are.
    """
    if len(corpus.documents) <= max_documents:
        return corpus
    deciding = set(corpus.qrels) if keep_positives_of is None else set(keep_positives_of) & set(corpus.qrels)
    judged_lists = [judged for split in deciding for judged in corpus.qrels[split].values()]
    positive = {document for judged in judged_lists for document, grade in judged.items() if grade > 0}
    ids = corpus.document_ids
    ranked = sorted(range(len(ids)), key=lambda row: (ids[row] not in positive, hash_rank(LIMIT_SEED, ids[row])))
    rows = sorted(ranked[:max_documents])
    present = {ids[row] for row in rows}
    limited = {}
    for split in deciding:
        judged = {q: {d: g for d, g in grades.items() if d in present} for q, grades in corpus.qrels[split].items()}
        limited[split] = {query: grades for query, grades in judged.items() if any(g > 0 for g in grades.values())}
    return replace(
        corpus,
        name=f"{corpus.name}-{max_documents}",
        documents=corpus.documents.select(rows),
        qrels={**corpus.qrels, **limited},
    )
