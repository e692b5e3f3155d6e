"""Rows of JSONL, CSV, TSV, Parquet and datasets, one at a time, as dictionaries by column."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from sdretrieval.corpus.read.report import Tally, Trouble
from sdretrieval.corpus.read.tables.columns import readable_columns
from sdretrieval.corpus.read.tables.files import Format, table_format, text_lines
from sdretrieval.corpus.read.tables.hub import dataset_rows, is_dataset
from sdretrieval.errors import CorpusError
from sdretrieval.formatting import quantity
from sdretrieval.paths import typed_path
from sdretrieval.progress import track

FIELD_AT_MOST = 1 << 27
"""Characters of one CSV field. csv's own limit of 131,072 refuses a long document; without any, a quotation mark that
is never closed would take the rest of the file into memory."""
ROWS_AT_ONCE = 4096

Rows = Iterable[tuple[int, Mapping[str, Any]]]


class Record(NamedTuple):
    """One row, and the line (or row) it is on."""

    line: int
    values: Mapping[str, Any]


def read_records(source: str | Path, tally: Tally) -> Iterator[Record]:
    """The rows of a table file, a saved dataset or `hf:NAME`; broken ones are noted in `tally` and left out.

    Raises `CorpusError` for a source that cannot be read, and at the end where too many lines were broken.
    """
    dataset = is_dataset(source)
    if dataset:
        rows: Rows = enumerate(dataset_rows(str(source)), start=1)
    else:
        path = typed_path(source)
        if not path.is_file():
            raise CorpusError(f"There is no file {path}. Check the path.")
        readers = {Format.JSONL: _jsonl, Format.CSV: _csv, Format.TSV: _tsv, Format.PARQUET: _parquet}
        rows = readers[table_format(path)](path, tally)
    for line, values in track(rows, f"{Path(source).name}: reading", "lines"):
        tally.read = line if dataset else tally.read
        yield Record(line, values)
    tally.require_few_broken()


def _jsonl(path: Path, tally: Tally) -> Rows:
    for number, line in text_lines(path, tally):
        if not line.strip():
            continue
        if not tally.read and line.lstrip().startswith("["):
            raise CorpusError(f"{path}:{number}: a JSON list, expected one object a line: jq -c '.[]' FILE > NEW.jsonl")
        tally.read += 1
        try:
            record = json.loads(line.strip())
        except (ValueError, RecursionError) as error:  # a JSONDecodeError says `line 1` of every line
            reason = f"{error.msg} at character {error.pos}" if isinstance(error, json.JSONDecodeError) else str(error)
            tally.note(Trouble.BROKEN, number, f"{reason}; it begins {line[:40].rstrip()!r}")
            continue
        if isinstance(record, dict):
            yield number, record
        else:
            tally.note(Trouble.BROKEN, number, f"a JSON {type(record).__name__}, expected an object")


def _csv(path: Path, tally: Tally) -> Rows:
    csv.field_size_limit(FIELD_AT_MOST)
    lines = text_lines(path, tally)
    number, head = next(lines, (0, ""))
    delimiter = max(",;\t|", key=head.count)
    reader = csv.reader(chain([head], (line for _, line in lines)), delimiter=delimiter, strict=True)
    header = _header(reader, path)
    while True:
        number = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            lost = reader.line_num - number + 1
            tally.read += lost
            reason = str(error)
            if reason == "unexpected end of data" or "larger than field limit" in reason:
                reason = f"a quotation mark is opened and never closed, {lost:,} lines are lost"
            tally.note(Trouble.BROKEN, number, reason, lost)
            continue
        if row is None:
            return
        if row:
            tally.read += 1
            if len(row) == len(header):
                yield number, dict(zip(header, row, strict=True))
            else:
                tally.note(Trouble.BROKEN, number, f"{quantity(len(row), 'fields')}, expected {len(header)}")


def _header(reader: Iterator[list[str]], path: Path) -> list[str]:
    try:
        header = next(reader, [])
    except csv.Error as error:
        raise CorpusError(f"{path}:1: the line of column names is broken ({error}).") from None
    if not header or header == [""]:
        raise CorpusError(f"{path} is empty: expected a first line with the names of the columns.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise CorpusError(f"{path}:1: the column {twice[0]!r} is named twice. Give each column a name of its own.")
    return header


def _tsv(path: Path, tally: Tally) -> Rows:
    """One line a row, as IANA and MS MARCO have it: a quotation mark is a character like any other, except where a
    whole field is in quotation marks as spreadsheets write it."""
    header: list[str] = []
    for number, line in text_lines(path, tally):
        text = line.rstrip("\r\n")
        if not header:
            header = _header(iter([[unquoted(name) for name in text.split("\t")]]), path)
        elif text.strip() or "\t" in text:
            tally.read += 1
            row = text.split("\t")
            if len(row) == len(header):
                yield number, dict(zip(header, map(unquoted, row), strict=True))
            else:
                tally.note(
                    Trouble.BROKEN, number, f"{quantity(len(row), 'tab-separated fields')}, expected {len(header)}"
                )
    if not header:
        _header(iter([]), path)


def unquoted(field: str) -> str:
    """What a field says that is in quotation marks as spreadsheets and csv write it; any other as it is."""
    if len(field) > 1 and field[0] == field[-1] == '"' and '"' not in field[1:-1].replace('""', ""):
        return field[1:-1].replace('""', '"')
    return field


def _parquet(path: Path, tally: Tally) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, columns=readable_columns(file.schema_arrow)):
                for values in batch.to_pylist():
                    tally.read += 1
                    yield tally.read, values
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(f"{path} is no Parquet file or a damaged one: {error!s:.160}.") from None
