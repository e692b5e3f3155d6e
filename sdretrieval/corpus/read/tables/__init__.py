"""Tables, datasets, judgements, topics and query logs as a corpus.

`records` gives the rows of any table, `queries` says what rows of queries, topics, logs and judgements mean, `assemble`
puts documents and these together; every trouble on the way is listed in an `ImportReport`.
"""

from __future__ import annotations

from sdretrieval.corpus.read.report import ImportReport, Trouble
from sdretrieval.corpus.read.tables.assemble import (
    Imported,
    QuerySources,
    import_documents,
    split_and_source,
    with_queries,
)
from sdretrieval.corpus.read.tables.columns import Columns, read_role
from sdretrieval.corpus.read.tables.hub import TableSize, source_files, split_slice, table_size, understands

__all__ = [
    "Columns",
    "ImportReport",
    "Imported",
    "QuerySources",
    "TableSize",
    "Trouble",
    "import_documents",
    "read_role",
    "source_files",
    "split_and_source",
    "split_slice",
    "table_size",
    "understands",
    "with_queries",
]
