"""Vectors of texts, streamed to a memory map, resumable by chunk.

Legend: N texts, W windows in all (W = N where the view has one window a text), D dims.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.lib.format import open_memmap

from sdretrieval.encode.batches import budget_batches
from sdretrieval.encode.views import Specials, View
from sdretrieval.errors import NumericError
from sdretrieval.progress import Progress
from sdretrieval.ragged import Array, Ragged

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16"]

TEXTS_PER_CHUNK = 2048
"""A killed run loses at most this many texts; within a chunk texts are sorted by length."""


@dataclass(frozen=True)
class Embeddings:
    """`vectors_WD` float32 (memory-mapped); `windows` = offsets: text n owns rows windows[n] to windows[n + 1]."""

    vectors_WD: Array
    windows: Array

    @property
    def one_window(self) -> bool:
        """Whether every text has exactly one vector."""
        return len(self.windows) == len(self.vectors_WD) + 1

    @staticmethod
    def load(folder: Path) -> Embeddings:
        """Open what `encode_texts` wrote."""
        return Embeddings(np.load(folder / "vectors.npy", mmap_mode="r"), np.load(folder / "windows.npy"))


def encode_texts(
    model: SentenceTransformer,
    tokens: Ragged,
    view: View,
    specials: Specials,
    folder: Path,
    *,
    batch_tokens: int = 8192,
    precision: Precision = "float32",
    description: str = "encode",
) -> Embeddings:
    """Encode every window of every text into `folder` (vectors.npy, windows.npy), float32 whatever `precision`.

    Continues where an earlier call stopped, and finds all done after one that ended: the folder must belong to this
    model, these tokens and this view.
    Raises NumericError naming the text where a vector is not finite.
    """
    counts = np.fromiter((len(view.spans(n, specials.count)) for n in tokens.lengths.tolist()), np.int64, len(tokens))
    windows = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    np.save(folder / "windows.npy", windows)
    size = model.get_embedding_dimension()
    assert size is not None
    vectors_WD, done = _open(folder, (int(windows[-1]), int(size)))
    with Progress(description, int(windows[-1]), "windows") as progress:
        progress.resume(int(windows[min(done * TEXTS_PER_CHUNK, len(tokens))]))
        for chunk in range(done, -(-len(tokens) // TEXTS_PER_CHUNK)):
            first, last = chunk * TEXTS_PER_CHUNK, min((chunk + 1) * TEXTS_PER_CHUNK, len(tokens))
            sequences = [piece for n in range(first, last) for piece in view.cut(tokens[n], specials)]
            block = encode_sequences(model, sequences, specials, batch_tokens, progress.advance, precision)
            _check_finite(block, windows, first)
            vectors_WD[windows[first] : windows[last]] = block
            if isinstance(vectors_WD, np.memmap):
                vectors_WD.flush()
            _note(folder, chunk + 1)
    return Embeddings.load(folder)


def encode_sequences(
    model: SentenceTransformer,
    sequences: Sequence[Array],
    specials: Specials,
    batch_tokens: int = 8192,
    advance: Callable[[int], None] = lambda count: None,
    precision: Precision = "float32",
) -> Array:
    """float32 vectors of ready token sequences, in their order, shape (len(sequences), D).

    `precision` is that of the matrix products; with bfloat16 a vector differs a little from its float32 self.
    """
    import torch

    from sdretrieval.encode.student import features_of

    size = model.get_embedding_dimension()
    vectors_ND = np.empty((len(sequences), int(size or 0)), dtype=np.float32)
    model.eval()
    # Not inference_mode: a model that caches rotary tables in its first pass could not be trained afterwards.
    reduced = torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with torch.no_grad(), reduced:
        for batch in budget_batches([len(sequence) for sequence in sequences], batch_tokens):
            features = features_of(model, [sequences[i] for i in batch], specials)
            on_device = {k: v.to(model.device) if hasattr(v, "to") else v for k, v in features.items()}
            vectors_ND[batch] = model(on_device)["sentence_embedding"].float().cpu().numpy()
            advance(len(batch))
    return vectors_ND


def _open(folder: Path, shape: tuple[int, int]) -> tuple[Array, int]:
    path, note = folder / "vectors.npy", folder / "chunks.json"
    if path.exists() and note.exists():
        stored = open_memmap(path, mode="r+")
        if stored.shape == shape:
            done = int(json.loads(note.read_text())["done"])
            logger.info("%s: continuing after %d finished chunks", folder.name, done)
            return stored, done
    note.unlink(missing_ok=True)  # what it counts is about to be overwritten
    fresh = open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):
        # Room is taken now, as an OSError where there is none: a sparse file would end the process at some later page.
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
    return fresh, 0


def _note(folder: Path, done: int) -> None:
    temporary = folder / "chunks.json.new"
    temporary.write_text(json.dumps({"done": done}))
    temporary.replace(folder / "chunks.json")


def _check_finite(block_WD: Array, windows: Array, first_text: int) -> None:
    bad = np.flatnonzero(~np.isfinite(block_WD).all(axis=1))
    if len(bad):
        text = int(np.searchsorted(windows, windows[first_text] + bad[0], side="right")) - 1
        raise NumericError(
            f"encode: {len(bad)} vectors are not finite, the first for text row {text}; "
            "the model's weights are broken or its precision is too low: load it in float32"
        )
