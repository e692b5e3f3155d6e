"""BM25 as a sparse matrix: search and arbitrary query x document scores from row slices.

Legend: Q queries, N documents, M chosen documents, V terms, k hits per query.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sdretrieval.corpus.language import ENGLISH
from sdretrieval.corpus.scripts import folded
from sdretrieval.errors import DamagedArtifact, RequestError
from sdretrieval.files import read_as
from sdretrieval.formatting import quantity
from sdretrieval.indexes.bm25 import bm25_weights, numbered
from sdretrieval.indexes.hits import PADDING_ROW, Hits, Scores, best_of, empty_hits
from sdretrieval.indexes.terms import Vocabulary
from sdretrieval.progress import track

if TYPE_CHECKING:
    from scipy.sparse import csc_matrix, csr_matrix

logger = logging.getLogger("sdretrieval")

STOP_WORDS = frozenset(
    "a an and are as at be but by for if in into is it no not of on or such that the their then there these they "
    "this to was will with".split()
)
"""Lucene's 33 English stop words. On SciFact's train split nDCG@10 is 0.694 with them, 0.692 without any and 0.695 with
bm25s' longer list: no difference to choose by, so the usual list stands."""
LISTED_STOP_WORDS = (
    "danish", "dutch", "french", "german", "italian", "norwegian", "portuguese", "russian", "spanish", "swedish",
    "turkish",
)  # fmt: skip
"""Languages whose stop words come with bm25s; of others none are dropped: common words weigh little anyway. No other
package has the same lists: those of stop-words and stopwordsiso are up to three times as long, NLTK downloads its own.
"""
K1, B = 0.9, 0.4
"""Anserini's values for BEIR."""
CHUNK_ENTRIES = 1 << 23
"""Bounds the sparse scores of one search step: queries at once x documents."""
ARRAYS = ("data", "indices", "indptr")
CARD_FILE = "lexical.json"


@dataclass(frozen=True)
class LexicalCard:
    """lexical.json: settings, and the vocabulary in the order of the weights' columns."""

    k1: float
    b: float
    count: int
    stemmer: str
    split_identifiers: bool
    stop_words: list[str]
    terms: list[str]
    mean_length: float


