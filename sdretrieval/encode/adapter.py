"""A linear map behind a bi-encoder, the same for queries and documents: the cheapest student.

It is fitted on vectors that are there already, so that no text is encoded in training and none again afterwards: new
vectors are old ones times a matrix. The folder stays a plain sentence-transformers model: a Dense module without bias,
and the length made 1 again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.student import save_student
from sdretrieval.progress import track
from sdretrieval.ragged import Array

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ROWS = 65536
"""Vectors that are mapped at a time."""


def with_adapter(model: SentenceTransformer) -> SentenceTransformer:
    """`model` itself, with an adapter at its end that changes nothing yet. Its vectors must have length 1.

    A base that ends with an adapter of an earlier run gets another one: what it has is part of the base.
    """
    import torch
    from sentence_transformers.sentence_transformer.modules import Dense, Normalize

    dims, device = int(model.get_embedding_dimension() or 0), model.device
    model.append(Dense(dims, dims, bias=False, activation_function=torch.nn.Identity(), init_weight=torch.eye(dims)))
    model.append(Normalize())
    return model.to(device)


def adapter_alone(model: SentenceTransformer) -> SentenceTransformer:
    """The adapter of `model` as a model of its own, with the same weights: it reads vectors in place of texts."""
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(modules=[model[-2], model[-1]], device=str(model.device))


def save_with_encoder(model: SentenceTransformer, *folders: Path) -> None:
    """Put the trained adapter in each of `folders` behind the encoder of `model`, which has an adapter itself."""
    from sentence_transformers import SentenceTransformer

    for folder in folders:
        alone = SentenceTransformer(str(folder), device=str(model.device))
        model[-2].load_state_dict(alone[0].state_dict())
        shutil.rmtree(folder)
        save_student(model, folder)


def matrix_of(model: SentenceTransformer) -> Array:
    """The map of `model`, which has an adapter: rows of old vectors times it are new ones, but for their length."""
    (weight_DD,) = model[-2].parameters()
    return np.asarray(weight_DD.detach().float().cpu().numpy().T, dtype=np.float32)


def map_vectors(source: Path, target: Path, map_DE: Array, description: str) -> int:
    """Write to the folder `target` what the map, from D to E dims, makes of the vectors in `source`; returns their
    number."""
    old = Embeddings.load(source)
    target.mkdir(exist_ok=True)
    new_WE = np.lib.format.open_memmap(target / "vectors.npy", "w+", np.float32, (len(old.vectors_WD), map_DE.shape[1]))
    for start in track(range(0, len(new_WE), ROWS), description, "blocks"):
        block_WE = np.asarray(old.vectors_WD[start : start + ROWS]) @ map_DE
        new_WE[start : start + ROWS] = block_WE / np.linalg.norm(block_WE, axis=1, keepdims=True)
    new_WE.flush()
    np.save(target / "windows.npy", old.windows)
    return len(new_WE)
