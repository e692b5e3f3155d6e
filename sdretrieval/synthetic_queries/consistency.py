"""Which synthetic queries find the document that they were made from: the others would teach or measure noise.

Round-trip consistency (Alberti et al., ACL 2019; Dai et al., Promptagator, ICLR 2023), judged by dense retrieval and
BM25 together, since neither alone is fair to every kind of query.

Legend: Q queries, k hits of each retriever.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.corpus.text import normalised
from sdretrieval.synthetic_queries.recipe import VERBATIM, QueryTally, SyntheticQuery

RRF_CONSTANT = 60
"""Cormack et al. 2009."""


@dataclass(frozen=True)
class Kept:
    """Ids of the queries that stay, in their order."""

    ids: tuple[str, ...]
    tally: QueryTally


def keep_consistent(
    queries: Mapping[str, SyntheticQuery],
    dense_Qk: NDArray[Any],
    lexical_Qk: NDArray[Any],
    document_text: Callable[[int], str],
    *,
    count: int,
    within: int | None,
    tally: QueryTally,
) -> Kept:
    """The first `count` queries whose source is among the best `within` documents of both retrievers' fused ranking
    (reciprocal ranks; None asks for nothing), and, if a query is in its document word for word, in no other of
    these. What is dropped is counted in `tally`.

    `dense_Qk`, `lexical_Qk`: document rows by query, best first, -1 = padding. `document_text`: a document's text,
    `normalised`.
    """
    kept: list[str] = []
    for q, (identifier, query) in enumerate(queries.items()):
        if len(kept) == count:
            break
        best = fused_rows(dense_Qk[q], lexical_Qk[q])[: within or dense_Qk.shape[1]]
        reason = ""
        if within is not None and query.document_row not in best:
            reason = f"its document is not among the best {within}"
        elif query.kind in VERBATIM:
            text = normalised(query.text)
            if any(text in document_text(row) for row in best if row != query.document_row):
                reason = "is in another document too"
        if reason:
            tally.drop(query.kind, reason, query.text)
            continue
        tally.keep(query.kind, query.text)
        kept.append(identifier)
    return Kept(tuple(kept), tally)


def fused_rows(*ranked: Sequence[int] | NDArray[Any]) -> list[int]:
    """Rows of several rankings by the sum of 1 / (60 + rank), ranks from 1, best first; -1 is padding."""
    score: dict[int, float] = {}
    for rows in ranked:
        for rank, row in enumerate(np.asarray(rows).tolist(), start=1):
            if row >= 0:
                score[row] = score.get(row, 0.0) + 1.0 / (RRF_CONSTANT + rank)
    return sorted(score, key=lambda row: (-score[row], row))
