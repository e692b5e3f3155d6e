"""Scores that were made elsewhere as a teacher: it knows the pairs of its file and no others.

Legend: Q queries, T candidates of all lists, P pairs of the file, N documents of the corpus.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal
from urllib.parse import unquote

import numpy as np

from sdretrieval.errors import MissingScores
from sdretrieval.formatting import text_of_cell
from sdretrieval.ragged import Array, Ragged
from sdretrieval.targets.calibrate import per_entry
from sdretrieval.teachers.pairs import decoded_id
from sdretrieval.teachers.score_file import ScoreTable

Missing = Literal["error", "lowest", "skip"]
SHOWN = 3
"""Ids or pairs that a message names."""


class ImportedTeacher:
    """Not free: it scores lists, never a whole batch. `missing` says what becomes of a pair that the file lacks:

    `error`: MissingScores. `lowest`: it ranks one step (the query's mean gap between neighbours) below all scores of
    its query. `skip`: the same number stands for it, but it leaves the list's soft target (`unknown`).
    """

    asymmetry = "scores made elsewhere: whatever their model reads or computes"

    def __init__(
        self,
        table: ScoreTable,
        *,
        name: str,
        query_ids: Sequence[str],
        document_ids: Sequence[str],
        missing: Missing = "error",
    ) -> None:
        self.name, self.missing = name, missing
        self._table, self._query_ids, self._document_ids = table, query_ids, document_ids
        queries_P = _rows(table.query_ids, query_ids)[table.query_P]
        documents_P = _rows(table.document_ids, document_ids)[table.document_P]
        known_P = (queries_P >= 0) & (documents_P >= 0)
        keys_P = queries_P[known_P] * len(document_ids) + documents_P[known_P]
        order_P = np.argsort(keys_P)
        self._keys_P, self._scores_P = keys_P[order_P], table.score_P[known_P][order_P]
        self._query_P = self._keys_P // max(len(document_ids), 1)
        self.unknown_ids = _unknown_ids(table, queries_P, documents_P)

    def score(self, query_rows_Q: Array, candidates: Ragged) -> Ragged:
        """See Teacher.score. Raises MissingScores, with the pairs, if `missing` allows none."""
        scores_T, lacking = self._look_up(query_rows_Q, candidates)
        if not lacking.values_T.any():
            return candidates.with_values(scores_T)
        if self.missing == "error":
            raise self._missing(lacking, query_rows_Q, candidates, "")
        if self.missing == "lowest" and len(empty := _empty(lacking)):
            # Alike for all of a list, "lowest" would teach that its documents are equally good.
            raise self._missing(
                lacking, query_rows_Q, candidates,
                f" Of {len(empty):,} lists no document has a score, so that none is the lowest: score them, or set "
                "missing: skip, which leaves such lists out.",
            )  # fmt: skip
        fill_T = per_entry(self._below(query_rows_Q), candidates)
        return candidates.with_values(np.where(lacking.values_T, fill_T, scores_T).astype(np.float32))

    def unknown(self, query_rows_Q: Array, candidates: Ragged) -> Ragged | None:
        """See PartialTeacher.unknown."""
        if self.missing != "skip":
            return None
        return self.lacking(query_rows_Q, candidates)

    def lacking(self, query_rows_Q: Array, candidates: Ragged) -> Ragged:
        """bool: the candidates that the file has no score of."""
        return self._look_up(query_rows_Q, candidates)[1]

    def missing_pairs(self, query_rows_Q: Array, candidates: Ragged) -> list[tuple[str, str]]:
        """(query id, document id) of what is lacking, in the lists' order."""
        return list(self._pairs(self.lacking(query_rows_Q, candidates), query_rows_Q, candidates))

    def require_some(self, query_rows_Q: Array, candidates: Ragged) -> None:
        """Raise MissingScores if a whole list has no score: a ranking of it would say nothing of this teacher."""
        lacking = self.lacking(query_rows_Q, candidates)
        if len(empty := _empty(lacking)):
            message = f" Of {len(empty):,} queries no document has a score, so that they cannot be ranked."
            raise self._missing(lacking, query_rows_Q, candidates, message)

    def _look_up(self, query_rows_Q: Array, candidates: Ragged) -> tuple[Array, Ragged]:
        queries_T = np.asarray(query_rows_Q)[candidates.list_of_entry]
        keys_T = queries_T * len(self._document_ids) + candidates.values_T
        if not len(self._keys_P):
            return np.zeros(len(keys_T), np.float32), candidates.with_values(np.ones(len(keys_T), dtype=np.bool_))
        at_T = np.minimum(np.searchsorted(self._keys_P, keys_T), len(self._keys_P) - 1)
        return self._scores_P[at_T], candidates.with_values(self._keys_P[at_T] != keys_T)

    def _below(self, query_rows_Q: Array) -> Array:
        """For each query its lowest score in the file less its mean gap, float64 (Q,); 0 without any score."""
        spread = float(self._scores_P.astype(np.float64).std()) or 1.0  # the step if a query's own scores have none
        below_Q = np.zeros(len(query_rows_Q))
        for position, row in enumerate(query_rows_Q):
            start, end = np.searchsorted(self._query_P, [row, row + 1])
            if end > start:
                own = self._scores_P[start:end].astype(np.float64)
                gap = (own.max() - own.min()) / max(len(own) - 1, 1)
                below_Q[position] = own.min() - (gap or spread)
        return below_Q

    def _pairs(self, lacking: Ragged, query_rows_Q: Array, candidates: Ragged) -> Iterator[tuple[str, str]]:
        lists_T = candidates.list_of_entry
        for entry in np.flatnonzero(lacking.values_T):
            yield self._query_ids[int(query_rows_Q[lists_T[entry]])], self._document_ids[candidates.values_T[entry]]

    def _missing(self, lacking: Ragged, query_rows_Q: Array, candidates: Ragged, more: str) -> MissingScores:
        pairs = list(self._pairs(lacking, query_rows_Q, candidates))
        shown = ", ".join(f"({query}, {document})" for query, document in pairs[:SHOWN])
        return MissingScores(
            f"teacher {self.name}: {self._table.source} lacks {len(pairs):,} of {len(lacking.values_T):,} pairs "
            f"({len(pairs) / len(lacking.values_T):.1%}), the first of query and document: {shown}.{more}"
            + (f" {self.unknown_ids[0].upper()}{self.unknown_ids[1:]}." if self.unknown_ids else ""),
            pairs,
        )


def _rows(ids: Sequence[str], known: Sequence[str]) -> Array:
    """Row in `known` of each of `ids`, -1 if it is not there.

    Our own runs and tables encode what their formats cannot hold, and others write %20 and mean it: an id is looked for
    as it is, as our tables write it, without blanks around it, and decoded, first in the way that finds most of the
    file's ids.
    """
    ways = (str, lambda cell: decoded_id(text_of_cell(cell)), str.strip, unquote)
    spellings = [[*map(way, ids)] for way in ways]
    wanted = {spelling for of_all in spellings for spelling in of_all}
    row_of = {identifier: row for row, identifier in enumerate(known) if identifier in wanted}
    spellings.sort(key=lambda of_all: -sum(identifier in row_of for identifier in of_all))
    rows = (next((row_of[one] for one in of_one if one in row_of), -1) for of_one in zip(*spellings, strict=True))
    return np.fromiter(rows, dtype=np.int64, count=len(ids))


def _empty(lacking: Ragged) -> Array:
    """Positions of the lists of which every entry is lacking."""
    return np.asarray([q for q, mask in enumerate(lacking) if len(mask) and mask.all()], dtype=np.int64)


def _unknown_ids(table: ScoreTable, queries_P: Array, documents_P: Array) -> str:
    """Ids of the file that the corpus lacks, counted and named; empty if it has them all."""
    parts = []
    for what, ids, codes_P, rows_P in (
        ("query", table.query_ids, table.query_P, queries_P),
        ("document", table.document_ids, table.document_P, documents_P),
    ):
        unknown = np.unique(codes_P[rows_P < 0])
        if len(unknown):
            named = ", ".join(repr(ids[int(code)]) for code in unknown[:SHOWN])
            parts.append(f"{len(unknown):,} of its {len(ids):,} {what} ids are not in the corpus ({named})")
    return " and ".join(parts)
