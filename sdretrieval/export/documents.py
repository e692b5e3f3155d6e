"""The documents of a bundle: whole passages in a Parquet file, compressed, of which a search reads the few it shows;
and their vectors, for stores that are not ours.

Legend: N documents, D dims.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np

from sdretrieval.corpus.types import Corpus, Texts, joined
from sdretrieval.errors import DamagedArtifact
from sdretrieval.formatting import encodable
from sdretrieval.ragged import Array

TEXTS = "documents.parquet"
VectorFile = Literal["npy", "parquet"]
VECTORS: Mapping[VectorFile, str] = {"npy": "vectors.npy", "parquet": "vectors.parquet"}
"""A matrix in the order of ids.json, float32 (N, D); a table of id, title, text and vector."""
COLUMNS = ("id", "title", "text")
GROUP = 64
"""Documents that are compressed, and read, at a time."""
GROUPS_KEPT = 64
"""In memory: what is shown once is often shown again."""


@dataclass(frozen=True)
class IndexedDocuments:
    """The documents as a bundle knows them: ids, titles and texts by index row, in lists or an Arrow table."""

    ids: Sequence[str]
    titles: Sequence[str]
    texts: Sequence[str]

    @staticmethod
    def of(corpus: Corpus) -> IndexedDocuments:
        """All documents of `corpus`, in row order."""
        table = corpus.documents
        return IndexedDocuments(corpus.document_ids, Texts(table, "title"), Texts(table, "text"))

    def __len__(self) -> int:
        return len(self.ids)

    def full_text(self, row: int) -> str:
        """Title and text as the student saw them."""
        return joined(self.titles[row], self.texts[row])

    def passage(self, row: int) -> tuple[str, str]:
        """(title, text)."""
        return self.titles[row], self.texts[row]

    def write(self, folder: Path) -> None:
        """Write documents.parquet: id, title and text, a row each, in index order. Halves of surrogate pairs, which
        UTF-8 lacks, become U+FFFD."""
        import pyarrow as pa
        from pyarrow import parquet

        schema = pa.schema([(name, pa.large_string()) for name in COLUMNS])
        with parquet.ParquetWriter(folder / TEXTS, schema, compression="zstd") as writer:
            for start in range(0, len(self), GROUP):
                rows = range(start, min(start + GROUP, len(self)))
                columns = [
                    [encodable(str(column[row])) for row in rows] for column in (self.ids, self.titles, self.texts)
                ]
                writer.write_table(pa.table(columns, schema=schema), row_group_size=GROUP)


VECTORS_AT_ONCE = 4096


def write_vectors(
    documents: IndexedDocuments, vectors_ND: Array, folder: Path, kind: VectorFile, *, texts: bool = True
) -> None:
    """Write one of the files `VECTORS`; `texts`: whether a table has titles and texts."""
    count, dims = vectors_ND.shape
    blocks = [range(start, min(start + VECTORS_AT_ONCE, count)) for start in range(0, count, VECTORS_AT_ONCE)]
    if kind == "npy":
        made_ND = np.lib.format.open_memmap(folder / VECTORS[kind], "w+", np.float32, (count, dims))
        for rows in blocks:
            made_ND[rows.start : rows.stop] = vectors_ND[rows.start : rows.stop]
        made_ND.flush()
        return
    import pyarrow as pa
    from pyarrow import parquet

    columns = {"id": documents.ids, **({"title": documents.titles, "text": documents.texts} if texts else {})}
    kinds = [*((name, pa.large_string()) for name in columns), ("vector", pa.list_(pa.float32(), dims))]
    with parquet.ParquetWriter(folder / VECTORS[kind], pa.schema(kinds), compression="zstd") as writer:
        for rows in blocks:
            words = [[encodable(str(column[row])) for row in rows] for column in columns.values()]
            block = np.ascontiguousarray(vectors_ND[rows.start : rows.stop], dtype=np.float32)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), dims)
            writer.write_table(pa.table([*words, vectors], schema=pa.schema(kinds)))


class Passages:
    """documents.parquet, of which some groups of rows are in memory; several threads may read."""

    def __init__(self, folder: Path) -> None:
        """Raises DamagedArtifact if it is no such file."""
        import pyarrow as pa
        from pyarrow import parquet

        self._path, self._lock = folder / TEXTS, Lock()
        self._groups: OrderedDict[int, Any] = OrderedDict()
        try:
            self._file = parquet.ParquetFile(self._path, memory_map=True)
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from error
        metadata = self._file.metadata
        sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
        if self._file.schema_arrow.names != list(COLUMNS) or any(size != GROUP for size in sizes[:-1]):
            raise self._damaged(
                f"columns {self._file.schema_arrow.names}, expected {list(COLUMNS)} in groups of {GROUP}"
            )

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    def passage(self, row: int) -> tuple[str, str]:
        """(title, text) of an index row. Raises DamagedArtifact if they are no texts."""
        import pyarrow as pa

        group, place = divmod(row, GROUP)
        try:
            with self._lock:
                if group not in self._groups:
                    self._groups[group] = self._file.read_row_group(group, columns=list(COLUMNS[1:]))
                    if len(self._groups) > GROUPS_KEPT:
                        self._groups.popitem(last=False)
                table = self._groups[group]
                self._groups.move_to_end(group)
            title, text = (table.column(name)[place].as_py() for name in COLUMNS[1:])
        except (OSError, IndexError, ValueError, pa.ArrowException) as error:
            raise self._damaged(error) from error
        if not (isinstance(title, str) and isinstance(text, str)):
            raise self._damaged(f"row {row} has title {title!r:.40}, text {text!r:.40}")
        return title, text

    def _damaged(self, reason: object) -> DamagedArtifact:
        said = " ".join(str(reason).split())[:200]
        return DamagedArtifact(f"{self._path} cannot be read ({said}); export the run again")
