"""Arrow tables from streamed rows, kept out of the user's Hugging Face cache."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

DOCUMENT_COLUMNS = ("id", "title", "text")
QUERY_COLUMNS = ("id", "text")
ROWS_A_BATCH = 10_000
CHARACTERS_A_BATCH = 2**28
"""Arrow's string columns hold at most 2 GiB a chunk, and a character takes up to 4 bytes."""


def string_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Dataset:
    """A table of strings, filled batch by batch, so that no second copy of the rows is held as Python objects.

    `Dataset.from_generator` would write a copy into the user's cache; this does not. The fingerprint is taken from the
    contents, so that equal tables are equal to `datasets` too.
    """
    import pyarrow as pa
    from datasets import Dataset

    schema = pa.schema([(column, pa.string()) for column in columns])
    hasher = hashlib.blake2b("\x1f".join(columns).encode(), digest_size=8)
    batches = []
    for chunk in _chunks(rows):
        arrays = [pa.array(values, pa.string()) for values in zip(*chunk, strict=True)]
        batches.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
        for row in chunk:
            hasher.update("\x1f".join(row).encode("utf8") + b"\x1e")
    return Dataset(pa.Table.from_batches(batches, schema=schema), fingerprint=hasher.hexdigest())


def document_table(rows: Iterable[Sequence[str]]) -> Dataset:
    """The table of documents from rows of (id, title, text)."""
    return string_table(DOCUMENT_COLUMNS, rows)


def query_table(rows: Iterable[Sequence[str]]) -> Dataset:
    """The table of queries from rows of (id, text)."""
    return string_table(QUERY_COLUMNS, rows)


def table_rows(table: Dataset) -> Iterator[tuple[str, ...]]:
    """The rows of a table as tuples in the order of its columns, read batch by batch."""
    for batch in table.iter(batch_size=1000):
        yield from zip(*(batch[column] for column in table.column_names), strict=True)


@contextmanager
def quiet_datasets() -> Iterator[None]:
    """Within this block `datasets` draws no progress bars of its own; the caller's setting is put back after it."""
    import datasets

    were_on = not datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if were_on:
            datasets.enable_progress_bars()


def _chunks(rows: Iterable[Sequence[str]]) -> Iterator[list[Sequence[str]]]:
    chunk: list[Sequence[str]] = []
    held = 0
    for row in rows:
        size = sum(map(len, row))
        if chunk and (len(chunk) == ROWS_A_BATCH or held + size > CHARACTERS_A_BATCH):
            yield chunk
            chunk, held = [], 0
        chunk.append(row)
        held += size
    if chunk:
        yield chunk
