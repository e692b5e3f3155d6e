"""What the teachers will score for each query: ragged lists of document rows.

Legend: Q queries, T candidates in all lists together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sdretrieval.errors import DamagedArtifact, WorkError
from sdretrieval.ragged import Ragged

TENSORS, CARD = "candidates.safetensors", "candidates.json"
FIELDS = {"rows": np.int64, "scores": np.float32, "positive": np.bool_, "dense_rank": np.int32}


@dataclass(frozen=True)
class Candidates:
    """One list of candidates a query; the four ragged fields share their offsets.

    `query_rows_Q` int64: row of each list's query in the corpus.
    `rows` int64: document rows, no document twice in a list.
    `scores` float32: the student's retrieval score of each candidate.
    `positive` bool: known positives.
    `dense_rank` int32: 0-based rank in the student's own top `depth`, -1 if the candidate is not in it.

    Raises WorkError if these do not hold.
    """

    query_rows_Q: NDArray[np.int64]
    rows: Ragged
    scores: Ragged
    positive: Ragged
    dense_rank: Ragged

    def __post_init__(self) -> None:
        for name, dtype in FIELDS.items():
            actual = getattr(self, name).values_T.dtype
            if actual != dtype:
                raise WorkError(f"candidates: {name} has dtype {actual}, expected {np.dtype(dtype)}")
        offsets, entries = self.rows.offsets, len(self.rows.values_T)
        if len(self.rows) != len(self.query_rows_Q):
            raise WorkError(
                f"candidates: {len(self.rows)} lists for {len(self.query_rows_Q)} queries, expected as many"
            )
        if offsets[0] != 0 or offsets[-1] != entries or np.any(np.diff(offsets) < 0):
            raise WorkError(f"candidates: the offsets do not rise from 0 to the {entries} entries of rows")
        for name in FIELDS:
            other: Ragged = getattr(self, name)
            if len(other.values_T) != entries or not np.array_equal(other.offsets, offsets):
                raise WorkError(f"candidates: {name} is cut into other lists than rows ({entries} entries)")
        rows_T, list_T = self.rows.values_T, self.rows.list_of_entry
        if np.any(rows_T < 0):
            raise WorkError(f"candidates: document row {rows_T.min()} in a list, expected 0 or more (padding left in?)")
        order_T = np.lexsort((rows_T, list_T))
        twice_T = (np.diff(rows_T[order_T]) == 0) & (np.diff(list_T[order_T]) == 0)
        if twice_T.any():
            entry = int(order_T[int(np.argmax(twice_T))])
            raise WorkError(f"candidates: document row {rows_T[entry]} is twice in list {list_T[entry]}")

    def __len__(self) -> int:
        return len(self.query_rows_Q)

    def take(self, positions: NDArray[np.int64]) -> Candidates:
        """The lists at the given positions, in that order."""
        parts = (
            Ragged.of([getattr(self, name)[int(position)] for position in positions], dtype)
            for name, dtype in FIELDS.items()
        )
        return Candidates(self.query_rows_Q[positions], *parts)

    def save(self, folder: Path) -> None:
        """Write `candidates.safetensors` and `candidates.json` into `folder` (made if it is missing)."""
        from safetensors.numpy import save_file

        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: np.ascontiguousarray(getattr(self, name).values_T) for name in FIELDS}
        tensors |= {"query_rows": np.ascontiguousarray(self.query_rows_Q), "offsets": self.rows.offsets}
        save_file(tensors, folder / TENSORS)
        card = {"schema": 1, "queries": len(self), "candidates": len(self.rows.values_T)}
        (folder / CARD).write_text(json.dumps(card, indent=2) + "\n", encoding="utf8")

    @staticmethod
    def load(folder: Path) -> Candidates:
        """Read what `save` wrote. Raises DamagedArtifact if the two files disagree or a list is not well formed."""
        from safetensors.numpy import load_file

        card = json.loads((folder / CARD).read_text(encoding="utf8"))
        tensors = load_file(folder / TENSORS)
        queries, candidates = len(tensors["query_rows"]), len(tensors["rows"])
        if (queries, candidates) != (card["queries"], card["candidates"]):
            raise DamagedArtifact(
                f"{folder / TENSORS} holds {queries} queries and {candidates} candidates, {CARD} says "
                f"{card['queries']} and {card['candidates']}; delete the folder and mine again"
            )
        try:
            return Candidates(tensors["query_rows"], *(Ragged(tensors[name], tensors["offsets"]) for name in FIELDS))
        except WorkError as error:
            raise DamagedArtifact(f"{folder / TENSORS}: {error}; delete the folder and mine again") from error
