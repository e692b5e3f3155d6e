"""Generated queries as a split of the corpus, each judged relevant to the document that it was made from."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from math import ceil

import numpy as np

from sdretrieval.corpus.synthetic_queries.kinds import LEAST_SPAN_WORDS, LEAST_TITLE_WORDS
from sdretrieval.corpus.synthetic_queries.make import made_queries
from sdretrieval.corpus.synthetic_queries.recipe import GeneratedQuery, QueryTally, Recipe
from sdretrieval.corpus.tables import query_table, table_rows
from sdretrieval.corpus.text import hash_rank
from sdretrieval.corpus.types import Corpus
from sdretrieval.errors import CorpusError

logger = logging.getLogger("sdretrieval")

ID_PREFIX = "generated-"
MOST_HELD_OUT = 0.2
"""Share of the documents that a held-out split may take: training wants the others."""
SPARE = 1.5
"""Candidates made for each query that is wanted: the consistency filter drops some."""


def is_generated(query_id: str) -> bool:
    """Whether the id is that of a generated query."""
    return query_id.startswith(ID_PREFIX)


def hold_out_documents(corpus: Corpus, count: int, seed: int) -> frozenset[int]:
    """Rows of the documents, chosen by a hash of their ids, that held-out queries are made from: enough for `count`
    queries, but at most a fifth of the corpus that no generated query was made from yet (and at least one)."""
    ranks_N = np.fromiter((hash_rank(seed, identifier) for identifier in corpus.document_ids), dtype=np.uint64)
    free_N = np.ones(len(ranks_N), dtype=bool)
    free_N[sorted(generated_sources(corpus))] = False
    rows = np.flatnonzero(free_N)
    ranked = rows[np.argsort(ranks_N[rows], kind="stable")]
    most = max(1, int(MOST_HELD_OUT * len(corpus.documents)))
    return frozenset(ranked[: min(ceil(SPARE * count), most)].tolist())


def generated_sources(corpus: Corpus) -> frozenset[int]:
    """Rows of the documents that the generated queries of any split were made from."""
    return frozenset(
        corpus.document_row[document]
        for qrels in corpus.qrels.values()
        for query, judged in qrels.items()
        if is_generated(query)
        for document in judged
        if document in corpus.document_row
    )


def with_generated_split(
    corpus: Corpus,
    split: str,
    count: int,
    seed: int,
    *,
    held_out: bool,
    recipe: Recipe | None = None,
    tally: QueryTally | None = None,
) -> tuple[Corpus, Mapping[str, GeneratedQuery]]:
    """`corpus` with generated queries as `split`, and these queries by id (`generated-<split>-<n>`).

    An existing split of that name gives way (a run without labels must not read it); its queries stay in the table,
    unjudged. There are up to half as many again as `count`, so that a filter can drop some. `held_out`: queries that
    measure, from `hold_out_documents` alone and hidden from their documents; otherwise from all others, and none near
    a query of a held-out or judged split. No document is the source of two generated splits.

    Raises `CorpusError` where a generated split of that name exists or no document gives a query.
    """
    if any(identifier.startswith(f"{ID_PREFIX}{split}-") for identifier in corpus.query_ids):
        raise CorpusError(f"Corpus {corpus.name} has generated queries for '{split}' already. Name another split.")
    recipe = recipe or Recipe()
    pool = hold_out_documents(corpus, count, seed) if held_out else range(len(corpus.documents))
    taken = generated_sources(corpus)
    made = made_queries(
        corpus,
        sorted(row for row in pool if row not in taken),
        ceil(SPARE * count),
        seed,
        recipe.for_measuring() if held_out else recipe,
        held_out=() if held_out else _measuring_texts(corpus),
        must_be_masked=held_out,
        tally=tally,
    )
    if not made:
        raise CorpusError(
            f"No queries could be generated for split '{split}' of corpus {corpus.name}: {len(pool)} documents, none "
            f"unused with a title of {LEAST_TITLE_WORDS} words or a text of {LEAST_SPAN_WORDS}. Give queries instead."
        )
    if len(made) < count:
        logger.warning(
            "%s: %d of %d queries generated for '%s', its documents give no more", corpus.name, len(made), count, split
        )
    named = {f"{ID_PREFIX}{split}-{number}": query for number, query in enumerate(made)}
    rows = [*table_rows(corpus.queries), *((i, query.text) for i, query in named.items())]
    judged = {i: {corpus.document_ids[query.document_row]: 1} for i, query in named.items()}
    return replace(corpus, queries=query_table(rows), qrels={**corpus.qrels, split: judged}), named


def _measuring_texts(corpus: Corpus) -> list[str]:
    """Texts of all queries that are judged in any split but train."""
    rows = {row for split in corpus.qrels if split != "train" for row in corpus.split_rows(split)}
    return corpus.query_texts(sorted(rows))
