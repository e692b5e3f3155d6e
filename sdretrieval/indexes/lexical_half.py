"""The lexical half of a vector: a text in the corpus' own term space, in a few hundred dims.

A vector [transformer's dims, lexical half] has the inner product cosine + evidence, where evidence is what is left of
BM25 in so few dims: one index searches both, and no BM25 engine is needed beside it.

Legend: Q queries, N documents, V terms, D dims of the half.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sdretrieval.encode.model_files import HALF
from sdretrieval.encode.student import Student
from sdretrieval.errors import DamagedArtifact
from sdretrieval.files import read_as
from sdretrieval.indexes.bm25 import numbered, weights_outside
from sdretrieval.indexes.lexical import LexicalIndex, term_counts
from sdretrieval.indexes.terms import Vocabulary

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

CARD, ARRAYS = "lexical_half.json", "lexical_half.safetensors"
FITTED_ON = 20_000
"""Most documents that the directions are fitted on, evenly spaced in the corpus."""

Matrix = NDArray[np.float32]


@dataclass(frozen=True)
class HalfCard:
    """lexical_half.json: how texts become terms and weights; `terms` in the order of the arrays' rows.

    `scale`: what a document's half is multiplied by, in cosines for BM25's evidence of 1.
    """

    k1: float
    b: float
    mean_length: float
    scale: float
    stemmer: str
    split_identifiers: bool
    stop_words: list[str]
    terms: list[str]


@dataclass(frozen=True)
class LexicalHalf:
    """Maps texts into D dims so that query . document is about `scale` x BM25 / norm of the query's idf.

    BM25's score is a product of a document's term frequencies that saturate, X (N x V), and the idf of a query's terms.
    P are the first D right singular vectors of X [Deerwester 1990]: a document's half is `scale` X P, a query's is its
    counts times idf, mapped by P, over norm(q), the length of its vector of idf. With as many dims as terms the product
    is `scale` BM25 / norm(q). With few, terms that only few documents hold are lost first, and those that occur
    together become alike.
    """

    vocabulary: Vocabulary
    idf_V: Matrix
    directions_VD: Matrix
    k1: float
    b: float
    mean_length: float
    scale: float

    @property
    def dims(self) -> int:
        """D."""
        return int(self.directions_VD.shape[1])

    @classmethod
    def fit(cls, index: LexicalIndex, dims: int, scale: float, seed: int = 0) -> LexicalHalf:
        """The half of a corpus by its BM25 weights. Dims that a small corpus cannot fill stay 0."""
        from scipy.sparse import diags

        idf_V = index.idf_V.astype(np.float32)
        rows = np.unique(np.linspace(0, index.count - 1, min(index.count, FITTED_ON)).astype(np.int64))
        found_VK = right_directions((index.weights_NV[rows] @ diags(1 / idf_V)).tocsr(), dims, seed)
        directions_VD = np.pad(found_VK, ((0, 0), (0, dims - found_VK.shape[1])))
        return cls(index.vocabulary, idf_V, directions_VD, index.k1, index.b, index.mean_length, scale)

    def queries(self, texts: Sequence[str]) -> Matrix:
        """Halves of queries, float32 (Q, D); 0 for a query without a known term."""
        from scipy.sparse import diags

        counts_QV = term_counts(self.vocabulary, texts)
        unknown_Q = np.fromiter(map(self.vocabulary.unknown, texts), np.float64, len(texts))
        squares_Q = counts_QV @ self.idf_V.astype(np.float64) ** 2 + float(self.idf_V.max()) ** 2 * unknown_Q
        halves_QD = counts_QV @ diags(self.idf_V) @ self.directions_VD  # from the left: all but a few terms are 0
        return np.asarray(halves_QD / np.sqrt(np.maximum(squares_Q, 1e-12))[:, None], dtype=np.float32)

    def documents(self, texts: Sequence[str]) -> Matrix:
        """Halves of documents, float32 (N, D), in the corpus' own idf and mean length."""
        terms = numbered(self.vocabulary.ids(text) for text in texts)
        return self.of_weights(weights_outside(terms, self.idf_V, self.k1, self.b, self.mean_length))

    def of_weights(self, weights_NV: csr_matrix) -> Matrix:
        """Halves of documents whose BM25 weights are known."""
        from scipy.sparse import diags

        return np.asarray(weights_NV @ diags(self.scale / self.idf_V) @ self.directions_VD, dtype=np.float32)

    def save(self, folder: Path) -> None:
        """Write its card and its arrays into `folder`."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        words = self.vocabulary
        card = HalfCard(
            self.k1, self.b, self.mean_length, self.scale, words.stemmer, words.split_identifiers,
            sorted(words.stop_words), list(words.numbers),
        )  # fmt: skip
        save_file({"idf": self.idf_V, "directions": np.ascontiguousarray(self.directions_VD)}, folder / ARRAYS)
        (folder / CARD).write_text(json.dumps(asdict(card)), encoding="utf8")

    @classmethod
    def load(cls, folder: Path) -> LexicalHalf:
        """Read what `save` wrote. Raises DamagedArtifact if a file is missing or does not fit the other."""
        from safetensors import SafetensorError
        from safetensors.numpy import load_file

        try:
            card, arrays = read_as(folder / CARD, HalfCard), load_file(folder / ARRAYS)
            idf_V, directions_VD = arrays["idf"], arrays["directions"]
            if not len(card.terms) == len(idf_V) == len(directions_VD):
                raise ValueError(f"{len(card.terms)} terms, {len(idf_V)} idf, {len(directions_VD)} directions")
        except (OSError, ValueError, TypeError, KeyError, SafetensorError, DamagedArtifact) as problem:
            raise DamagedArtifact(f"{folder} holds no readable lexical half ({problem}); make it again") from problem
        numbers = {term: number for number, term in enumerate(card.terms)}
        words = Vocabulary(card.split_identifiers, frozenset(card.stop_words), card.stemmer, numbers)
        return cls(words, idf_V, directions_VD, card.k1, card.b, card.mean_length, card.scale)


def right_directions(weights_NV: csr_matrix, most: int, seed: int) -> Matrix:
    """The first right singular vectors of a sparse matrix, (V, at most `most`), largest first."""
    from scipy.sparse.linalg import svds

    least = min(weights_NV.shape)
    if most >= least:  # of a small corpus all, which `svds` does not give
        _, _, right_KV = np.linalg.svd(weights_NV.toarray(), full_matrices=False)
        return np.asarray(right_KV.T, dtype=np.float32)
    start = np.random.default_rng(seed).normal(size=least)
    _, values, right_KV = svds(weights_NV, most, v0=start, return_singular_vectors="vh")  # type: ignore[arg-type]
    return np.asarray(right_KV[np.argsort(-values)].T, dtype=np.float32)


def half_of(folder: Path) -> LexicalHalf | None:
    """The lexical half of the student in `folder`; None if it has none."""
    return LexicalHalf.load(folder / HALF) if (folder / HALF).is_dir() else None


def with_half(student: Student, folder: Path) -> Student:
    """The student loaded from `folder` with its lexical half, if it has one there."""
    return replace(student, half=half_of(folder))
