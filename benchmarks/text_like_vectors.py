"""Vectors that look like text embeddings, any number of them, drawn without a model or a corpus.

A text's vector is the sum of four parts, scaled to length 1: what all texts share, its field (one of 100), its topic
(each within a field; 15 texts where there are 5,000, 200 where there are a million), and its own. Each part is
Gaussian, with a spectrum that falls like that of text embeddings, in randomly rotated directions. A query is a text of
its own that lies near a document's. Spectrum and shares are fitted to what paraphrase-MiniLM-L3 gives for SciFact
(5,183 abstracts and their claims; the figures of both stand in `indexes/README.md`).

Why not plain Gaussian vectors: they have no near neighbours, so quantisation looks hopeless and inverted lists useless.
Why not tight clusters: any code finds the cluster, so it looks perfect. Why not real vectors enlarged by noise between
neighbours: copies of a few thousand texts make every document's neighbours its own copies, at a distance set by us.

Legend: N vectors, D dims, T topics, B vectors of a block.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sdretrieval.progress import Progress

Floats = NDArray[np.float32]

FIELDS = 100
TOPICS_BY_ROOT = 4.8
"""Topics grow as the root of the number of texts: a larger collection has more of them, and more texts on each."""
SHARES = {"common": 0.14, "field": 0.08, "topic": 0.33, "own": 0.45}
"""Of a vector's squared length."""
QUERY_OWN = 1.4
"""Squared length of what a query says beside its document, which has 1."""
BLOCK = 16_384


class Recipe(NamedTuple):
    """What all blocks share: directions (D, D) with their spectrum, the common part (D), fields and topics (T, D)."""

    directions_DD: Floats
    common_D: Floats
    topics_TD: Floats


def spectrum(dims: int) -> NDArray[np.float64]:
    """Variances of `dims` directions: as n^-0.62 at first, and nearly nothing in the last third."""
    place_D = np.arange(dims) * (384 / dims)
    return np.asarray((place_D + 1) ** -0.62 * np.exp(-((place_D / 165) ** 3)))


def recipe(count: int, dims: int, seed: int) -> Recipe:
    """The parts that `count` texts share."""
    chance = np.random.default_rng([seed, 0])
    rotation_DD, _ = np.linalg.qr(chance.standard_normal((dims, dims)))
    spectrum_D = spectrum(dims)
    directions_DD = (np.sqrt(spectrum_D / spectrum_D.sum())[:, None] * rotation_DD.T).astype(np.float32)
    common_D = chance.standard_normal(dims) / np.sqrt(dims)
    fields_FD = _parts(chance, FIELDS, directions_DD)
    topics = max(FIELDS, round(TOPICS_BY_ROOT * count**0.5))
    topics_TD = np.sqrt(SHARES["topic"]) * _parts(chance, topics, directions_DD)
    topics_TD += np.sqrt(SHARES["field"]) * fields_FD[chance.integers(FIELDS, size=topics)]
    return Recipe(directions_DD, (np.sqrt(SHARES["common"]) * common_D).astype(np.float32), topics_TD)


def _parts(chance: np.random.Generator, count: int, directions_DD: Floats) -> Floats:
    return chance.standard_normal((count, len(directions_DD)), dtype=np.float32) @ directions_DD


def documents(shared: Recipe, first: int, size: int, seed: int) -> Floats:
    """Documents `first` ... of a block that begins there: the same whatever was drawn before."""
    chance = np.random.default_rng([seed, 1, first])
    own_BD = np.float32(np.sqrt(SHARES["own"])) * _parts(chance, size, shared.directions_DD)
    return unit(shared.common_D + shared.topics_TD[chance.integers(len(shared.topics_TD), size=size)] + own_BD)


def queries_near(documents_BD: Floats, shared: Recipe, seed: int) -> Floats:
    """A query near each document."""
    chance = np.random.default_rng([seed, 2])
    return unit(documents_BD + np.float32(np.sqrt(QUERY_OWN)) * _parts(chance, len(documents_BD), shared.directions_DD))


def unit(vectors_BD: Floats) -> Floats:
    """Scaled to length 1."""
    scaled: Floats = vectors_BD / np.linalg.norm(vectors_BD, axis=1, keepdims=True)
    return scaled


def write_vectors(folder: Path, count: int, dims: int, queries: int, seed: int) -> tuple[Floats, Floats]:
    """Memory-mapped documents (N, D) and as many queries as asked for; a file that is there is used as it is."""
    folder.mkdir(parents=True, exist_ok=True)
    shared = recipe(count, dims, seed)
    path = folder / f"text-like-{count}-{dims}-{seed}.npy"
    if not path.exists():
        part = path.with_suffix(".part")
        target = np.lib.format.open_memmap(part, "w+", np.dtype(np.float32), (count, dims))
        with Progress("drawing", count, "vectors") as progress:
            for first in range(0, count, BLOCK):
                size = min(BLOCK, count - first)
                target[first : first + size] = documents(shared, first, size, seed)
                progress.advance(size)
        target.flush()
        part.rename(path)
    vectors_ND = np.load(path, mmap_mode="r")
    rows = np.sort(np.random.default_rng([seed, 3]).choice(count, min(queries, count), replace=False))
    return vectors_ND, queries_near(np.asarray(vectors_ND[rows]), shared, seed)
