"""Documents, queries and judgements: read, download, build, check, split, generate.

`open_corpus` turns what a user types into a `Corpus`; everything else takes and returns that object.
"""

from __future__ import annotations

from sdretrieval.corpus.arrow import document_table, load_corpus, load_left_out, query_table, save_corpus, save_left_out
from sdretrieval.corpus.check import CorpusCheck, check_corpus
from sdretrieval.corpus.read.beir import (
    dangling_judgements,
    download_beir,
    read_beir,
    repeated_judgements,
    require_absent,
    write_beir,
)
from sdretrieval.corpus.read.python_stdlib import build_stdlib
from sdretrieval.corpus.read.tables import Columns, Imported, ImportReport, QuerySources, with_queries
from sdretrieval.corpus.sources import (
    Source,
    TextSize,
    default_cache,
    find_source,
    import_corpus,
    limit_documents,
    open_corpus,
)
from sdretrieval.corpus.splits import (
    Dangling,
    carve_dev,
    cut_queries,
    left_out,
    repeated_queries,
    require_positives,
    require_split,
    training_queries,
)
from sdretrieval.corpus.text import content_digest, normalised
from sdretrieval.corpus.types import Corpus, Qrels, joined
from sdretrieval.corpus.verdicts import Mark, Verdicts, read_marks, resolve

__all__ = [
    "Columns",
    "Corpus",
    "CorpusCheck",
    "Dangling",
    "ImportReport",
    "Imported",
    "Mark",
    "Qrels",
    "QuerySources",
    "Source",
    "TextSize",
    "Verdicts",
    "build_stdlib",
    "carve_dev",
    "check_corpus",
    "content_digest",
    "cut_queries",
    "dangling_judgements",
    "default_cache",
    "document_table",
    "download_beir",
    "find_source",
    "import_corpus",
    "joined",
    "left_out",
    "limit_documents",
    "load_corpus",
    "load_left_out",
    "normalised",
    "open_corpus",
    "query_table",
    "read_beir",
    "read_marks",
    "repeated_judgements",
    "repeated_queries",
    "require_absent",
    "require_positives",
    "require_split",
    "resolve",
    "save_corpus",
    "save_left_out",
    "training_queries",
    "with_queries",
    "write_beir",
]
