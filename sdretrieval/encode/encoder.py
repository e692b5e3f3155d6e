"""Vectors of texts, streamed to a memory map, resumable by chunk; rows that are stored elsewhere are copied.

Legend: N texts, W windows in all (W = N if the view has one window a text), M rows of a donor, D dims.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from sdretrieval.encode.batches import budget_batches, features_of, usual_batch_tokens
from sdretrieval.encode.pace import Pace
from sdretrieval.encode.reuse import DIGESTS, ReusableArtifact, digests_of, find_reused, log_reused, rows_to_make
from sdretrieval.encode.views import Specials, View
from sdretrieval.errors import NumericError
from sdretrieval.progress import Progress, track
from sdretrieval.ragged import Array, Ragged

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

Precision = Literal["float32", "bfloat16"]

WINDOWS_PER_CHUNK = 2048
"""A killed run loses at most this many windows; within a chunk they are sorted by length."""


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


class Encoded(NamedTuple):
    """The vectors, and how many of them were copied from reusable artifacts."""

    embeddings: Embeddings
    reused: int


def encode_texts(
    model: SentenceTransformer,
    tokens: Ragged,
    view: View,
    specials: Specials,
    folder: Path,
    *,
    batch_tokens: int | None = None,
    precision: Precision = "float32",
    description: str = "encode",
    reusable: Sequence[ReusableArtifact] = (),
    expected: float | None = None,
) -> Encoded:
    """Encode every window of every text into `folder` (vectors.npy, windows.npy), float32 whatever `precision`.

    Continues where an earlier call stopped, and finds all done after one that ended: the folder must belong to this
    model, these tokens and this view. Windows whose token ids one of `reusable` (results of the same model at the same
    precision) has encoded are copied from there; copied and computed vectors are equal up to rounding, like vectors
    computed in batches of another size.
    `expected`: seconds of a token on this machine, see `Pace`.
    Raises NumericError naming the text if a vector is not finite.
    """
    counts = np.fromiter((len(view.spans(n, specials.count)) for n in tokens.lengths.tolist()), np.int64, len(tokens))
    windows = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    np.save(folder / "windows.npy", windows)
    size = model.get_embedding_dimension()
    assert size is not None
    count = int(windows[-1])
    file = VectorFile.resume(folder, (count, int(size)))
    if file is None:
        # A window is known by what the model is given: its token ids, special and prompt tokens included.
        texts = track(tokens, f"{description}: digests", "texts", len(tokens))
        digests_W = digests_of((piece.tobytes() for ids in texts for piece in view.cut(ids, specials)), count)
        file = VectorFile.begin(folder, (count, int(size)), digests_W, reusable)
        log_reused(description, count - len(file.todo), count, "windows")
    with Progress(description, count, "windows") as progress, Pace(description, model.device.type, expected) as pace:
        progress.resume(count - len(file.todo) + file.done)
        for rows in file.chunks(WINDOWS_PER_CHUNK):
            sequences = _sequences(tokens, view, specials, windows, rows)
            block_WD = encode_sequences(model, sequences, specials, batch_tokens, progress.advance, precision, pace)
            _check_finite(block_WD, windows, rows)
            file.write(block_WD)
    return Encoded(Embeddings.load(folder), count - len(file.todo))


def _sequences(tokens: Ragged, view: View, specials: Specials, windows: Array, rows: Array) -> list[Array]:
    """The token ids of some windows, `rows` ascending."""
    if not len(rows):
        return []
    texts, firsts = np.unique(np.searchsorted(windows, rows, side="right") - 1, return_index=True)
    sequences: list[Array] = []
    for text, own in zip(texts.tolist(), np.split(rows, firsts[1:]), strict=True):
        pieces = view.cut(tokens[text], specials)
        sequences += [pieces[window] for window in (own - windows[text]).tolist()]
    return sequences


def encode_sequences(
    model: SentenceTransformer,
    sequences: Sequence[Array],
    specials: Specials,
    batch_tokens: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
    precision: Precision = "float32",
    pace: Pace | None = None,
) -> Array:
    """float32 vectors of ready token sequences, in their order, shape (len(sequences), D).

    `batch_tokens`: most tokens of a batch, padding included; None = as many as suit the model's device.
    `precision` is that of the matrix products; with bfloat16 a vector differs a little from its float32 self.
    """
    import torch

    size = model.get_embedding_dimension()
    vectors_ND = np.empty((len(sequences), int(size or 0)), dtype=np.float32)
    budget = batch_tokens or usual_batch_tokens(model.device.type)
    model.eval()
    # Not inference_mode: a model that caches rotary tables in its first pass could not be trained afterwards.
    reduced = torch.autocast(model.device.type, torch.bfloat16, enabled=precision == "bfloat16")
    with torch.no_grad(), reduced:
        for batch in budget_batches([len(sequence) for sequence in sequences], budget):
            features = features_of(model, [sequences[i] for i in batch], specials)
            on_device = {k: v.to(model.device) if hasattr(v, "to") else v for k, v in features.items()}
            vectors_ND[batch] = model(on_device)["sentence_embedding"].float().cpu().numpy()
            advance(len(batch))
            if pace is not None:
                pace.step(sum(len(sequences[i]) for i in batch))
    return vectors_ND


def _check_finite(block_WD: Array, windows: Array, rows: Array) -> None:
    bad = np.flatnonzero(~np.isfinite(block_WD).all(axis=1))
    if len(bad):
        text = int(np.searchsorted(windows, rows[bad[0]], side="right")) - 1
        raise NumericError(
            f"encode: {len(bad)} vectors are not finite, the first for text row {text}; "
            "the model's weights are broken or its precision is too low: load it in float32"
        )


VECTORS, NOTE, TODO = "vectors.npy", "chunks.json", "todo.npy"


@dataclass
class VectorFile:
    """`vectors.npy` while it is filled: reused rows copied first, the others written chunk by chunk, a kill survived.

    `vectors_WD` (float32, memory-mapped) is in `folder`; of the rows `todo`, the first `done` are written.
    """

    folder: Path
    vectors_WD: Array
    todo: NDArray[np.int64]
    done: int = 0

    @staticmethod
    def resume(folder: Path, shape: tuple[int, int]) -> VectorFile | None:
        """What an earlier call left in `folder`, finished or not; None if there is nothing of this shape."""
        try:
            note = json.loads((folder / NOTE).read_text(encoding="utf8"))
            done, new = int(note["done"]), int(note["new"])
            stored = open_memmap(folder / VECTORS, mode="r+")
            # When all rows are written, their list is not needed any more, and may be gone.
            todo = np.load(folder / TODO) if done < new else np.arange(new)
        except (OSError, KeyError, ValueError):  # absent, damaged, or of a version that did not keep these
            return None
        if stored.shape != shape or len(todo) != new:
            return None
        logger.info("%s: continuing after %d of %d windows", folder.name, done, new)
        file = VectorFile(folder, stored, todo, done)
        file._forget_todo()
        return file

    @staticmethod
    def begin(
        folder: Path, shape: tuple[int, int], digests_W: Array, reusable: Sequence[ReusableArtifact] = ()
    ) -> VectorFile:
        """A new file with the rows that reusable hold, and the digests beside it, so that it can be a donor itself."""
        (folder / NOTE).unlink(missing_ok=True)  # what it counts is about to be overwritten
        path = folder / VECTORS
        vectors_WD = open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        if hasattr(os, "posix_fallocate"):
            # Disk space is taken now, an OSError if there is none: a sparse file would end the process at a later page.
            with path.open("r+b") as stream:
                os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
        reused = find_reused(digests_W, reusable)
        for part in reused:
            theirs_MD = np.load(part.folder / VECTORS, mmap_mode="r")
            for rows, their_rows in part.blocks():
                vectors_WD[rows] = theirs_MD[their_rows]
        file = VectorFile(folder, vectors_WD, rows_to_make(shape[0], reused))
        np.save(folder / DIGESTS, digests_W)
        np.save(folder / TODO, file.todo)
        file._keep(0)
        return file

    def chunks(self, size: int) -> Iterator[NDArray[np.int64]]:
        """Rows still to be written, `size` at a time, ascending."""
        for start in range(self.done, len(self.todo), size):
            yield self.todo[start : start + size]

    def write(self, block_WD: Array) -> None:
        """Write the next rows of `chunks`, on the disk before they count as done."""
        rows = self.todo[self.done : self.done + len(block_WD)]
        self.vectors_WD[rows] = block_WD
        self._keep(self.done + len(rows))

    def _keep(self, done: int) -> None:
        if isinstance(self.vectors_WD, np.memmap):
            self.vectors_WD.flush()
        self.done = done
        temporary = self.folder / f"{NOTE}.new"
        temporary.write_text(json.dumps({"done": done, "new": len(self.todo)}), encoding="utf8")
        temporary.replace(self.folder / NOTE)
        self._forget_todo()

    def _forget_todo(self) -> None:
        if self.done == len(self.todo):
            (self.folder / TODO).unlink(missing_ok=True)
