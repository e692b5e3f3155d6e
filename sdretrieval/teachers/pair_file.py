"""Pairs and scores written for others: TSV (also .gz) or Parquet by the file's ending; `score_file` reads them back."""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from sdretrieval.errors import RequestError
from sdretrieval.ragged import Array

PAIR_COLUMNS = ("query", "document", "query_text", "document_text")
SPACES = re.compile(r"[\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+")
"""What would end a field or a line of a TSV."""
ROWS_AT_ONCE = 10_000

Pair = tuple[str, str]


def check_target(file: Path) -> None:
    """Raise RequestError where `file` has none of the endings that are written, or its folder is not there."""
    name = file.name.lower()
    if not name.endswith((".tsv", ".tsv.gz", ".parquet")):
        raise RequestError(f"{file}: expected a file name that ends in .tsv, .tsv.gz or .parquet")
    if not file.parent.is_dir():
        raise RequestError(f"{file}: there is no folder {file.parent}; make it first")
    if file.is_dir():
        raise RequestError(f"{file} is a folder, expected a file")


def write_pairs(file: Path, pairs: Sequence[Pair], texts: Callable[[Pair], tuple[str, str]]) -> None:
    """Write query, document, query_text, document_text of each pair; whole or not at all."""
    rows = ((*pair, *texts(pair)) for pair in pairs)
    if file.suffix == ".parquet":
        _write_parquet(file, PAIR_COLUMNS, rows)
    else:
        _write_tsv(file, PAIR_COLUMNS, rows)


def read_pairs(file: Path) -> list[Pair]:
    """Query and document ids of a TSV that `write_pairs` made."""
    with file.open(encoding="utf8", newline="\n") as stream:
        next(stream, None)  # the line of names
        fields = (line.split("\t", 2) for line in stream)
        return [(query, document) for query, document, _ in fields]


def write_scores(file: Path, pairs: Sequence[Pair], columns: Mapping[str, Array]) -> None:
    """Write query, document and `columns` (float32, one score a pair), so that reading gives the same float32."""
    names = ("query", "document", *columns)
    values = list(columns.values())
    if file.suffix == ".parquet":
        _write_score_table(file, pairs, columns)
        return
    # Nine significant digits are enough for a float32 to come back to the bit.
    rows = ((*pair, *(f"{float(scores[at]):.9g}" for scores in values)) for at, pair in enumerate(pairs))
    _write_tsv(file, names, rows)


def _write_tsv(file: Path, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    with _fresh(file) as temporary, _text(temporary, file.suffix == ".gz") as stream:
        stream.write("\t".join(SPACES.sub(" ", name) for name in names) + "\n")
        for row in rows:
            stream.write("\t".join(SPACES.sub(" ", field) for field in row) + "\n")


@contextmanager
def _text(path: Path, packed: bool) -> Iterator[TextIO]:
    if not packed:
        with path.open("w", encoding="utf8", newline="\n") as stream:
            yield stream
        return
    # No name and no time in the archive: the same scores make the same file.
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as archive,
        io.TextIOWrapper(archive, encoding="utf8", newline="\n") as stream,
    ):
        yield stream


def _write_parquet(file: Path, names: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema([(name, pa.string()) for name in names])
    remaining = iter(rows)
    with _fresh(file) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while block := list(islice(remaining, ROWS_AT_ONCE)):
            arrays = [pa.array(values, pa.string()) for values in zip(*block, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))


def _write_score_table(file: Path, pairs: Sequence[Pair], columns: Mapping[str, Array]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = {name: [pair[at] for pair in pairs] for at, name in enumerate(("query", "document"))}
    scores = {name: np.asarray(values, dtype=np.float32) for name, values in columns.items()}
    with _fresh(file) as temporary:
        pq.write_table(pa.table({**texts, **scores}), temporary)


@contextmanager
def _fresh(file: Path) -> Iterator[Path]:
    """A path beside `file` that takes its place at the end."""
    temporary = file.with_name(file.name + ".new")
    try:
        yield temporary
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
