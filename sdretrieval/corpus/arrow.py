"""Arrow tables from streamed rows, and a corpus as an artifact that is memory-mapped when it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sdretrieval.corpus.types import Corpus
from sdretrieval.errors import CorpusError, DamagedArtifact

if TYPE_CHECKING:
    from datasets import Dataset

DOCUMENT_COLUMNS = ("id", "title", "text")
QUERY_COLUMNS = ("id", "text")
ROWS_A_BATCH = 10_000
CHARACTERS_A_BATCH = 2**28
"""Arrow's string columns hold at most 2 GiB a chunk, and a character takes up to 4 bytes."""
CARD, LEFT_OUT = "corpus.json", "left_out"


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


def save_corpus(corpus: Corpus, folder: Path) -> None:
    """Write `corpus` into `folder`: `documents/`, `queries/` (Arrow), `qrels.json`, and last the card `corpus.json`.

    Renaming a temporary folder is left to the caller (the store does so for every artifact).
    """
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_datasets():
        corpus.documents.save_to_disk(str(folder / "documents"))
        if len(corpus.queries):  # a table without rows is written, but cannot be read
            corpus.queries.save_to_disk(str(folder / "queries"))
    qrels = {split: {query: dict(judged) for query, judged in qrels.items()} for split, qrels in corpus.qrels.items()}
    (folder / "qrels.json").write_text(json.dumps(qrels, ensure_ascii=False), encoding="utf8")
    card = {
        "name": corpus.name,
        "digest": corpus.digest,
        "documents": len(corpus.documents),
        "queries": len(corpus.queries),
        "splits": {split: len(judged) for split, judged in qrels.items()},
    }
    (folder / CARD).write_text(json.dumps(card, indent=2, ensure_ascii=False) + "\n", encoding="utf8")


def save_left_out(queries: Dataset, folder: Path) -> None:
    """Write into a saved corpus' `folder` the queries that were left out of it, so that they can be named."""
    if len(queries):
        with quiet_datasets():
            queries.save_to_disk(str(folder / LEFT_OUT))


def load_left_out(folder: Path) -> Dataset:
    """What `save_left_out` wrote."""
    from datasets import load_from_disk

    with quiet_datasets():
        return load_from_disk(str(folder / LEFT_OUT)) if (folder / LEFT_OUT).is_dir() else query_table(())


def load_corpus(folder: Path) -> Corpus:
    """Open what `save_corpus` wrote; the tables stay on disk and are memory-mapped. The digest is the one saved.

    Raises `CorpusError` if `folder` holds no saved corpus, `DamagedArtifact` if parts of it are missing or
    their counts differ from the card's. (Comparing the digest would read every text: the store does that.)
    """
    from datasets import load_from_disk

    if not (folder / CARD).is_file():
        raise CorpusError(f"{folder} holds no saved corpus: {CARD} is missing. Expected a folder made by save_corpus.")
    card = json.loads((folder / CARD).read_text(encoding="utf8"))
    try:
        with quiet_datasets():
            documents = load_from_disk(str(folder / "documents"))
            queries = load_from_disk(str(folder / "queries")) if card["queries"] else query_table(())
        qrels = json.loads((folder / "qrels.json").read_text(encoding="utf8"))
    except (OSError, ValueError) as error:
        raise DamagedArtifact(
            f"{folder}: the saved corpus cannot be read ({error}). Remove it: it is made again."
        ) from error
    corpus = Corpus(name=card["name"], documents=documents, queries=queries, qrels=qrels)
    for part, table in (("documents", documents), ("queries", queries)):
        if len(table) != card[part]:
            raise DamagedArtifact(
                f"{folder}: {len(table)} {part}, the card says {card[part]}. Remove it: it is made again."
            )
    return corpus
