"""The documents take turns and give queries of mixed kinds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from sdretrieval.corpus.near_duplicates import similar_pairs, words_of
from sdretrieval.corpus.synthetic_queries.keywords import SAMPLE, Keywords
from sdretrieval.corpus.synthetic_queries.kinds import Taker, heading_of, leading_of, plain, span_of, title_of
from sdretrieval.corpus.synthetic_queries.recipe import GeneratedQuery, Kind, QueryTally, Recipe
from sdretrieval.corpus.tables import table_rows
from sdretrieval.corpus.text import normalised
from sdretrieval.corpus.types import Corpus, joined
from sdretrieval.progress import Progress

MOST_PASSES = 8
"""How often each document is asked for one more query before generation stops short of the count."""
DOCUMENTS_AT_ONCE = 256
STOPS = ".!?…。！？"
"""What ends a sentence and may be missing where the same words are a title."""
NEAR = 0.8
"""Two queries whose words overlap by this share (Jaccard) ask the same."""

TAKERS: dict[Kind, Taker] = {"title": title_of, "heading": heading_of, "leading": leading_of, "span": span_of}


def made_queries(
    corpus: Corpus,
    rows: Sequence[int],
    count: int,
    seed: int,
    recipe: Recipe,
    *,
    held_out: Sequence[str] = (),
    must_be_masked: bool = False,
    tally: QueryTally | None = None,
) -> list[GeneratedQuery]:
    """Up to `count` queries from the documents in `rows`, which take turns in a random order, so that none gives a
    second query before each was asked for its first. Fewer where the documents give no more.

    Dropped, and counted in `tally`: a text that stands already among the corpus' queries or these (in one case and
    single spaces); one whose words are near those of a text of `held_out`, which measure; with `must_be_masked`, one
    that cannot be hidden from its document.
    """
    tally = tally if tally is not None else QueryTally()
    generator = np.random.default_rng(seed)
    order = generator.permutation(np.asarray(rows, dtype=np.int64))
    seen = {normalised(text) for text in corpus.query_texts()} | {normalised(text) for text in held_out}
    made: list[GeneratedQuery] = []
    with Progress("make queries", count, "queries") as progress:
        for block in _drawn(corpus, order, recipe, generator):
            for query in _without_near(block, held_out, tally):
                if len(made) == count:
                    return made
                reason = _refused(query, seen, must_be_masked)
                tally.make(query.kind)
                if reason:
                    tally.drop(query.kind, reason, query.text)
                    continue
                seen.add(normalised(query.text))
                made.append(query)
                progress.advance(1)
    return made


def _refused(query: GeneratedQuery, seen: set[str], must_be_masked: bool) -> str:
    if normalised(query.text) in seen:
        return "a query of this text exists"
    if must_be_masked and query.kind != "written":
        if query.masked is None:
            return "too little is left of its document without it"
        if plain(query.text).rstrip(STOPS) in plain(query.masked):
            return "stands in its document more than once"
    return ""


def _without_near(block: list[GeneratedQuery], held_out: Sequence[str], tally: QueryTally) -> Iterator[GeneratedQuery]:
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
) -> Iterator[list[GeneratedQuery]]:
    """Queries of a block of documents at a time, again and again through all of them."""
    kinds = [kind for kind, share in recipe.shares.items() if share > 0]
    shares = np.asarray([recipe.shares[kind] for kind in kinds], dtype=np.float64)
    keywords = _keywords(corpus, generator) if "keywords" in kinds else None
    for _ in range(MOST_PASSES):
        for start in range(0, len(order), DOCUMENTS_AT_ONCE):
            block = order[start : start + DOCUMENTS_AT_ONCE].tolist()
            drawn = generator.choice(len(kinds), size=len(block), p=shares / shares.sum())
            chosen: list[Kind] = [kinds[number] for number in drawn]
            texts = [row[1:] for row in table_rows(corpus.documents.select(block))]
            yield _block(block, chosen, texts, recipe, keywords, generator)


def _block(
    rows: list[int], kinds: list[Kind], texts: list[tuple[str, ...]], recipe: Recipe, keywords: Keywords | None,
    generator: np.random.Generator,
) -> list[GeneratedQuery]:  # fmt: skip
    written = [number for number, kind in enumerate(kinds) if kind == "written"]
    by_model: dict[int, str] = {}
    if written and recipe.writer is not None:
        by_model = dict(zip(written, recipe.writer([joined(*texts[number]) for number in written]), strict=True))
    found = []
    for number, (row, kind, (title, text)) in enumerate(zip(rows, kinds, texts, strict=True)):
        if by_model.get(number):
            found.append(GeneratedQuery(by_model[number], row, "written"))
            continue
        words = keywords.query(joined(title, text), generator) if keywords and kind == "keywords" else None
        if words:
            found.append(GeneratedQuery(words, row, "keywords"))
            continue
        query = _taken(kind, row, title, text, recipe, generator)
        if query is not None:
            found.append(query)
    return found


def _taken(
    kind: Kind, row: int, title: str, text: str, recipe: Recipe, generator: np.random.Generator
) -> GeneratedQuery | None:
    for tried in (kind, "span"):
        taker = TAKERS.get(tried)
        taken = taker(title, text, generator) if taker else None
        if taken is not None:
            masked = taken.masked if tried in recipe.masked else None
            return GeneratedQuery(taken.text, row, tried, masked)
    return None


def _keywords(corpus: Corpus, generator: np.random.Generator) -> Keywords:
    count = len(corpus.documents)
    rows = np.sort(generator.choice(count, min(count, SAMPLE), replace=False)).tolist()
    return Keywords(corpus.document_texts(rows))
