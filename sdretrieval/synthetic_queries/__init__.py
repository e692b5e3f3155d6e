"""Queries made from documents alone: training texts without labels, and dev splits whose figures are estimates."""

from __future__ import annotations

from sdretrieval.synthetic_queries.chat import chat_writer, writing_cost
from sdretrieval.synthetic_queries.consistency import Kept, keep_consistent
from sdretrieval.synthetic_queries.kinds import load_writer, plain
from sdretrieval.synthetic_queries.make import (
    hold_out_documents,
    is_synthetic,
    make_queries,
    synthetic_sources,
    with_synthetic_split,
)
from sdretrieval.synthetic_queries.overlap import thinned
from sdretrieval.synthetic_queries.recipe import JUDGING, KINDS, Kind, QueryTally, Recipe, SyntheticQuery, Writer

__all__ = [
    "JUDGING",
    "KINDS",
    "Kept",
    "Kind",
    "QueryTally",
    "Recipe",
    "SyntheticQuery",
    "Writer",
    "chat_writer",
    "hold_out_documents",
    "is_synthetic",
    "keep_consistent",
    "load_writer",
    "make_queries",
    "plain",
    "synthetic_sources",
    "thinned",
    "with_synthetic_split",
    "writing_cost",
]
