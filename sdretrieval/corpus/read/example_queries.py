"""Queries that people asked, without judgements: a text file, one a line, or a table with a column of texts."""

from __future__ import annotations

from sdretrieval.corpus.read.report import Tally
from sdretrieval.corpus.read.tables.files import clean, format_of, text_lines
from sdretrieval.corpus.read.tables.queries import read_queries
from sdretrieval.corpus.text import normalised
from sdretrieval.errors import CorpusError
from sdretrieval.formatting import quantity
from sdretrieval.paths import typed_path

ENOUGH = 20
"""With fewer, one odd query would decide."""


def read_example_queries(source: str) -> list[str]:
    """The texts, each once, in their order.

    Raises CorpusError if the file cannot be read, has no column of texts, or holds fewer than 20 queries.
    """
    path = typed_path(source)
    if not path.is_file():
        raise CorpusError(f"corpus.example_queries: there is no file {path}. Check the path.")
    tally = Tally(str(path), "queries")
    if format_of(path) is None:
        texts = [clean(line).strip() for _, line in text_lines(path, tally)]
    else:
        texts = [query.text.strip() for query in read_queries(path, tally)]
    found = list({normalised(text): text for text in texts if text}.values())
    if len(found) < ENOUGH:
        raise CorpusError(
            f"corpus.example_queries: {path} holds {quantity(len(found), 'different queries')}, expected at least "
            f"{ENOUGH}; add more, or leave the setting out"
        )
    return found
