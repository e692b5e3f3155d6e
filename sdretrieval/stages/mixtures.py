"""Which mixture of two students is worth encoding: tried on mixed vectors first, which cost next to nothing.

Where two students are near, the vectors of their mixed weights are nearly their mixed vectors (docs/ABLATIONS.md).
Whatever is tried so decides over the order alone: the gate measures real vectors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from sdretrieval.config import Config
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.evaluation import evaluate
from sdretrieval.ragged import Array
from sdretrieval.stages.inputs import Prepared, Vectors
from sdretrieval.stages.prepare import judgements
from sdretrieval.stages.search import Unindexed, dense_run
from sdretrieval.store import Work

FOUND, MIXED = "mixtures.json", "mixed.npy"
ROWS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Mixture:
    """Queries and masked documents as a mixture would encode them, about; see `Vectors`."""

    queries_QD: Array
    masked: Embeddings | None


def build_mixtures(
    work: Work, prepared: Prepared, config: Config, old: Vectors, new: Vectors, shares: Sequence[float]
) -> None:
    """`mixtures.json`: the mean of the gate's measure on dev by share of the new student's vectors."""
    measure, means = config.gate.measure, {}
    for share in shares:
        documents_ND = _written(work.folder / MIXED, old.documents.vectors_WD, new.documents.vectors_WD, share)
        run = dense_run(prepared, "dev", _mixed(old, new, share), Unindexed(documents_ND), config.evaluate.depth)
        means[str(share)] = evaluate(judgements(prepared, "dev"), run, [measure]).mean(measure)
    (work.folder / MIXED).unlink()
    (work.folder / FOUND).write_text(json.dumps({"measure": measure, "means": means}) + "\n", encoding="utf8")
    work.counts["mixtures"] = len(means)


def between(old_XD: Array, new_XD: Array, share: float) -> Array:
    """Each vector on the way from old to new, of the length that lies between theirs."""
    mixed_XD = (1 - share) * np.asarray(old_XD) + share * np.asarray(new_XD)
    old_X1, new_X1, mixed_X1 = (np.linalg.norm(x, axis=1, keepdims=True) for x in (old_XD, new_XD, mixed_XD))
    wanted_X1 = (1 - share) * old_X1 + share * new_X1
    return np.asarray(mixed_XD * wanted_X1 / np.where(mixed_X1 > 0, mixed_X1, 1.0), dtype=np.float32)


def _mixed(old: Vectors, new: Vectors, share: float) -> Mixture:
    queries_QD = between(old.queries_QD, new.queries_QD, share)
    if old.masked is None or new.masked is None:
        return Mixture(queries_QD, None)
    masked_WD = between(old.masked.vectors_WD, new.masked.vectors_WD, share)
    return Mixture(queries_QD, Embeddings(masked_WD, new.masked.windows))


def _written(path: Path, old_ND: Array, new_ND: Array, share: float) -> Array:
    """On the disk: a large corpus' vectors need not be held a third time."""
    mixed_ND = open_memmap(path, mode="w+", dtype=np.float32, shape=old_ND.shape)
    for rows in _blocks(len(old_ND)):
        mixed_ND[rows] = between(old_ND[rows], new_ND[rows], share)
    return mixed_ND


def _blocks(count: int) -> Iterator[slice]:
    return (slice(start, start + ROWS_AT_ONCE) for start in range(0, count, ROWS_AT_ONCE))
