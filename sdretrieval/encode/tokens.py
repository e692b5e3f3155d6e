"""Token ids of every text, once per tokenizer, as a ragged memory map that all stages and generations read.

Legend: N texts, R rows to be tokenized, T entries of all lists.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sdretrieval.digests import digest_file, sealed, unsealed
from sdretrieval.encode.batches import is_static
from sdretrieval.encode.reuse import (
    DIGESTS,
    ReusableArtifact,
    digest_of,
    find_reused,
    log_reused,
    new_memmap,
    rows_to_make,
    text_digests,
)
from sdretrieval.encode.views import Specials
from sdretrieval.errors import DamagedArtifact
from sdretrieval.files import read_json, write_json
from sdretrieval.progress import Progress
from sdretrieval.ragged import Array, Ragged, gathered

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.getLogger(__name__)

TEXTS_PER_CALL = 1000
"""A killed run loses the tokens of at most this many texts."""
TOKENS, OFFSETS, CARD = "tokens.npy", "offsets.npy", "tokens.json"


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
    digests_N = text_digests(texts)
    np.save(folder / DIGESTS, digests_N)
    reused = find_reused(digests_N, reusable)
    new_rows = rows_to_make(len(texts), reused)
    copied = len(texts) - len(new_rows)
    if _is_whole(folder):
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
            return new_memmap(folder / TOKENS, dtype, (entries,))
        np.save(folder / TOKENS, np.empty(0, dtype=dtype))  # nothing cannot be mapped
        return np.empty(0, dtype=dtype)

    new = file.read()
    parts = [(part.rows_N, load_tokens(part.folder), part.their_rows_N) for part in reused]
    tokens = gathered(len(texts), [*parts, (new_rows, new, np.arange(len(new)))], np.int32, allocate)
    if isinstance(tokens.values_T, np.memmap):
        tokens.values_T.flush()
    np.save(folder / OFFSETS, tokens.offsets)
    # The card comes last: it says that all is there.
    files = {name: digest_file(folder / name) for name in (TOKENS, OFFSETS)}
    write_json(folder / CARD, {"texts": len(tokens), "tokens": len(tokens.values_T), "files": files})
    remove_made(folder)
    return load_tokens(folder), copied


def _is_whole(folder: Path) -> bool:
    """Whether an earlier call came to its end, and its files are as it left them."""
    try:
        return all(digest_file(folder / name) == digest for name, digest in read_json(folder / CARD)["files"].items())
    except (DamagedArtifact, FileNotFoundError, KeyError, AttributeError):
        return False


def load_tokens(folder: Path) -> Ragged:
    """Open what `tokenize_into` wrote, the ids memory-mapped."""
    return Ragged(np.load(folder / TOKENS, mmap_mode="r"), np.load(folder / OFFSETS))


ENTRIES, LENGTHS, NOTE = "made.int32", "made-lengths.int64", "made.json"


@dataclass
class ListFile:
    """int32 lists while they are being made: appended chunk by chunk, a kill survived, read back as one memory map.

    Of the `rows_R` to be made, the lists of the first `done` are in `folder`, with `entries` entries in all. `digest`:
    of `rows_R`; lists made of other rows are of no use. `hashers`: of what was written to each file.
    """

    folder: Path
    rows_R: NDArray[np.int64]
    digest: str
    done: int = 0
    entries: int = 0
    hashers: dict[str, hashlib.blake2b] = field(default_factory=dict)

    @staticmethod
    def open(folder: Path, rows_R: NDArray[np.int64]) -> ListFile:
        """What an earlier call made of the same rows, or a new beginning."""
        file = ListFile(folder, rows_R, digest_of(rows_R.tobytes()).hex())
        if (folder / NOTE).exists() and not file._resume():
            logger.warning("%s: the tokens made so far are damaged or of other texts; they are made again", folder.name)
        for name, size in ((ENTRIES, 4 * file.entries), (LENGTHS, 8 * file.done)):
            with (folder / name).open("ab") as stream:
                stream.truncate(size)  # drops what was appended after the last note
            file.hashers.setdefault(name, hashlib.blake2b())
        file._keep()
        return file

    def _resume(self) -> bool:
        """Take what the note counts if it was made of the same rows, and is as it was written."""
        try:
            note = unsealed(read_json(self.folder / NOTE))
            sizes = {ENTRIES: 4 * note["entries"], LENGTHS: 8 * note["done"]}
            hashers = {name: _hash_of(self.folder / name, size) for name, size in sizes.items()}
        except (DamagedArtifact, FileNotFoundError, ValueError, KeyError):
            return False
        if note["rows"] != self.digest or note["files"] != {n: h.hexdigest() for n, h in hashers.items()}:
            return False
        self.done, self.entries, self.hashers = note["done"], note["entries"], hashers
        logger.info("%s: continuing after %d of %d texts", self.folder.name, self.done, len(self.rows_R))
        return True

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
            self.hashers[name].update(array.tobytes())
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
        files = {name: hasher.hexdigest() for name, hasher in self.hashers.items()}
        note = {"rows": self.digest, "done": self.done, "entries": self.entries, "files": files}
        write_json(self.folder / NOTE, sealed(note))


def _hash_of(path: Path, size: int) -> hashlib.blake2b:
    """Of the first `size` bytes of a file."""
    hasher = hashlib.blake2b()
    with path.open("rb") as stream:
        while size > 0 and (block := stream.read(min(size, 1 << 22))):
            hasher.update(block)
            size -= len(block)
    return hasher


def remove_made(folder: Path) -> None:
    """Remove the list file's parts once its lists are elsewhere."""
    for name in (NOTE, ENTRIES, LENGTHS):
        (folder / name).unlink(missing_ok=True)
