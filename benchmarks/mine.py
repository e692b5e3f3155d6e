"""Hard negatives from given embeddings: ours against `mine_hard_negatives`, exact and through FAISS.

Legend: Q queries, N documents, D dims.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.inputs import Asked
from benchmarks.passages import passages
from benchmarks.record import Record, compared
from benchmarks.sides import Side, Work
from benchmarks.text_like_vectors import write_vectors
from sdretrieval.indexes import exact_search
from sdretrieval.mining.mine import duplicate_groups, mine

ROUNDS = 3
QUERIES, DOCUMENTS, DIMS = 2_000, 200_000, 384
DEPTH, NEGATIVES = 100, 15
"""Documents looked at a query, and negatives kept of them, the best ranked."""


def prepare(folder: Path, asked: Asked) -> None:
    """Vectors that look like embeddings; each query's best document is its positive."""
    drawn = write_vectors(folder, asked.count(DOCUMENTS), DIMS, asked.count(QUERIES), asked.seed)
    for name, vectors in zip(("documents", "queries"), drawn, strict=True):
        np.save(folder / f"{name}.npy", vectors)
    best = exact_search(drawn[0], drawn[1], DEPTH)
    np.save(folder / "truth.npy", best.rows_Qk)
    texts = passages(asked.count(DOCUMENTS))
    (folder / "texts.txt").write_text("\n".join(texts), encoding="utf8")


def _texts(folder: Path) -> tuple[list[str], list[str]]:
    """Documents, and queries: what they say is of no importance here."""
    documents = (folder / "texts.txt").read_text(encoding="utf8").split("\n")
    return documents, [f"query {q}" for q in range(len(np.load(folder / "queries.npy", mmap_mode="r")))]


class _Known:
    """A model whose vectors are there already: `mine_hard_negatives` asks it for them."""

    device = "cpu"

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def encode_document(self, texts: Any, **others: Any) -> Any:
        return np.load(self._folder / "documents.npy")

    def encode_query(self, texts: Any, **others: Any) -> Any:
        return np.load(self._folder / "queries.npy")

    def get_embedding_dimension(self) -> int:
        return DIMS

    def similarity(self, one: Any, other: Any) -> Any:
        from sentence_transformers.util import dot_score

        return dot_score(one, other)

    def similarity_pairwise(self, one: Any, other: Any) -> Any:
        from sentence_transformers.util import pairwise_dot_score

        return pairwise_dot_score(one, other)


def peer(*, use_faiss: bool) -> Callable[[Path], Work]:
    """`mine_hard_negatives`, as its documentation shows."""

    def side(folder: Path) -> Work:
        from datasets import Dataset
        from sentence_transformers.util import mine_hard_negatives

        documents, queries = _texts(folder)
        row_of = {text: row for row, text in enumerate(documents)}
        truth = np.load(folder / "truth.npy")
        pairs = Dataset.from_dict({"query": queries, "positive": [documents[row] for row in truth[:, 0]]})

        def work() -> Any:
            model: Any = _Known(folder)
            found = mine_hard_negatives(
                pairs, model, corpus=documents, range_max=DEPTH, num_negatives=NEGATIVES, sampling_strategy="top",
                output_format="n-tuple", use_faiss=use_faiss, verbose=False,
            )  # fmt: skip
            table = found.to_dict()
            columns = [table[f"negative_{n}"] for n in range(1, NEGATIVES + 1)]
            return [[row_of[text] for text in texts] for texts in zip(*columns, strict=True)]

        return work

    return side


def ours(folder: Path) -> Work:
    """`exact_search` and `mine`, known positives in front; the vectors are memory-mapped, as a run's are."""
    documents, _ = _texts(folder)
    truth = np.load(folder / "truth.npy")

    def work() -> Any:
        vectors_ND, queries_QD = np.load(folder / "documents.npy", mmap_mode="r"), np.load(folder / "queries.npy")
        hits = exact_search(vectors_ND, queries_QD, DEPTH)
        candidates, _ = mine(
            range(len(queries_QD)), hits, None, [[int(row)] for row in truth[:, 0]],
            lambda q, rows: np.asarray(vectors_ND[rows]) @ queries_QD[q],
            depth=DEPTH, keep=NEGATIVES + 1, top_share=1.0, duplicate_group_N=duplicate_groups(documents),
            own_document_Q=np.full(len(queries_QD), -1), seed=0,
        )  # fmt: skip
        return [rows[1:].tolist() for rows in candidates.rows]

    return work


def product(folder: Path) -> Work:
    """The scores alone, by torch, in blocks: what both must compute, and no search can be faster than."""
    import torch

    documents_ND = torch.from_numpy(np.load(folder / "documents.npy"))
    queries_QD = torch.from_numpy(np.load(folder / "queries.npy"))

    def work() -> None:
        for block_BD in documents_ND.split(8192):
            queries_QD @ block_BD.T

    return work


SIDES: dict[str, Callable[[Path], Work]] = {
    "mine_hard_negatives": peer(use_faiss=False),
    "mine_hard_negatives, FAISS": peer(use_faiss=True),
    "ours": ours,
    "product": product,
}


def report(sides: Mapping[str, Side], asked: Asked) -> Record:
    """Ratios and the overlap of the kept candidates."""
    own = sides["ours"]
    rows = []
    for name in ("mine_hard_negatives", "mine_hard_negatives, FAISS"):
        pairs = zip(own.result, sides[name].result, strict=True)
        shared = float(np.mean([len(set(one) & set(other)) / len(other) for one, other in pairs]))
        rows.append(compared(f"against {name}", own, sides[name], 5.0, f"candidates shared {shared:.5f}"))
    sizes = f"{asked.count(QUERIES):,} queries, {asked.count(DOCUMENTS):,} documents of {DIMS} dims"
    return Record("mine", f"{sizes}, the best {NEGATIVES} negatives of {DEPTH}", rows, [_limit(sides)], sides)


def _limit(sides: Mapping[str, Side]) -> str:
    own, theirs, least = (np.median(sides[name].seconds) for name in ("ours", "mine_hard_negatives", "product"))
    return (
        f"The matrix product alone takes {100 * least / own:.0f} % of our time: whoever took no more than that would "
        f"be {theirs / least:.1f} times as fast as mine_hard_negatives, the most there is while scores are exact."
    )
