"""Canaries: a few texts with the vectors and hits they had at export. Whoever gets others does not have this bundle.

Legend: C canaries of one side, D dims, k hits a query.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sdretrieval.errors import DamagedArtifact
from sdretrieval.export.encoders import TextEncoder
from sdretrieval.export.layout import CANARIES, Agreement
from sdretrieval.indexes.hits import PADDING_ROW
from sdretrieval.indexes.vector import VectorIndex
from sdretrieval.ragged import Array

COUNT = 8
"""Queries, and as many documents."""
TOP = 10
SAME_SCORE = 1e-3
"""Scores this near are the same: another machine adds in another order. Hits may change place within it."""


@dataclass(frozen=True)
class Canaries:
    """Texts of both sides, their vectors at export (float32), and each query's best documents."""

    queries: Sequence[str]
    documents: Sequence[str]
    queries_CD: Array
    documents_CD: Array
    top_ids: Sequence[Sequence[str]]
    top_scores: Sequence[Sequence[float]]

    def record(self) -> dict[str, Any]:
        """What bundle.json holds: all but the vectors."""
        names = ("queries", "documents", "top_ids", "top_scores")
        return {"k": TOP, **{name: list(getattr(self, name)) for name in names}}

    def save_vectors(self, folder: Path) -> None:
        """Write canaries.safetensors: queries and documents, float32 (C, D)."""
        from safetensors.numpy import save_file

        save_file({"queries": self.queries_CD, "documents": self.documents_CD}, folder / CANARIES)


def spread(items: Sequence[str], count: int = COUNT) -> list[int]:
    """Up to `count` positions, evenly over `items`, no text twice and none empty."""
    kept = list({item: n for n, item in reversed(list(enumerate(items))) if item.strip()}.values())
    kept.sort()
    if len(kept) <= count:
        return kept
    return [kept[round(position)] for position in np.linspace(0, len(kept) - 1, count)]


def make_canaries(
    encoder: TextEncoder, queries: Sequence[str], documents: Sequence[str], index: VectorIndex, ids: Sequence[str]
) -> Canaries:
    """Encode both sides and search the queries."""
    queries_CD, documents_CD = encoder.queries(queries), encoder.documents(documents)
    top_ids, top_scores = top_hits(index, queries_CD, ids)
    return Canaries(list(queries), list(documents), queries_CD, documents_CD, top_ids, top_scores)


def read_canaries(folder: Path, record: Mapping[str, Any]) -> Canaries:
    """Texts and hits from bundle.json's record, vectors from `folder`. Raises DamagedArtifact where they do not fit."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        vectors = load_file(folder / CANARIES)
        names = ("queries", "documents", "top_ids", "top_scores")
        texts = {name: record[name] for name in names}
        found = Canaries(**texts, queries_CD=vectors["queries"], documents_CD=vectors["documents"])
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise DamagedArtifact(f"{folder / CANARIES} cannot be read ({error!r}); export the run again") from error
    counts = (len(found.queries_CD), len(found.documents_CD), len(found.top_ids), len(found.top_scores))
    if counts != (len(found.queries), len(found.documents), len(found.queries), len(found.queries)):
        raise DamagedArtifact(f"{folder / CANARIES} does not fit the canary texts in bundle.json; export the run again")
    return found


def top_hits(index: VectorIndex, queries_CD: Array, ids: Sequence[str]) -> tuple[list[list[str]], list[list[float]]]:
    """Ids and scores of each query's best `TOP` documents."""
    hits = index.search(queries_CD, TOP)
    kept = [(rows[rows != PADDING_ROW], scores) for rows, scores in zip(hits.rows_Qk, hits.scores_Qk, strict=True)]
    return (
        [[ids[row] for row in rows] for rows, _ in kept],
        [[round(float(score), 6) for score in scores[: len(rows)]] for rows, scores in kept],
    )


def agreement(
    canaries: Canaries, encoder: TextEncoder, index: VectorIndex, ids: Sequence[str], exact: bool
) -> Agreement:
    """How near `encoder` comes to the canaries; `exact`: a hit must come with its score as well."""
    queries_CD = encoder.queries(canaries.queries)
    lowest = min(
        nearness(canaries.queries_CD, queries_CD).min(),
        nearness(canaries.documents_CD, encoder.documents(canaries.documents)).min(),
    )
    found_ids, found_scores = top_hits(index, queries_CD, ids)
    shares = [
        _shared(
            dict(zip(canaries.top_ids[n], canaries.top_scores[n], strict=True)), found_ids[n], found_scores[n], exact
        )
        for n in range(len(canaries.queries))
    ]
    return Agreement(round(float(lowest), 6), round(float(np.mean(shares)), 4))


def nearness(a_CD: Array, b_CD: Array) -> Array:
    """Cosine of each pair of rows, times the shorter length over the longer: 1 means the same vector. 0 where NaN."""
    a_CD, b_CD = a_CD.astype(np.float64), b_CD.astype(np.float64)
    longest = np.maximum((a_CD**2).sum(axis=1), (b_CD**2).sum(axis=1))
    return np.asarray(np.nan_to_num((a_CD * b_CD).sum(axis=1) / np.maximum(longest, 1e-12)))


def _shared(expected: Mapping[str, float], ids: Sequence[str], scores: Sequence[float], exact: bool) -> float:
    """Share of the expected hits found. With `exact`, a newcomer that ties with the last place counts as well."""
    if len(ids) != len(expected):
        return 0.0
    if not exact:
        return len(set(ids) & set(expected)) / max(len(expected), 1)
    last = min(expected.values(), default=0.0)
    same = [
        abs(score - expected.get(identifier, last)) <= SAME_SCORE for identifier, score in zip(ids, scores, strict=True)
    ]
    return sum(same) / max(len(expected), 1)
