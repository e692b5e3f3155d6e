"""A table's file: its format by its name, its bytes plain or unpacked, its lines as text."""

from __future__ import annotations

import gzip
import importlib
import math
import re
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import IO

from sdretrieval.corpus.read.report import Tally, Trouble
from sdretrieval.errors import CorpusError, MissingPackageError
from sdretrieval.formatting import readable_bytes

PACKED = (".gz", ".zst")
LINE_AT_MOST = 1 << 26
"""Bytes of one line: a line without an end would be held in memory as a whole."""
UNPACKED_AT_MOST = 1 << 26
LINE_COUNTS_AS = 64
TIMES_PACKED_AT_MOST = 100
"""A packed file gives at most so many bytes, or so many times its own size: texts shrink to a tenth, zeros to less. A
line counts at least so much: a billion empty ones fill no memory, but an hour."""

TABLES_UNDERSTOOD = ".jsonl, .csv, .tsv (each also .gz or .zst) and .parquet"
REPLACEMENT = "\ufffd"
SURROGATES = re.compile("[\ud800-\udfff]")
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class Format(Enum):
    """Formats of tables with named columns."""

    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    PARQUET = "parquet"


FORMAT_OF = {
    ".jsonl": Format.JSONL, ".ndjson": Format.JSONL, ".json": Format.JSONL, ".csv": Format.CSV, ".tsv": Format.TSV,
    ".parquet": Format.PARQUET, ".pq": Format.PARQUET,
}  # fmt: skip


def plain_name(path: Path) -> str:
    """The file's name without .gz or .zst."""
    return path.name[: -len(path.suffix)] if path.suffix.lower() in PACKED else path.name


def format_of(path: Path) -> Format | None:
    """The format of a table; None if the name's ending is none of ours (Parquet packs its own columns)."""
    by_ending = FORMAT_OF.get(Path(plain_name(path)).suffix.lower())
    return None if by_ending is Format.PARQUET and path.suffix.lower() in PACKED else by_ending


def table_format(path: Path) -> Format:
    """As `format_of`, but raises CorpusError where it is none."""
    file_format = format_of(path)
    if file_format is None:
        raise CorpusError(f"{path} is no table by its name; read are {TABLES_UNDERSTOOD}.")
    return file_format


def stem_of(path: Path) -> str:
    """The file's name without any of its endings that say how it is packed."""
    return Path(plain_name(path)).stem


def text_lines(path: Path, tally: Tally) -> Iterator[tuple[int, str]]:
    """Number and text of each line, its end included; invalid UTF-8 is replaced and noted in `tally`.

    Raises `CorpusError` for UTF-16, a damaged archive and a file that cannot be read.
    """
    with open_lines(path) as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1:
                if line.startswith(UTF16_MARKS):
                    raise CorpusError(f"{path} is UTF-16, expected UTF-8: iconv -f UTF-16 -t UTF-8 {path} > NEW_FILE")
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                yield number, line.decode("utf8")
            except UnicodeDecodeError:
                text = line.decode("utf8", "replace")
                at = text.index(REPLACEMENT)
                tally.note(Trouble.REPLACED, number, repr(text[max(at - 20, 0) : at + 20].strip()))
                yield number, text


@contextmanager
def open_lines(path: Path) -> Iterator[Iterator[bytes]]:
    """The lines of `path`, each with its end, unpacked where its name ends in .gz or .zst, piece by piece.

    Raises `CorpusError` if the file is absent, cannot be read or ends too early, also while it is read; for a line
    above `LINE_AT_MOST`, and for a packed file that unpacks to more than any text does.
    """
    suffix = path.suffix.lower()
    if suffix == ".zst":
        try:  # the same module; from Python 3.14 it is part of the library
            zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
        except ImportError:
            raise MissingPackageError(
                "Reading .zst files needs the package backports.zstd, which is not installed: pip install "
                "backports.zstd (or 'sdretrieval[zstd]')"
            ) from None
        opened, broken = zstd.open, (OSError, EOFError, zstd.ZstdError)
    else:
        opened, broken = (gzip.open if suffix == ".gz" else open), (OSError, EOFError, zlib.error)
    try:
        with opened(path, "rb") as stream:
            yield _lines(stream, path, suffix in PACKED)
    except broken as error:  # gzip.BadGzipFile is an OSError
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise CorpusError(f"{path} cannot be read: {reason}. Check the path, or fetch the file again.") from None


def _lines(stream: IO[bytes], path: Path, packed: bool) -> Iterator[bytes]:
    most = max(UNPACKED_AT_MOST, TIMES_PACKED_AT_MOST * path.stat().st_size) if packed else math.inf
    read = number = 0
    while line := stream.readline(LINE_AT_MOST + 1):
        read, number = read + max(len(line), LINE_COUNTS_AS), number + 1
        if len(line) > LINE_AT_MOST:
            raise CorpusError(
                f"{path}:{number}: a line of more than {readable_bytes(LINE_AT_MOST)}; expected one row a line. Cut "
                "it, or write the table as .parquet."
            )
        if read > most:
            raise CorpusError(
                f"{path} unpacks to more than {readable_bytes(most)} from {readable_bytes(path.stat().st_size)}, as "
                f"files made to fill a memory do. If it is meant, unpack it first and name {path.with_suffix('')}."
            )
        yield line


def clean(text: str) -> str:
    """`text` without halves of surrogate pairs, which Arrow cannot hold: each becomes U+FFFD."""
    return text if text.isascii() else SURROGATES.sub(REPLACEMENT, text)
