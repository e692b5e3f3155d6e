"""Term overlap: how many of a query's content words its document holds.

A question shares a quarter to four fifths of its words with the document that answers it, by collection; a query that
was taken from a document shares all of them with it, or, if its whole sentence is removed, hardly any. The first gives
a search for words every match, the second denies it most. So a document is thinned: a coin decides for each content
word of the query whether the document keeps the word or loses it everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from sdretrieval.corpus.language import ENGLISH
from sdretrieval.corpus.text import hash_rank
from sdretrieval.indexes.lexical import LexicalIndex
from sdretrieval.indexes.terms import Vocabulary
from sdretrieval.synthetic_queries.recipe import Kind, SyntheticQuery

PRIOR = 0.35
"""Natural overlap if no query that somebody asked is known: the median of eleven collections (docs/estimates.md)."""
SLOPE, INTERCEPT = 1.26, -0.32
"""Natural overlap by the share of a query's words that BM25's best document holds: least squares over the same."""
LEAST, MOST = 0.23, 0.8
"""The range that was seen on seven other collections."""
HELD: dict[Kind, float] = {"title": 1.4, "question": 1.4, "sentence": 0.8, "keywords": 0.5, "written": 1.0}
"""By kind the share of its words that a document is to hold, as a multiple of the natural overlap. Keywords are the
document's most telling words, of which each is worth more to BM25 than a word of a question (docs/estimates.md)."""


@dataclass(frozen=True)
class Overlap:
    """The share of a real query's content words that its relevant documents hold, and how it is known.

    `keep`: by kind of synthetic query the probability with which its document keeps a word.
    """

    share: float
    why: str
    keep: dict[str, float]

    def to_json(self) -> dict[str, object]:
        """As a JSON object."""
        return asdict(self)


def natural_overlap(index: LexicalIndex, examples: Sequence[str]) -> float:
    """The overlap of queries that people asked with their relevant documents, which nobody knows, from what can be
    seen: the `top_share`."""
    return float(np.clip(INTERCEPT + SLOPE * top_share(index, examples), LEAST, MOST))


def top_share(index: LexicalIndex, queries: Sequence[str]) -> float:
    """The share of a query's content words that BM25's best document for it holds, on average."""
    rows = index.search(queries, 1).rows_Qk[:, 0]
    shares = []
    for query, row in zip(queries, rows.tolist(), strict=True):
        terms = content_words(query, index.vocabulary).numbers
        known = [index.vocabulary.numbers[term] for term in terms if term in index.vocabulary.numbers]
        if terms:
            shares.append(index.weights_NV[row, known].nnz / len(terms) if row >= 0 and known else 0.0)
    return float(np.mean(shares or [0.0]))


def keep_of(kind: Kind, queries: Iterable[SyntheticQuery], overlap: float, like: Vocabulary) -> float:
    """The probability with which documents keep the words of queries of one kind, so that they hold as large a share of
    them as `HELD` says: the source of the query is gone already, and with it some of its words."""
    shares = [held_share(query.query_removed, query.text, like) for query in queries]
    return min(1.0, HELD[kind] * overlap / max(float(np.mean(shares or [1.0])), 1e-9))


def held_share(document: str, query: str, like: Vocabulary) -> float:
    """Share of the query's content words that the document holds; 0 if it has none."""
    words = content_words(query, like)
    return len(set(words.ids(document))) / max(len(words.numbers), 1)


def content_words(query: str, like: Vocabulary) -> Vocabulary:
    """A vocabulary of the query's content words alone: its terms, as `like` stems them, without function words."""
    if like.stemmer == ENGLISH:
        from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

        stop_words = like.stop_words | ENGLISH_STOP_WORDS
    else:
        stop_words = like.stop_words
    words = Vocabulary(like.split_identifiers, stop_words, like.stemmer)
    words.ids(query, grow=True)
    return words


def thinned(document: str, query: str, keep: float, seed: int, like: Vocabulary) -> str:
    """`document` without some of the content words of `query`: each stays, in all its forms, with probability `keep`.

    The coin depends on the seed, the query and the word alone, so a word that stays for one `keep` stays for any
    higher one. `like`: the vocabulary of the collection's BM25, whose stemmer says which forms are one word.
    """
    words = content_words(query, like)
    lost = {number for term, number in words.numbers.items() if hash_rank(seed, query, term) >= keep * 2**64}
    return words.without(document, lost) if lost else document
