"""Which sources are tables, by which files they are known, and about how large they are."""

from __future__ import annotations

from itertools import islice
from math import ceil
from pathlib import Path
from typing import NamedTuple

from sdretrieval.corpus.read.tables.formats import PACKED, Format, table_format
from sdretrieval.corpus.read.tables.hub import dataset_files, is_dataset, open_dataset
from sdretrieval.corpus.read.tables.streams import open_bytes

SAMPLED_LINES = 1000
UNPACKED_TO_PACKED = 4
"""About what gzip and zstd make of text, and Parquet and Arrow of strings that repeat little."""


class TableSize(NamedTuple):
    """About how many documents a table holds, and the bytes of their texts."""

    documents: int
    bytes: int


def understands(source: str) -> bool:
    """Whether `source` is `hf:NAME`, a saved dataset or a file (which must then be a table)."""
    return is_dataset(source) or Path(source).expanduser().is_file()


def source_files(source: str) -> list[Path]:
    """The files that hold a table's rows: what it is by content. `hf:NAME` is downloaded where it is not there yet.

    Raises CorpusError for a file that is no table by its name.
    """
    if is_dataset(source):
        return dataset_files(source)
    table_format(Path(source).expanduser())
    return [Path(source).expanduser()]


def table_size(source: str) -> TableSize:
    """An estimate from the first lines, or from what the format says of itself; nothing is read through."""
    if is_dataset(source):
        return TableSize(len(open_dataset(source)), sum(path.stat().st_size for path in source_files(source)))
    path = Path(source).expanduser()
    size = path.stat().st_size
    if table_format(path) is Format.PARQUET:
        import pyarrow.parquet as pq

        return TableSize(pq.read_metadata(path).num_rows, size * UNPACKED_TO_PACKED)
    size *= UNPACKED_TO_PACKED if path.suffix.lower() in PACKED else 1
    with open_bytes(path) as stream:
        sample = [len(line) for line in islice(stream, SAMPLED_LINES)]
    return TableSize(ceil(size * len(sample) / max(sum(sample), 1)), size)
