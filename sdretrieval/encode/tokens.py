"""Token ids of every text, once per tokenizer, as a ragged memory map that all stages and generations read.

Legend: N texts, R rows to be tokenized, T entries of all lists.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from sdretrieval.encode.batches import is_static
from sdretrieval.encode.reuse import (
    DIGESTS,
    ReusableArtifact,
    digest_of,
    find_reused,
    log_reused,
    rows_to_make,
    text_digests,
)
from sdretrieval.encode.views import Specials
from sdretrieval.progress import Progress
from sdretrieval.ragged import Array, Ragged, gathered

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

TEXTS_PER_CALL = 1000
"""A killed run loses the tokens of at most this many texts."""
TOKENS, CARD = "tokens.npy", "tokens.json"


def tokenizer_of(model: SentenceTransformer) -> Any:
    """A model's tokenizer as one of transformers. A static model's puts no special tokens around a text."""
    if not is_static(model):
        return model.tokenizer
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    own = model.tokenizer
    settings = json.loads(own.to_str())["model"]
    unknown = settings.get("unk_token")
    if settings.get("unk_id") is not None:
        unknown = own.id_to_token(settings["unk_id"])
    wrapped = PreTrainedTokenizerFast(tokenizer_object=own, unk_token=unknown)
    wrapped.backend_tokenizer.post_processor = TemplateProcessing(single="$A", pair="$A $B")
    return wrapped


def specials_of(tokenizer: Any, prompt: str = "") -> Specials:
    """Ids that the tokenizer puts before and after a text, and the prompt's own ids."""
    bare = tokenizer("a", add_special_tokens=False)["input_ids"]
    full = tokenizer("a")["input_ids"]
    start = next(i for i in range(len(full)) if full[i : i + len(bare)] == bare)
    return Specials(tuple(full[:start]), tuple(full[start + len(bare) :]), _prompt_ids(tokenizer, prompt, bare))


def _prompt_ids(tokenizer: Any, prompt: str, bare: list[int]) -> tuple[int, ...]:
    if not prompt:
        return ()
    # Before a text, not alone: a SentencePiece tokenizer makes a token of a lone prompt's last space.
    joint = tokenizer(prompt + "a", add_special_tokens=False)["input_ids"]
    if joint[-len(bare) :] == bare:
        return tuple(joint[: -len(bare)])
    return tuple(tokenizer(prompt, add_special_tokens=False)["input_ids"])


def tokenize(texts: Sequence[str], tokenizer: Any, description: str = "tokenize") -> Ragged:
    """Content token ids (no specials, not cut) of each text, int32."""
    lists: list[Array] = []
    with Progress(description, len(texts), "texts") as progress:
        for start in range(0, len(texts), TEXTS_PER_CALL):
            lists += _ids(texts[start : start + TEXTS_PER_CALL], tokenizer)
            progress.advance(len(lists) - start)
    return Ragged.of(lists, np.int32)


def _ids(texts: Sequence[str], tokenizer: Any) -> list[Array]:
    # `verbose=False`: a text longer than the model is no mistake here, the view decides what is seen.
    lists = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [np.asarray(ids, dtype=np.int32) for ids in lists]


def tokenize_into(
    folder: Path,
    texts: Sequence[str],
    tokenizer: Any,
    description: str = "tokenize",
    reusable: Sequence[ReusableArtifact] = (),
) -> tuple[Ragged, int]:  # fmt: skip
    """Token ids of each text, saved in `folder`, and how many texts' ids were copied from `reusable`, which are results
    of the same tokenizer: it would give the same ids again.

    Continues where an earlier call stopped, and finds all done after one that ended: the folder must belong to these
    texts and this tokenizer. Memory does not grow with the texts but for 40 bytes of each.
    """
    digests = folder / DIGESTS
    if not digests.exists():  # an earlier call saved them whole or not at all
        np.save(folder / f"new-{DIGESTS}", text_digests(texts))
        (folder / f"new-{DIGESTS}").replace(digests)
    reused = find_reused(np.load(digests), reusable)
    new_rows = rows_to_make(len(texts), reused)
    copied = len(texts) - len(new_rows)
    if (folder / CARD).exists():
        remove_made(folder)
        return load_tokens(folder), copied
    log_reused(description, copied, len(texts), "texts")
    file = ListFile.open(folder, new_rows)
    with Progress(description, len(new_rows), "texts") as progress:
        progress.resume(file.done)
        for rows in file.chunks(TEXTS_PER_CALL):
            file.write(_ids([texts[row] for row in rows.tolist()], tokenizer))
            progress.advance(len(rows))

    def allocate(entries: int, dtype: Any) -> Array:
        if entries:
            return open_memmap(folder / TOKENS, mode="w+", dtype=dtype, shape=(entries,))
        np.save(folder / TOKENS, np.empty(0, dtype=dtype))  # nothing cannot be mapped
        return np.empty(0, dtype=dtype)

    new = file.read()
    parts = [(part.rows_N, load_tokens(part.folder), part.their_rows_N) for part in reused]
    tokens = gathered(len(texts), [*parts, (new_rows, new, np.arange(len(new)))], np.int32, allocate)
    if isinstance(tokens.values_T, np.memmap):
        tokens.values_T.flush()
    np.save(folder / "offsets.npy", tokens.offsets)
    card = folder / f"{CARD}.new"  # comes last: it says that all is there
    card.write_text(json.dumps({"texts": len(tokens), "tokens": len(tokens.values_T)}) + "\n")
    card.replace(folder / CARD)
    remove_made(folder)
    return load_tokens(folder), copied


