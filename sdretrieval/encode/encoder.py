"""Vectors of texts, streamed to a memory map, resumable by chunk.

Legend: N texts, W windows in all (W = N where the view has one window a text), D dims.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from sdretrieval.encode.batches import budget_batches, usual_batch_tokens
from sdretrieval.encode.known import Donor, digests_of, say_known
from sdretrieval.encode.vector_file import VectorFile
from sdretrieval.encode.views import Specials, View
from sdretrieval.errors import NumericError
from sdretrieval.progress import Progress, track
from sdretrieval.ragged import Array, Ragged

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

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
    """The vectors, and how many of them an earlier collection's result already held."""

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
    donors: Sequence[Donor] = (),
) -> Encoded:
    """Encode every window of every text into `folder` (vectors.npy, windows.npy), float32 whatever `precision`.

    Continues where an earlier call stopped, and finds all done after one that ended: the folder must belong to this
    model, these tokens and this view. Windows whose token ids some of `donors` (results of the same model at the same
    precision) has encoded are copied from there; copied and computed vectors are equal up to rounding, as vectors are
    that were computed in batches of another size.
    Raises NumericError naming the text where a vector is not finite.
    """
    windows = _windows(tokens, view, specials)
    np.save(folder / "windows.npy", windows)
    size = model.get_embedding_dimension()
    assert size is not None
    count = int(windows[-1])
    file = VectorFile.resume(folder, (count, int(size)))
    if file is None:
        digests_W = _window_digests(tokens, view, specials, count, description)
        file = VectorFile.begin(folder, (count, int(size)), digests_W, donors)
        say_known(description, count - len(file.todo), count, "windows")
    with Progress(description, count, "windows") as progress:
        progress.resume(count - len(file.todo) + file.done)
        for rows in file.chunks(WINDOWS_PER_CHUNK):
            seen = (tokens, view, specials, windows, rows)
            file.write(encode_windows(model, *seen, batch_tokens, progress.advance, precision))
    return Encoded(Embeddings.load(folder), count - len(file.todo))


def encode_windows(
    model: SentenceTransformer, tokens: Ragged, view: View, specials: Specials, windows: Array, rows: Array,
    batch_tokens: int | None = None, advance: Callable[[int], None] = lambda count: None,
    precision: Precision = "float32",
) -> Array:  # fmt: skip
    """float32 vectors of some windows, `rows` ascending; `windows` are offsets as `Embeddings` has them.

    Raises NumericError naming the text where a vector is not finite.
    """
    sequences = _sequences(tokens, view, specials, windows, rows)
    block = encode_sequences(model, sequences, specials, batch_tokens, advance, precision)
    _check_finite(block, windows, rows)
    return block


def window_digests(tokens: Ragged, view: View, specials: Specials, windows: Array, rows: Array) -> Array:
    """Digests of the token ids of some windows, `rows` ascending: what `encode_texts` knows windows by."""
    return digests_of((ids.tobytes() for ids in _sequences(tokens, view, specials, windows, rows)), len(rows))


def _windows(tokens: Ragged, view: View, specials: Specials) -> Array:
    counts = np.fromiter((len(view.spans(n, specials.count)) for n in tokens.lengths.tolist()), np.int64, len(tokens))
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _window_digests(tokens: Ragged, view: View, specials: Specials, count: int, description: str) -> Array:
    """Of what the model is given: the token ids of each window, special and prompt tokens included."""
    texts = track(tokens, f"{description}: digests", "texts", len(tokens))
    return digests_of((piece.tobytes() for ids in texts for piece in view.cut(ids, specials)), count)


def _sequences(tokens: Ragged, view: View, specials: Specials, windows: Array, rows: Array) -> list[Array]:
    """The token ids of some windows, `rows` ascending."""
    if not len(rows):
        return []
    texts, firsts = np.unique(np.searchsorted(windows, rows, side="right") - 1, return_index=True)
    found: list[Array] = []
    for text, own in zip(texts.tolist(), np.split(rows, firsts[1:]), strict=True):
        pieces = view.cut(tokens[text], specials)
        found += [pieces[window] for window in (own - windows[text]).tolist()]
    return found


def encode_sequences(
    model: SentenceTransformer,
    sequences: Sequence[Array],
    specials: Specials,
    batch_tokens: int | None = None,
    advance: Callable[[int], None] = lambda count: None,
    precision: Precision = "float32",
) -> Array:
    """float32 vectors of ready token sequences, in their order, shape (len(sequences), D).

    `batch_tokens`: most tokens of a batch, padding included; None = as many as suit the model's device.
    `precision` is that of the matrix products; with bfloat16 a vector differs a little from its float32 self.
    """
    import torch

    from sdretrieval.encode.student import features_of

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
    return vectors_ND


def _check_finite(block_WD: Array, windows: Array, rows: Array) -> None:
    bad = np.flatnonzero(~np.isfinite(block_WD).all(axis=1))
    if len(bad):
        text = int(np.searchsorted(windows, rows[bad[0]], side="right")) - 1
        raise NumericError(
            f"encode: {len(bad)} vectors are not finite, the first for text row {text}; "
            "the model's weights are broken or its precision is too low: load it in float32"
        )
