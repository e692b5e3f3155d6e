"""Stage 0/lexical_half, the words' half of every vector, and N/encode:half, a student's vectors joined with it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from sdretrieval.config import identity_fields
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.indexes import exact_search
from sdretrieval.indexes.lexical_half import LexicalHalf
from sdretrieval.ragged import Array
from sdretrieval.stages.collection import Collection
from sdretrieval.stages.encode import Vectors
from sdretrieval.stages.lexical import Lexical
from sdretrieval.stages.run import Run
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact

UNIT_QUERIES, UNIT_HITS = 200, 100
"""On whose best scores the student's unit is measured."""
ROWS = 8192
"""Joined at once."""


class Half(Artifact):
    """The fitted half, and the halves of the corpus' texts, memory-mapped."""

    @cached_property
    def fitted(self) -> LexicalHalf:
        """Opened."""
        return LexicalHalf.load(self.path / "fitted")

    @cached_property
    def queries_QD(self) -> Array:
        """By query row."""
        rows: Array = np.load(self.path / "queries.npy", mmap_mode="r")
        return rows

    @cached_property
    def documents_ND(self) -> Array:
        """By document row."""
        rows: Array = np.load(self.path / "documents.npy", mmap_mode="r")
        return rows

    @cached_property
    def query_removed_PD(self) -> Array:
        """By position in `Collection.query_removed`: of documents without the query that was made from them."""
        rows: Array = np.load(self.path / "query_removed.npy", mmap_mode="r")
        return rows

    def side(self, name: str) -> Array:
        """By the name of a folder of `Vectors`."""
        return {"queries": self.queries_QD, "documents": self.documents_ND}.get(name, self.query_removed_PD)


def fit_half(run: Run, collected: Collection, lexical: Lexical, vectors: Vectors) -> Half | None:
    """The half of the corpus, in the unit of the base student (its `vectors`); None if the config wants none."""
    cfg = run.config.student.lexical_half
    if cfg is None:
        return None

    def build(work: Work) -> None:
        index, corpus = lexical.index, collected.corpus
        unit = spread(vectors, collected.train_rows)
        half = LexicalHalf.fit(index, cfg.dims, cfg.strength * unit, seed=run.config.seed)
        half.save(work.folder / "fitted")
        np.save(work.folder / "queries.npy", half.queries(corpus.query_texts()))
        np.save(work.folder / "documents.npy", half.of_weights(index.weights_NV))
        removed = [one.text for one in collected.query_removed]
        np.save(
            work.folder / "query_removed.npy", half.documents(removed) if removed else np.zeros((0, cfg.dims), "f4")
        )
        work.counts.update(dims=half.dims, terms=len(half.idf_V), unit=unit)

    made = run.runner.stage("0/lexical_half", 1, identity_fields(cfg), [lexical, vectors, collected.made], build)
    return Half(made.key, made.path)


def spread(vectors: Vectors, query_rows: Array) -> float:
    """The student's unit: the mean over some training queries of the standard deviation of their best scores."""
    some = query_rows[np.unique(np.linspace(0, len(query_rows) - 1, UNIT_QUERIES).astype(np.int64))]
    windows_WD = vectors.documents.vectors_WD
    scores_Qk = exact_search(windows_WD, vectors.queries_QD[some], min(UNIT_HITS, len(windows_WD))).scores_Qk
    return float(scores_Qk.std(axis=1).mean())


def joined(run: Run, address: str, plain: Vectors, half: Half | None) -> Vectors:
    """`plain`, each vector with the half of its text behind it; the same without a half."""
    if half is None:
        return plain

    def build(work: Work) -> None:
        for side in ("documents", "queries", "query_removed"):
            if (plain.path / side).is_dir():
                (work.folder / side).mkdir()
                found = Embeddings.load(plain.path / side)
                np.save(work.folder / side / "windows.npy", found.windows)
                _join(work.folder / side / "vectors.npy", found, half.side(side))
                work.counts[side] = len(found.vectors_WD)

    made = run.runner.stage(f"{address}:half", 2, {}, [plain, half], build)
    return Vectors(made.key, made.path, without_half=plain)


def _join(path: Path, found: Embeddings, half_ND: Array) -> None:
    windows, dims = found.vectors_WD.shape
    out_WD = open_memmap(path, "w+", np.float32, (windows, dims + half_ND.shape[1]))
    text_of_W = np.repeat(np.arange(len(found.windows) - 1), np.diff(found.windows))
    for first in range(0, windows, ROWS):
        rows = slice(first, first + ROWS)
        out_WD[rows] = np.concatenate([found.vectors_WD[rows], half_ND[text_of_W[rows]]], axis=1)
    out_WD.flush()
