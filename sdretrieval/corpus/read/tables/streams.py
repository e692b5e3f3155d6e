"""The bytes of a file, plain or compressed, and its lines as text."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader, RawIOBase
from pathlib import Path
from typing import IO, Any, cast

from sdretrieval.corpus.read.tables.report import Tally, Trouble
from sdretrieval.errors import CorpusError, MissingPackageError

READ_AT_ONCE = 1 << 20
REPLACEMENT = "\ufffd"
SURROGATES = re.compile("[\ud800-\udfff]")
UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


def text_lines(path: Path, tally: Tally) -> Iterator[tuple[int, str]]:
    """Number and text of each line, its end included; invalid UTF-8 is replaced and noted in `tally`.

    Raises `CorpusError` for UTF-16, a damaged archive and a file that cannot be read.
    """
    with open_bytes(path) as stream:
        for number, line in enumerate(stream, start=1):
            if number == 1:
                _refuse_utf16(path, line)
                line = line.removeprefix(b"\xef\xbb\xbf")
            try:
                yield number, line.decode("utf8")
            except UnicodeDecodeError:
                text = line.decode("utf8", "replace")
                tally.note(Trouble.REPLACED, number, repr(_around_replacement(text)))
                yield number, text


@contextmanager
def open_bytes(path: Path) -> Iterator[IO[bytes]]:
    """The content of `path`, unpacked where its name ends in .gz or .zst, piece by piece.

    Raises `CorpusError` where the file is absent, cannot be read or ends too early, also while it is read.
    """
    try:
        with path.open("rb") as packed, _unpacked(path, packed) as stream:
            yield stream
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise CorpusError(f"{path} cannot be read: {reason}. Check the path, or fetch the file again.") from None


def clean(text: str) -> str:
    """`text` without halves of surrogate pairs, which Arrow cannot hold: each becomes U+FFFD."""
    return text if text.isascii() else SURROGATES.sub(REPLACEMENT, text)


def _unpacked(path: Path, packed: IO[bytes]) -> IO[bytes]:
    suffix = path.suffix.lower()
    if suffix == ".gz":
        return cast("IO[bytes]", gzip.GzipFile(fileobj=packed))
    if suffix == ".zst":
        return BufferedReader(_ZstdReader(packed), READ_AT_ONCE)
    return packed


class _ZstdReader(RawIOBase):
    """Frames one after another. zstandard's own reader ends without a word where a frame is cut off; this raises."""

    def __init__(self, packed: IO[bytes]) -> None:
        self._packed, self._rest = packed, b""
        self._zstandard = _load_zstandard()
        self._frame: Any = None

    def readable(self) -> bool:
        return True

    def readinto(self, target: Any) -> int:
        while not self._rest:
            packed = self._packed.read(READ_AT_ONCE // 8)
            if not packed:
                if self._frame is not None:
                    raise EOFError("the zstd archive ends too early")
                return 0
            self._rest = self._decompress(packed)
        size = min(len(target), len(self._rest))
        target[:size], self._rest = self._rest[:size], self._rest[size:]
        return size

    def _decompress(self, packed: bytes) -> bytes:
        parts = []
        while packed:
            if self._frame is None:
                self._frame = self._zstandard.ZstdDecompressor().decompressobj()
            try:
                parts.append(self._frame.decompress(packed))
            except self._zstandard.ZstdError as error:
                raise OSError(f"damaged zstd archive ({error})") from None
            packed = self._frame.unused_data
            if self._frame.eof:
                self._frame = None
        return b"".join(parts)


def _load_zstandard() -> Any:
    try:
        import zstandard
    except ImportError:
        raise MissingPackageError(
            "Reading .zst files needs the package zstandard, which is not installed: pip install zstandard "
            "(or 'sdretrieval[zstd]')"
        ) from None
    return zstandard


def _refuse_utf16(path: Path, line: bytes) -> None:
    if line.startswith(UTF16_MARKS):
        raise CorpusError(f"{path} is UTF-16, expected UTF-8: iconv -f UTF-16 -t UTF-8 {path} > NEW_FILE")


def _around_replacement(text: str) -> str:
    at = text.index(REPLACEMENT)
    return text[max(at - 20, 0) : at + 20].strip()
