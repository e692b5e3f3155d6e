"""The documents take turns and give queries of mixed kinds, which become a split of the corpus."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil

import numpy as np

from sdretrieval.corpus.arrow import query_table, table_rows
from sdretrieval.corpus.text import hash_rank, normalised, similar_pairs, words_of
from sdretrieval.corpus.types import Corpus, Texts, joined
from sdretrieval.errors import CorpusError
from sdretrieval.progress import Progress
from sdretrieval.synthetic_queries.kinds import (
    LEAST_SENTENCE_WORDS,
    LEAST_TITLE_WORDS,
    SAMPLE,
    Keywords,
    Taker,
    question_of,
    sentence_of,
    title_of,
)
from sdretrieval.synthetic_queries.recipe import Kind, QueryTally, Recipe, SyntheticQuery

MOST_PASSES = 8
"""How often each document is asked for one more query before generation stops short of the count."""
DOCUMENTS_AT_ONCE = 256
NEAR = 0.8
"""Two queries whose words overlap by this share (Jaccard) ask the same."""

TAKERS: dict[Kind, Taker] = {"title": title_of, "question": question_of, "sentence": sentence_of}

logger = logging.getLogger("sdretrieval")
ID_PREFIX = "generated-"
MOST_HELD_OUT = 0.2
"""Share of the documents that a held-out split may take: training wants the others."""
SPARE = 1.5
"""Candidates made for each query that is wanted: the consistency filter drops some."""


def make_queries(
    corpus: Corpus,
    rows: Sequence[int],
    count: int,
    seed: int,
    recipe: Recipe,
    *,
    held_out: Sequence[str] = (),
    tally: QueryTally | None = None,
) -> list[SyntheticQuery]:
    """Up to `count` queries from the documents in `rows`, which take turns in a random order, so that none gives a
    second query before each was asked for its first. Fewer where the documents give no more.

    Dropped, and counted in `tally`: a text that is already among the corpus' queries or these (in one case and
    single spaces); one whose words are near those of a text of `held_out`, which measure.
    """
    tally = tally if tally is not None else QueryTally()
    generator = np.random.default_rng(seed)
    order = generator.permutation(np.asarray(rows, dtype=np.int64))
    seen = {normalised(text) for text in corpus.query_texts()} | {normalised(text) for text in held_out}
    made: list[SyntheticQuery] = []
    with Progress("make queries", count, "queries") as progress:
        for block in _drawn(corpus, order, recipe, generator):
            for query in _without_near(block, held_out, tally):
                if len(made) == count:
                    return made
                tally.make(query.kind)
                if normalised(query.text) in seen:
                    tally.drop(query.kind, "a query of this text exists", query.text)
                    continue
                seen.add(normalised(query.text))
                made.append(query)
                progress.advance(1)
    return made


def _without_near(block: list[SyntheticQuery], held_out: Sequence[str], tally: QueryTally) -> Iterator[SyntheticQuery]:
    first = len(held_out)
    sets = [words_of(text) for text in (*held_out, *(query.text for query in block))]
    near = {b - first for a, b in similar_pairs(sets, NEAR) if a < first <= b} if held_out else set()
    for number, query in enumerate(block):
        if number in near:
            tally.make(query.kind)
            tally.drop(query.kind, "near a held-out query", query.text)
        else:
            yield query


def _drawn(
    corpus: Corpus, order: np.ndarray, recipe: Recipe, generator: np.random.Generator
) -> Iterator[list[SyntheticQuery]]:
    """Queries of a block of documents at a time, again and again through all of them."""
    kinds = [kind for kind, share in recipe.shares.items() if share > 0]
    shares = np.asarray([recipe.shares[kind] for kind in kinds], dtype=np.float64)
    keywords = None
    if "keywords" in kinds:
        count = len(corpus.documents)
        sample = np.sort(generator.choice(count, min(count, SAMPLE), replace=False)).tolist()
        keywords = Keywords(corpus.document_texts(sample))
    shared = shared_titles(corpus) if "title" in kinds or "question" in kinds else frozenset()
    for _ in range(MOST_PASSES):
        for start in range(0, len(order), DOCUMENTS_AT_ONCE):
            block = order[start : start + DOCUMENTS_AT_ONCE].tolist()
            drawn = generator.choice(len(kinds), size=len(block), p=shares / shares.sum())
            texts = [row[1:] for row in table_rows(corpus.documents.select(block))]
            chosen = [kinds[number] for number in drawn]
            written = _written(recipe, chosen, texts)
            queries = (
                SyntheticQuery(written[n], row, "written", joined(*texts[n]))
                if n in written
                else _taken([chosen[n], *kinds], row, texts[n], shared, keywords, recipe.lengths, generator)
                for n, row in enumerate(block)
            )
            yield [query for query in queries if query is not None]


def shared_titles(corpus: Corpus) -> frozenset[str]:
    """Titles that several documents have, as `normalised`: they tell none of these from the others."""
    count = Counter(normalised(title) for title in Texts(corpus.documents, "title"))
    return frozenset(title for title, documents in count.items() if documents > 1)


def _written(recipe: Recipe, kinds: Sequence[Kind], texts: Sequence[tuple[str, ...]]) -> dict[int, str]:
    """By place in a block what the model writes."""
    places = [n for n, kind in enumerate(kinds) if kind == "written"]
    if not places or recipe.writer is None:
        return {}
    queries = recipe.writer([joined(*texts[n]) for n in places])
    return {n: query for n, query in zip(places, queries, strict=True) if query}


def _taken(
    kinds: Sequence[Kind], row: int, document: tuple[str, ...], shared: Collection[str], keywords: Keywords | None,
    lengths: Sequence[int], generator: np.random.Generator,
) -> SyntheticQuery | None:  # fmt: skip
    """A query of the first of `kinds` that the document has."""
    title, text = document
    length = lengths[int(generator.integers(len(lengths)))] if lengths else None
    for kind in dict.fromkeys(kinds):
        if kind == "keywords" and keywords is not None:
            words = keywords.query(joined(title, text), length, generator)
            if words:
                return SyntheticQuery(words, row, kind, joined(title, text))
        if kind in TAKERS:
            taken = TAKERS[kind](
                "" if normalised(title) in shared and kind != "sentence" else title, text, length, generator
            )
            if taken is not None:
                return SyntheticQuery(taken.text, row, kind, taken.query_removed)
    return None


def is_synthetic(query_id: str) -> bool:
    """Whether the id is that of a synthetic query."""
    return query_id.startswith(ID_PREFIX)


def hold_out_documents(corpus: Corpus, count: int, seed: int) -> frozenset[int]:
    """Rows of the documents, chosen by a hash of their ids, that held-out queries are made from: enough for `count`
    queries, but at most a fifth of the corpus that no synthetic query was made from yet (and at least one)."""
    ranks_N = np.fromiter((hash_rank(seed, identifier) for identifier in corpus.document_ids), dtype=np.uint64)
    free_N = np.ones(len(ranks_N), dtype=bool)
    free_N[sorted(synthetic_sources(corpus))] = False
    rows = np.flatnonzero(free_N)
    ranked = rows[np.argsort(ranks_N[rows], kind="stable")]
    most = max(1, int(MOST_HELD_OUT * len(corpus.documents)))
    return frozenset(ranked[: min(ceil(SPARE * count), most)].tolist())


def synthetic_sources(corpus: Corpus) -> frozenset[int]:
    """Rows of the documents that the synthetic queries of any split were made from."""
    return frozenset(
        corpus.document_row[document]
        for qrels in corpus.qrels.values()
        for query, judged in qrels.items()
        if is_synthetic(query)
        for document in judged
        if document in corpus.document_row
    )


def with_synthetic_split(
    corpus: Corpus,
    split: str,
    count: int,
    seed: int,
    *,
    held_out: bool,
    recipe: Recipe | None = None,
    tally: QueryTally | None = None,
    without: Collection[str] = (),
) -> tuple[Corpus, Mapping[str, SyntheticQuery]]:
    """`corpus` with synthetic queries as `split`, and these queries by id (`generated-<split>-<n>`).

    An existing split of that name gives way (a run without labels must not read it); its queries stay in the table,
    unjudged. There are up to half as many again as `count`, so that a filter can drop some. `held_out`: queries that
    measure, from `hold_out_documents` alone and hidden from their documents; otherwise from all others, and none near
    a query of a held-out or judged split. No document is the source of two synthetic splits, and none that answers a
    query of the splits `without`.

    Raises `CorpusError` if a synthetic split of that name exists or no document gives a query.
    """
    if any(identifier.startswith(f"{ID_PREFIX}{split}-") for identifier in corpus.query_ids):
        raise CorpusError(f"Corpus {corpus.name} has synthetic queries for '{split}' already. Name another split.")
    recipe = recipe or Recipe()
    pool = hold_out_documents(corpus, count, seed) if held_out else range(len(corpus.documents))
    taken = synthetic_sources(corpus) | {
        row for name in without for query in corpus.split_rows(name) for row in corpus.positives(name, query)
    }
    # Texts of all queries that are judged in any split but train measure.
    measuring = {row for name in corpus.qrels if name != "train" for row in corpus.split_rows(name)}
    made = make_queries(
        corpus,
        sorted(row for row in pool if row not in taken),
        ceil(SPARE * count),
        seed,
        recipe,
        held_out=() if held_out else corpus.query_texts(sorted(measuring)),
        tally=tally,
    )
    if not made:
        raise CorpusError(
            f"No queries could be generated for split '{split}' of corpus {corpus.name}: {len(pool)} documents, none "
            f"unused{' and no answer to a query that measures,' if without else ''} with a title of "
            f"{LEAST_TITLE_WORDS} words or a text of {LEAST_SENTENCE_WORDS}. Give queries instead."
        )
    if len(made) < count:
        logger.warning(
            "%s: %d of %d queries generated for '%s', its documents give no more", corpus.name, len(made), count, split
        )
    named = {f"{ID_PREFIX}{split}-{number}": query for number, query in enumerate(made)}
    rows = [*table_rows(corpus.queries), *((i, query.text) for i, query in named.items())]
    judged = {i: {corpus.document_ids[query.document_row]: 1} for i, query in named.items()}
    return replace(corpus, queries=query_table(rows), qrels={**corpus.qrels, split: judged}), named
