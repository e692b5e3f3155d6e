"""Queries made from documents alone: training texts without labels, and dev splits whose figures are estimates.

Three kinds: the `title` of a document; its `leading` sentence, shortened; a `span`, a random run of words from one of
its sentences (the inverse cloze task of Lee, Chang and Toutanova, ACL 2019, with short queries). Spans are the
largest share: the prototype's gains came from spans alone, the other two make the queries' form less uniform.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from ..errors import CorpusError
from .tables import query_table, table_rows
from .text import hash_rank, normalised
from .types import Corpus

logger = logging.getLogger("sdretrieval")

KIND_SHARES = {"span": 0.6, "leading": 0.25, "title": 0.15}
"""How often each kind is tried first. A document without such a query is given a span instead."""

LEAST_TITLE_WORDS, LEAST_LEADING_WORDS = 3, 4
LEAST_SPAN_WORDS, MOST_SPAN_WORDS = 6, 12
MOST_PASSES = 8
"""How often each document is asked for one more query before generation stops short of the count."""

ID_PREFIX = "generated-"
SENTENCE_END = re.compile(r"(?<=[.!?])\s+|\n+")


class GeneratedQuery(NamedTuple):
    """A query, the row of the document that it was made from, and `title`, `leading` or `span`."""

    text: str
    document_row: int
    kind: str


def generated_queries(
    corpus: Corpus, count: int, seed: int, exclude_documents: Collection[int] = ()
) -> list[GeneratedQuery]:
    """Make up to `count` queries from the documents of `corpus`, those in rows `exclude_documents` left out.

    The documents take turns in a random order, so that none gives a second query before each was asked for its first.
    No two texts are the same, and none is that of a query of the corpus (in one case and single spaces). Where the
    documents do not give `count` queries, there are fewer, with a warning.
    """
    excluded = set(exclude_documents)
    rows = [row for row in range(len(corpus.documents)) if row not in excluded]
    return _generate(corpus, rows, count, seed)


def hold_out_documents(corpus: Corpus, count: int, seed: int) -> frozenset[int]:
    """Rows of `count` documents, chosen by a hash of their ids: the sources of held-out generated queries.

    Whoever generates training queries with `exclude_documents` set to this keeps them apart from the split that
    `with_generated_split(..., held_out=True)` makes with the same count and seed.
    """
    ranked = sorted(range(len(corpus.documents)), key=lambda row: hash_rank(seed, corpus.document_ids[row]))
    return frozenset(ranked[:count])


def generated_sources(corpus: Corpus) -> frozenset[int]:
    """Rows of the documents that the generated queries of any split were made from."""
    return frozenset(
        corpus.document_row[document]
        for qrels in corpus.qrels.values()
        for query, judged in qrels.items()
        if query.startswith(ID_PREFIX)
        for document in judged
        if document in corpus.document_row
    )


def with_generated_split(corpus: Corpus, split: str, count: int, seed: int, held_out: bool) -> Corpus:
    """`corpus` with generated queries as `split`, each judged relevant to its source document alone.

    Ids are `generated-<split>-<n>`. An existing split of that name gives way (a run without labels must not read it);
    its queries stay in the table, unjudged. `held_out` takes the sources from `hold_out_documents(corpus, count,
    seed)` only. In either case no document is the source of two generated splits.

    Raises `CorpusError` where a generated split of that name exists or no document gives a query.
    """
    if any(identifier.startswith(f"{ID_PREFIX}{split}-") for identifier in corpus.query_ids):
        raise CorpusError(f"Corpus {corpus.name} has generated queries for '{split}' already. Name another split.")
    pool = hold_out_documents(corpus, count, seed) if held_out else range(len(corpus.documents))
    taken = generated_sources(corpus)
    made = _generate(corpus, sorted(row for row in pool if row not in taken), count, seed)
    if not made:
        raise CorpusError(
            f"No queries could be generated for split '{split}' of corpus {corpus.name}: {len(pool)} documents, none "
            f"unused with a title of {LEAST_TITLE_WORDS} words or a text of {LEAST_SPAN_WORDS}. Give queries instead."
        )
    ids = [f"{ID_PREFIX}{split}-{number}" for number in range(len(made))]
    rows = [*table_rows(corpus.queries), *((i, query.text) for i, query in zip(ids, made, strict=True))]
    judged = {i: {corpus.document_ids[query.document_row]: 1} for i, query in zip(ids, made, strict=True)}
    return replace(corpus, queries=query_table(rows), qrels={**corpus.qrels, split: judged})


def _generate(corpus: Corpus, rows: list[int], count: int, seed: int) -> list[GeneratedQuery]:
    generator = np.random.default_rng(seed)
    seen = {normalised(text) for text in corpus.query_texts()}
    made: list[GeneratedQuery] = []
    order = generator.permutation(np.array(rows, dtype=np.int64))
    for row, title, text in _turns(corpus, order, wanted=lambda: len(made) < count):
        query = _query(title, text, row, generator)
        if query is not None and normalised(query.text) not in seen:
            seen.add(normalised(query.text))
            made.append(query)
    if len(made) < count:
        logger.warning("%s: %d of %d queries generated, its documents give no more", corpus.name, len(made), count)
    return made


def _turns(corpus: Corpus, order: np.ndarray, wanted: Callable[[], bool]) -> Iterator[tuple[int, str, str]]:
    """Row, title and text of the documents in turn, again and again, read in blocks, while `wanted()`."""
    for _ in range(MOST_PASSES):
        for start in range(0, len(order), 256):
            block = order[start : start + 256].tolist()
            for row, (_, title, text) in zip(block, table_rows(corpus.documents.select(block)), strict=True):
                if not wanted():
                    return
                yield row, title, text


def _query(title: str, text: str, row: int, generator: np.random.Generator) -> GeneratedQuery | None:
    kind = str(generator.choice(list(KIND_SHARES), p=list(KIND_SHARES.values())))
    if kind == "title" and len(title.split()) >= LEAST_TITLE_WORDS:
        return GeneratedQuery(" ".join(title.split()), row, "title")
    sentences = [sentence.split() for sentence in SENTENCE_END.split(text) if sentence.split()]
    if kind == "leading" and sentences and len(sentences[0]) >= LEAST_LEADING_WORDS:
        return GeneratedQuery(" ".join(sentences[0][:MOST_SPAN_WORDS]), row, "leading")
    span = _span(sentences, generator)
    return GeneratedQuery(" ".join(span), row, "span") if span else None


def _span(sentences: list[list[str]], generator: np.random.Generator) -> list[str]:
    """A run of words of one sentence; of the whole text where no sentence is long enough (code, lists); else none."""
    long_enough = [words for words in sentences if len(words) >= LEAST_SPAN_WORDS]
    whole = [word for words in sentences for word in words]
    if not long_enough and len(whole) < LEAST_SPAN_WORDS:
        return []
    words = long_enough[generator.integers(len(long_enough))] if long_enough else whole
    length = int(generator.integers(LEAST_SPAN_WORDS, min(MOST_SPAN_WORDS, len(words)) + 1))
    start = int(generator.integers(len(words) - length + 1))
    return words[start : start + length]