def load_tokens(folder: Path) -> Ragged:
    """Open what `tokenize_into` wrote, the ids memory-mapped."""
    return Ragged(np.load(folder / TOKENS, mmap_mode="r"), np.load(folder / "offsets.npy"))


ENTRIES, LENGTHS, NOTE = "made.int32", "made-lengths.int64", "made.json"


@dataclass
class ListFile:
    """int32 lists while they are being made: appended chunk by chunk, a kill survived, read back as one memory map.

    Of the `rows_R` to be made, the lists of the first `done` are in `folder`, with `entries` entries in all. `digest`:
    of `rows_R`; lists made of other rows are of no use.
    """

    folder: Path
    rows_R: NDArray[np.int64]
    digest: str
    done: int = 0
    entries: int = 0

    @staticmethod
    def open(folder: Path, rows_R: NDArray[np.int64]) -> ListFile:
        """What an earlier call made of the same rows, or a new beginning."""
        file = ListFile(folder, rows_R, digest_of(rows_R.tobytes()).hex())
        try:
            note = json.loads((folder / NOTE).read_text(encoding="utf8"))
        except (OSError, ValueError):
            note = {}
        if note.get("rows") == file.digest:
            file.done, file.entries = int(note["done"]), int(note["entries"])
            logger.info("%s: continuing after %d of %d texts", folder.name, file.done, len(rows_R))
        for name, size in ((ENTRIES, 4 * file.entries), (LENGTHS, 8 * file.done)):
            with (folder / name).open("ab") as stream:
                stream.truncate(size)  # drops what was appended after the last note
        file._keep()
        return file

    def chunks(self, size: int) -> Iterator[NDArray[np.int64]]:
        """Rows whose lists are still to be made, `size` at a time."""
        for start in range(self.done, len(self.rows_R), size):
            yield self.rows_R[start : start + size]

    def write(self, lists: Sequence[Array]) -> None:
        """Append the lists of the next rows, on the disk before they count as done."""
        lengths = np.asarray([len(one) for one in lists], dtype=np.int64)
        values = np.concatenate([np.empty(0, dtype=np.int32), *lists], dtype=np.int32)
        for name, array in ((ENTRIES, values), (LENGTHS, lengths)):
            with (self.folder / name).open("ab") as stream:
                stream.write(array.tobytes())
                stream.flush()
                os.fsync(stream.fileno())
        self.done, self.entries = self.done + len(lists), self.entries + len(values)
        self._keep()

    def read(self) -> Ragged:
        """All lists, by position in `rows_R`; the entries memory-mapped."""
        lengths_R = np.fromfile(self.folder / LENGTHS, dtype=np.int64)
        offsets = np.concatenate([[0], np.cumsum(lengths_R)]).astype(np.int64)
        empty: Array = np.empty(0, dtype=np.int32)  # an empty file cannot be mapped
        values_T = np.memmap(self.folder / ENTRIES, dtype=np.int32, mode="r") if self.entries else empty
        return Ragged(values_T, offsets)

    def _keep(self) -> None:
        fresh = self.folder / f"{NOTE}.new"
        note = {"rows": self.digest, "done": self.done, "entries": self.entries}
        fresh.write_text(json.dumps(note), encoding="utf8")
        fresh.replace(self.folder / NOTE)


def remove_made(folder: Path) -> None:
    """Remove the list file's parts once its lists are elsewhere."""
    for name in (NOTE, ENTRIES, LENGTHS):
        (folder / name).unlink(missing_ok=True)
