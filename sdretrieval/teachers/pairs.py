"""Scored (query, document) pairs: a costly teacher's, kept across runs, and files written for others."""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import TextIO
from urllib.parse import quote, unquote

import numpy as np

from sdretrieval.corpus.read.tables.records import unquoted
from sdretrieval.errors import NumericError, RequestError
from sdretrieval.files import apply_umask, sync
from sdretrieval.formatting import cell_text, text_of_cell
from sdretrieval.ragged import Array
from sdretrieval.store.disk import check_can_write

logger = logging.getLogger(__name__)


def pair_key(query: str, document: str) -> bytes:
    """16 bytes that stand for the two texts."""
    hasher = hashlib.blake2b(query.encode("utf8", "surrogatepass"), digest_size=16)
    hasher.update(b"\x1f" + document.encode("utf8", "surrogatepass"))
    return hasher.digest()


class PairCache:
    """Pair scores of one teacher under one view, in `folder` (named by the caller after the teacher's digest).

    Keys are digests of the texts, so that a later generation, a grown corpus or another run scores only new pairs. Each
    call of `add` writes one shard, whole or not at all: a killed run loses at most the pairs since the last shard. A
    shard is named by the digest of what is in it; one that holds something else is removed, and its pairs scored again.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._scores: dict[bytes, float] = {}
        for shard in sorted(folder.glob("*.safetensors")):
            self._scores.update(_read(shard))

    def __len__(self) -> int:
        return len(self._scores)

    def get(self, keys: Iterable[bytes]) -> Array:
        """Known scores, float32, NaN if a pair is new."""
        return np.fromiter((self._scores.get(key, np.nan) for key in keys), dtype=np.float32)

    def range(self) -> tuple[float, float]:
        """The least and the greatest score; (inf, -inf) of none."""
        return min(self._scores.values(), default=np.inf), max(self._scores.values(), default=-np.inf)

    def add(self, keys: Sequence[bytes], scores: Array) -> None:
        """Remember scores, on disk and here. Raises NumericError for NaN, which stands for an unknown pair."""
        from safetensors.numpy import save_file

        if not len(keys):
            return
        if unknown := int(np.isnan(scores).sum()):
            raise NumericError(
                f"pair cache: {unknown} of {len(scores)} scores are NaN, expected numbers; score again in float32"
            )
        packed = np.frombuffer(b"".join(keys), dtype=np.uint8).reshape(len(keys), 16).copy()
        scores = np.asarray(scores, dtype=np.float32)
        name = _name_of(self._folder, packed, scores)
        temporary = self._folder / f"{name}.{os.getpid()}.new"
        save_file({"keys": packed, "scores": scores}, temporary)
        apply_umask(temporary)
        sync(temporary)
        temporary.replace(self._folder / f"{name}.safetensors")
        self._scores.update(zip(keys, scores.tolist(), strict=True))


def _name_of(folder: Path, packed: Array, scores: Array) -> str:
    """Of the shard that holds these. The folder counts: another teacher's shard is no damage, but of no use either."""
    hasher = hashlib.blake2b(folder.name.encode(), digest_size=16)
    for array in (packed, scores):
        hasher.update(f"{array.dtype}{array.shape}".encode() + array.tobytes())
    return hasher.hexdigest()


def _read(shard: Path) -> dict[bytes, float]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        stored = load(shard.read_bytes())
        packed, scores = stored["keys"], stored["scores"]
        if (found := _name_of(shard.parent, packed, scores)) != shard.stem:
            raise ValueError(f"its digest is {found}")
    except (SafetensorError, KeyError, TypeError, ValueError) as problem:
        logger.warning("%s is damaged (%s); its pairs are scored again", shard, problem)
        with suppress(PermissionError):
            shard.unlink()
        return {}
    keys = packed.tobytes()
    return {keys[16 * i : 16 * i + 16]: score for i, score in enumerate(scores.tolist())}


PAIR_COLUMNS = ("query", "document", "query_text", "document_text")
SPACES = re.compile(r"[\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")
"""What would end a field or a line of a TSV."""
ENCODED = re.compile(r"[%\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]")
SPACES_ENCODED = re.compile("%(0[9A-D]|1[C-E]|C2%85|E2%80%A[89])")
ROWS_AT_ONCE = 10_000

Pair = tuple[str, str]


