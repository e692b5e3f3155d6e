"""Tables, datasets, judgements, topics and query logs as a corpus.

`records` gives the rows of any table; `documents`, `queries`, `judgements`, `topics` and `query_log` each say what
rows of one kind mean; `assemble` puts them together, and every trouble on the way stands in an `ImportReport`.
"""

from __future__ import annotations

from sdretrieval.corpus.read.report import ImportReport, Trouble
from sdretrieval.corpus.read.tables.assemble import Asking, Imported, import_documents, split_and_source, with_questions
from sdretrieval.corpus.read.tables.columns import Columns, read_role
from sdretrieval.corpus.read.tables.hub import TableSize, source_files, split_slice, table_size, understands

__all__ = [
    "Asking",
    "Columns",
    "ImportReport",
    "Imported",
    "TableSize",
    "Trouble",
    "import_documents",
    "read_role",
    "source_files",
    "split_and_source",
    "split_slice",
    "table_size",
    "understands",
    "with_questions",
]
