"""Queries made from documents alone: training texts without labels, and dev splits whose figures are estimates."""

from __future__ import annotations

from sdretrieval.corpus.synthetic_queries.consistency import Kept, keep_consistent
from sdretrieval.corpus.synthetic_queries.kinds import load_writer, plain
from sdretrieval.corpus.synthetic_queries.make import (
    generated_sources,
    hold_out_documents,
    is_generated,
    made_queries,
    with_generated_split,
)
from sdretrieval.corpus.synthetic_queries.recipe import GeneratedQuery, Kind, QueryTally, Recipe, Writer

__all__ = [
    "GeneratedQuery",
    "Kept",
    "Kind",
    "QueryTally",
    "Recipe",
    "Writer",
    "generated_sources",
    "hold_out_documents",
    "is_generated",
    "keep_consistent",
    "load_writer",
    "made_queries",
    "plain",
    "with_generated_split",
]