def check_target(file: Path) -> None:
    """Raise RequestError if `file` has none of the endings that are written, or cannot be written where it is to be."""
    name = file.name.lower()
    if not name.endswith((".tsv", ".tsv.gz", ".parquet")):
        raise RequestError(f"{file}: expected a file name that ends in .tsv, .tsv.gz or .parquet")
    if not file.parent.is_dir():
        raise RequestError(f"{file}: there is no folder {file.parent}; make it first")
    if file.is_dir():
        raise RequestError(f"{file} is a folder, expected a file")
    check_can_write(file, str(file))


def write_pairs(file: Path, pairs: Sequence[Pair], texts: Callable[[Pair], tuple[str, str]]) -> None:
    """Write query, document, query_text, document_text of each pair; whole or not at all.

    TSV (also .gz) or Parquet by the file's ending. In a TSV, what a spreadsheet would take for a formula has a ' before
    it, ids too; reading takes it away.
    """
    if file.suffix != ".parquet":
        _write_tsv(file, PAIR_COLUMNS, ((*map(_cell_id, pair), *texts(pair)) for pair in pairs))
        return
    rows = ((*pair, *texts(pair)) for pair in pairs)
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in PAIR_COLUMNS])
    with _fresh(file) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while block := list(islice(rows, ROWS_AT_ONCE)):
            arrays = [pa.array(values, pa.string()) for values in zip(*block, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def read_pairs(file: Path) -> list[Pair]:
    """Query and document ids of a TSV that `write_pairs` made, as the corpus has them."""
    with file.open(encoding="utf8", newline="\n") as stream:
        next(stream, None)  # the line of names
        cells = ((text_of_cell(cell) for cell in line.split("\t", 2)[:2]) for line in stream)
        return [(decoded_id(unquoted(query)), decoded_id(unquoted(document))) for query, document in cells]


def _cell_id(identifier: str) -> str:
    """An id as a TSV can hold it. In one that would end a cell or a line, these signs and % are percent-encoded; one
    that is in quotation marks is quoted once more, as in CSV."""
    if SPACES.search(identifier):
        identifier = ENCODED.sub(lambda match: quote(match[0], safe=""), identifier)
    return identifier if unquoted(identifier) == identifier else '"' + identifier.replace('"', '""') + '"'


def decoded_id(identifier: str) -> str:
    """The id that `write_pairs` and `write_scores` encode as `identifier`."""
    return unquote(identifier) if SPACES_ENCODED.search(identifier) else identifier


def write_scores(file: Path, pairs: Sequence[Pair], columns: Mapping[str, Array]) -> None:
    """Write query, document and `columns` (float32, one score a pair), so that reading gives the same float32.

    TSV (also .gz) or Parquet by the file's ending; `score_file` reads them back.
    """
    if file.suffix != ".parquet":
        # Nine significant digits are enough for a float32 to come back to the bit.
        values = list(columns.values())
        rows = (
            (*map(_cell_id, pair), *(f"{float(scores[at]):.9g}" for scores in values)) for at, pair in enumerate(pairs)
        )
        _write_tsv(file, ("query", "document", *columns), rows)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = {name: [pair[at] for pair in pairs] for at, name in enumerate(("query", "document"))}
    table = pa.table({**ids, **{name: np.asarray(values, dtype=np.float32) for name, values in columns.items()}})
    with _fresh(file) as temporary:
        pq.write_table(table, temporary)


def _write_tsv(file: Path, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with _fresh(file) as temporary, ExitStack() as stack:
        stream: TextIO
        if file.suffix == ".gz":  # no name and no time in the archive: the same scores make the same file
            raw = stack.enter_context(temporary.open("wb"))
            archive = stack.enter_context(gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0))
            stream = stack.enter_context(io.TextIOWrapper(archive, encoding="utf8", newline="\n"))
        else:
            stream = stack.enter_context(temporary.open("w", encoding="utf8", newline="\n"))
        stream.write("\t".join(SPACES.sub(" ", name) for name in names) + "\n")
        for row in rows:
            stream.write("\t".join(cell_text(SPACES.sub(" ", field)) for field in row) + "\n")


@contextmanager
def _fresh(file: Path) -> Iterator[Path]:
    """A path beside `file` that takes its place at the end."""
    temporary = file.with_name(file.name + ".new")
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