class LexicalIndex:
    """BM25 (Robertson; Lucene's variant) over texts. A document sharing no term with the query is never a hit.

    The score is a plain inner product: term counts of the query times `weights_NV`, whose entry is
    idf(t) tf / (tf + k1 (1 - b + b length / mean length)). So scores are >= 0, and 0 means no shared term.
    """

    def __init__(self, weights_NV: csr_matrix, vocabulary: Vocabulary, k1: float, b: float, mean_length: float) -> None:
        self.weights_NV, self.vocabulary, self.k1, self.b = weights_NV, vocabulary, k1, b
        self.mean_length = mean_length

    @classmethod
    def build(
        cls,
        texts: Sequence[str],
        split_identifiers: bool = False,
        k1: float = K1,
        b: float = B,
        stop_words: frozenset[str] | None = None,
        language: str = ENGLISH,
    ) -> LexicalIndex:
        """Index `texts` (N documents), stemmed as `language` (see `stop_words_of`); its own stop words if None.

        Raises RequestError if no text holds a term, or k1, b are out of range.
        """
        if k1 < 0 or not 0 <= b <= 1:
            raise RequestError(f"BM25 k1 is {k1} and b is {b}; expected k1 >= 0 and b from 0 to 1")
        dropped = stop_words_of(language) if stop_words is None else stop_words
        vocabulary = Vocabulary(split_identifiers=split_identifiers, stop_words=dropped, stemmer=language)
        terms = numbered(vocabulary.ids(text, grow=True) for text in track(texts, "BM25 terms", "texts"))
        if not vocabulary.numbers:
            raise RequestError(f"BM25: none of {len(texts)} texts holds a word of two letters; check the corpus")
        count, size = quantity(len(terms), "documents"), quantity(len(vocabulary.numbers), "terms")
        logger.info("BM25 weights of %s, %s", count, size)
        weights_NV = bm25_weights(terms, len(vocabulary.numbers), k1, b)
        return cls(weights_NV, vocabulary, k1, b, len(terms.values_T) / len(terms))

    @property
    def count(self) -> int:
        """Number of documents N."""
        return int(self.weights_NV.shape[0])

    @cached_property
    def _postings_NV(self) -> csc_matrix:
        return self.weights_NV.tocsc()

    @cached_property
    def idf_V(self) -> NDArray[np.float64]:
        """Each term's idf."""
        df_V = np.diff(self._postings_NV.indptr)
        return np.asarray(np.log1p((self.count - df_V + 0.5) / (df_V + 0.5)))

    def reach(self, query_texts: Sequence[str]) -> Scores:
        """The score that no document can exceed, reach_Q: the sum of the query's idf, since a term's frequency in a
        document saturates at 1 (see the class).

        A word that no document holds counts with the largest idf: what nobody wrote about is rare. A query of stop
        words has the reach 0.
        """
        return np.asarray(self._summed_idf(query_texts, 1), dtype=np.float32)

    def norm(self, query_texts: Sequence[str]) -> Scores:
        """The length of each query's vector of idf, norm_Q: like `reach`, but squares of idf are added up, and the root
        is taken.

        Scores over it can be compared from query to query. Over `reach`, a long query's could hardly be evidence: few
        documents hold most of its words. By themselves they grow with every word, as evidence does only if words are
        independent of each other. The root lies between.
        """
        return np.asarray(np.sqrt(self._summed_idf(query_texts, 2)), dtype=np.float32)

    def _summed_idf(self, query_texts: Sequence[str], power: int) -> NDArray[np.float64]:
        unknown_Q = np.fromiter(map(self.vocabulary.unknown, query_texts), np.float64, len(query_texts))
        known_Q = self._counts(query_texts) @ self.idf_V**power
        return np.asarray(known_Q + float(self.idf_V.max()) ** power * unknown_Q)

    def coverage(self, query_texts: Sequence[str], document_rows: NDArray[np.int64] | Sequence[int]) -> Scores:
        """coverage_QM, from 0 to 1: scores as shares of what each query can reach. Unlike scores, they can be compared
        from query to query: 0 means no shared term, near 1 a document that is full of every word of the query."""
        return coverage(self.scores(query_texts, document_rows), self.reach(query_texts))

    def coverage_of(self, query_texts: Sequence[str], rows_Qk: NDArray[np.int64]) -> Scores:
        """coverage_Qk of each query by its own documents, those of a search; 0 for padding."""
        counts_QV, (queries, k) = self._counts(query_texts), rows_Qk.shape
        scores_Qk = np.zeros((queries, k), dtype=np.float32)
        for position in range(k):  # a document of every query at a time
            documents_QV = self.weights_NV[np.maximum(rows_Qk[:, position], 0)]
            scores_Qk[:, position] = np.asarray(counts_QV.multiply(documents_QV).sum(axis=1)).ravel()
        return np.where(rows_Qk == PADDING_ROW, 0.0, coverage(scores_Qk, self.reach(query_texts))).astype(np.float32)

    def best_coverage(self, query_texts: Sequence[str]) -> Scores:
        """The highest coverage that any document has of each query, best_Q; 0 if none shares a word."""
        best_Q = np.maximum(self.search(query_texts, 1).scores_Qk, 0.0)
        return np.asarray(coverage(best_Q, self.reach(query_texts))[:, 0], dtype=np.float32)

    def prepare(self, query_texts: Sequence[str]) -> PreparedQueries:
        """Number the queries' terms once, for repeated scoring."""
        return PreparedQueries(self, self._counts(query_texts))

    def scores(self, query_texts: Sequence[str], document_rows: NDArray[np.int64] | Sequence[int]) -> Scores:
        """scores_QM of every query for every chosen document row (any order, repeats allowed)."""
        return self.prepare(query_texts).scores(range(len(query_texts)), document_rows)

    def score_outside(self, query_texts: Sequence[str], texts: Sequence[str]) -> Scores:
        """The score of each query for the text beside it, scores_Q, as if the text were a document of this corpus.

        The corpus' term and length statistics stay as they are.
        """
        idf_V = self.idf_V
        scores = np.zeros(len(texts), dtype=np.float32)
        for position, (query, text) in enumerate(zip(query_texts, texts, strict=True)):
            terms, counts = np.unique(np.asarray(self.vocabulary.ids(text), dtype=np.int64), return_counts=True)
            pull = self.k1 * (1 - self.b + self.b * counts.sum() / self.mean_length)
            weight = dict(zip(terms.tolist(), (idf_V[terms] * counts / (counts + pull)).tolist(), strict=True))
            scores[position] = sum(weight.get(term, 0.0) for term in self.vocabulary.ids(query))
        return scores

    def search(self, query_texts: Sequence[str], k: int) -> Hits:
        """The best k documents of each query that share a term with it; equal scores are ordered by row."""
        return self.prepare(query_texts).search(k)

    def _counts(self, query_texts: Sequence[str]) -> csr_matrix:
        return term_counts(self.vocabulary, query_texts)

    def save(self, folder: str | Path) -> None:
        """Write lexical.json (settings and vocabulary) and three npy files of the sparse weights into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        for name in ARRAYS:
            np.save(folder / f"weights_{name}.npy", getattr(self.weights_NV, name), allow_pickle=False)
        card = LexicalCard(
            k1=self.k1, b=self.b, count=self.count, stemmer=self.vocabulary.stemmer,
            split_identifiers=self.vocabulary.split_identifiers, stop_words=sorted(self.vocabulary.stop_words),
            terms=list(self.vocabulary.numbers), mean_length=self.mean_length,
        )  # fmt: skip
        (folder / CARD_FILE).write_text(json.dumps(asdict(card)), encoding="utf8")

    @classmethod
    def load(cls, folder: str | Path) -> LexicalIndex:
        """Read what `save` wrote. Raises DamagedArtifact if a file is missing or does not fit the others."""
        from scipy.sparse import csr_matrix

        folder = Path(folder)
        try:
            card = read_as(folder / CARD_FILE, LexicalCard)
            arrays = [np.load(folder / f"weights_{name}.npy", allow_pickle=False) for name in ARRAYS]
            weights_NV = csr_matrix(tuple(arrays), shape=(card.count, len(card.terms)))
            weights_NV.check_format(full_check=True)
            vocabulary = Vocabulary(
                split_identifiers=card.split_identifiers,
                stop_words=frozenset(card.stop_words),
                stemmer=card.stemmer,
                numbers={term: number for number, term in enumerate(card.terms)},
            )
            return cls(weights_NV, vocabulary, card.k1, card.b, card.mean_length)
        except (OSError, ValueError, TypeError, DamagedArtifact) as error:
            raise DamagedArtifact(f"{folder} holds no readable BM25 index ({error}); build it again") from error


@dataclass(frozen=True)
class PreparedQueries:
    """Queries whose terms are numbered (`counts_QV`), ready to be scored against any documents of `index`."""

    index: LexicalIndex
    counts_QV: csr_matrix

    def __len__(self) -> int:
        return int(self.counts_QV.shape[0])

    def scores(
        self, query_positions: NDArray[np.int64] | Sequence[int], document_rows: NDArray[np.int64] | Sequence[int]
    ) -> Scores:
        """scores_QM float32 of the queries at `query_positions` for the documents at `document_rows`."""
        counts = self.counts_QV[np.asarray(query_positions, dtype=np.int64)]
        weights_MV = self.index.weights_NV[np.asarray(document_rows, dtype=np.int64)]
        scores: Scores = (weights_MV @ counts.T.tocsr()).toarray().T
        return np.ascontiguousarray(scores)

    def search(self, k: int) -> Hits:
        """See `LexicalIndex.search`. Raises RequestError for k below 1."""
        if k < 1:
            raise RequestError(f"k is {k}; expected at least 1")
        hits = empty_hits(len(self), k)
        step = max(1, CHUNK_ENTRIES // max(self.index.count, 1))
        for start in range(0, len(self), step):
            products = self.counts_QV[start : start + step] @ self.index._postings_NV.T
            for position in range(products.shape[0]):
                entries = slice(products.indptr[position], products.indptr[position + 1])
                rows, scores = best_of(products.indices[entries].astype(np.int64), products.data[entries], k)
                hits.rows_Qk[start + position, : len(rows)] = rows
                hits.scores_Qk[start + position, : len(rows)] = scores
        return hits


def term_counts(vocabulary: Vocabulary, texts: Sequence[str]) -> csr_matrix:
    """How often each text holds each known term, counts_QV float32."""
    from scipy.sparse import csr_matrix

    ids = [vocabulary.ids(text) for text in texts]
    indptr = np.cumsum([0, *map(len, ids)])
    indices = np.fromiter((number for text in ids for number in text), np.int32, int(indptr[-1]))
    ones = np.ones(len(indices), np.float32)
    counts = csr_matrix((ones, indices, indptr), shape=(len(ids), len(vocabulary.numbers)))
    counts.sum_duplicates()
    return counts


def coverage(scores_Qk: Scores, reach_Q: Scores) -> Scores:
    """BM25 scores as shares of what the queries can reach, 0 to 1; 0 where a query can reach nothing.

    Works for hits too: a place without one (-inf) stays so.
    """
    return np.asarray(scores_Qk / np.where(reach_Q > 0, reach_Q, 1.0)[:, None], dtype=np.float32)


def stop_words_of(language: str) -> frozenset[str]:
    """The words that BM25 leaves out; for `none`, and languages without a list, none."""
    if language == ENGLISH:
        return STOP_WORDS
    if language not in LISTED_STOP_WORDS:
        return frozenset()
    lists = import_module("bm25s.stopwords")
    return frozenset(folded(word) for word in getattr(lists, f"STOPWORDS_{language.upper()}"))
