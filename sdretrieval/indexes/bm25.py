"""BM25 weights of documents whose terms are numbered, some documents at a time.

Bit for bit what bm25s computes (method "lucene"), in an eighth of its memory: it holds a Python list a document, and
sorts all (document, term) pairs at once.

Legend: N documents, B documents of a block, T term occurrences, E entries (a document's distinct terms), V terms.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.ragged import Ragged

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

DOCUMENTS_AT_ONCE = 8192

Ints = NDArray[np.int64]


class Counted(NamedTuple):
    """How often each document of a block holds each of its terms, by document and then by term."""

    lengths_B: Ints
    document_E: Ints
    term_E: Ints
    count_E: Ints


def numbered(texts_terms: Iterable[list[int]]) -> Ragged:
    """Term numbers of each document, in two flat arrays."""
    terms, ends = array("i"), array("q", [0])
    for numbers in texts_terms:
        terms.extend(numbers)
        ends.append(len(terms))
    return Ragged(np.asarray(terms), np.asarray(ends))


def bm25_weights(terms: Ragged, vocabulary: int, k1: float, b: float) -> csr_matrix:
    """Weight of each document's each term, weights_NV float32, as `LexicalIndex` describes it."""
    holders_V = np.zeros(vocabulary, dtype=np.int64)
    sizes_N = np.zeros(len(terms), dtype=np.int64)
    for first, block in _counted(terms):
        holders_V += np.bincount(block.term_E, minlength=vocabulary)
        sizes_N[first : first + len(block.lengths_B)] = np.bincount(block.document_E, minlength=len(block.lengths_B))
    # One logarithm a document frequency; math.log, not np.log: the two may differ in the last bit.
    held, places_V = np.unique(holders_V, return_inverse=True)
    idf = [math.log(1 + (len(terms) - df + 0.5) / (df + 0.5)) for df in held.tolist()]
    idf_V, mean_length = np.asarray(idf, dtype=np.float32)[places_V], len(terms.values_T) / len(terms)
    return weights_of(terms, sizes_N, idf_V, k1, b, mean_length)


def weights_outside(terms: Ragged, idf_V: NDArray[np.float32], k1: float, b: float, mean_length: float) -> csr_matrix:
    """The weights, (N, V) float32, that texts would have as documents of a corpus with these statistics."""
    sizes = [len(np.unique(terms[n])) for n in range(len(terms))]
    return weights_of(terms, np.asarray(sizes, dtype=np.int64), idf_V, k1, b, mean_length)


def weights_of(
    terms: Ragged, sizes_N: Ints, idf_V: NDArray[np.float32], k1: float, b: float, mean_length: float
) -> csr_matrix:
    """The weights by the terms' idf; `sizes_N`: distinct terms of each document."""
    from scipy.sparse import csr_matrix

    ends = np.concatenate([[0], np.cumsum(sizes_N)])
    index_type = np.int32 if ends[-1] < 2**31 else np.int64
    indices_E, data_E = np.empty(ends[-1], dtype=index_type), np.empty(ends[-1], dtype=np.float32)
    for first, block in _counted(terms):
        entries = slice(ends[first], ends[first + len(block.lengths_B)])
        indices_E[entries] = block.term_E
        pull_B = k1 * ((1 - b) + b * block.lengths_B / mean_length)
        data_E[entries] = idf_V[block.term_E] * (block.count_E / (pull_B[block.document_E] + block.count_E))
    return csr_matrix((data_E, indices_E, ends.astype(index_type)), shape=(len(terms), len(idf_V)))


def _counted(terms: Ragged) -> Iterator[tuple[int, Counted]]:
    """(first document, block) of all documents."""
    for first in range(0, len(terms), DOCUMENTS_AT_ONCE):
        offsets = terms.offsets[first : first + DOCUMENTS_AT_ONCE + 1]
        lengths_B = np.diff(offsets)
        document_T = np.repeat(np.arange(len(lengths_B)), lengths_B)
        pairs_T = document_T << 32 | terms.values_T[offsets[0] : offsets[-1]].astype(np.int64)
        pair_E, count_E = np.unique(pairs_T, return_counts=True)
        yield first, Counted(lengths_B, pair_E >> 32, pair_E & 0xFFFFFFFF, count_E)
