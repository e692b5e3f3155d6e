"""Documents, queries and judgements: read, download, build, check, split, generate.

`open_corpus` turns what a user types into a `Corpus`; everything else takes and returns that object.
"""

from __future__ import annotations

from .beir_folder import dangling_judgements, read_beir, require_absent, write_beir
from .check import CorpusCheck, check_corpus
from .download import download_beir
from .generated import generated_sources, hold_out_documents, is_generated, with_generated_split
from .open import import_corpus, limit_documents, open_corpus
from .python_stdlib import build_stdlib
from .qrels import Dangling
from .sources import Source, TextSize, default_cache, find_source
from .splits import carve_dev, repeated_queries, require_positives, require_split, training_queries
from .storage import load_corpus, save_corpus
from .tables import document_table, query_table
from .tabular import Asking, Columns, Imported, ImportReport, with_questions
from .text import normalised
from .types import Corpus, Qrels, joined

__all__ = [
    "Asking",
    "Columns",
    "Corpus",
    "CorpusCheck",
    "Dangling",
    "ImportReport",
    "Imported",
    "Qrels",
    "Source",
    "TextSize",
    "build_stdlib",
    "carve_dev",
    "check_corpus",
    "dangling_judgements",
    "default_cache",
    "document_table",
    "download_beir",
    "find_source",
    "generated_sources",
    "hold_out_documents",
    "import_corpus",
    "is_generated",
    "joined",
    "limit_documents",
    "load_corpus",
    "normalised",
    "open_corpus",
    "query_table",
    "read_beir",
    "repeated_queries",
    "require_absent",
    "require_positives",
    "require_split",
    "save_corpus",
    "training_queries",
    "with_generated_split",
    "with_questions",
    "write_beir",
]
