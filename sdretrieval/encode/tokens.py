"""Token ids of every text, once per tokenizer, as a ragged memory map that all stages and generations read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdretrieval.encode.known import DIGESTS, Donor, find_known, say_known, text_digests, unknown_rows
from sdretrieval.encode.list_file import ListFile, allocate_in, remove_made
from sdretrieval.encode.views import Specials
from sdretrieval.progress import Progress
from sdretrieval.ragged import Array, Ragged, gathered

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXTS_PER_CALL = 1000
"""A killed run loses the tokens of at most this many texts."""
TOKENS, CARD = "tokens.npy", "tokens.json"


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
    found = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return [np.asarray(ids, dtype=np.int32) for ids in found]


def tokenize_into(
    folder: Path, texts: Sequence[str], tokenizer: Any, description: str = "tokenize", donors: Sequence[Donor] = ()
) -> tuple[Ragged, int]:
    """Token ids of each text, saved in `folder`, and how many texts' ids came from `donors`, which are results of the
    same tokenizer: they are the very ids that it would give again.

    Continues where an earlier call stopped, and finds all done after one that ended: the folder must belong to these
    texts and this tokenizer. Memory does not grow with the texts but for 40 bytes of each.
    """
    digests_N = _digests(folder, texts)
    known = find_known(digests_N, donors)
    new_rows = unknown_rows(len(texts), known)
    reused = len(texts) - len(new_rows)
    if (folder / CARD).exists():
        remove_made(folder)
        return load_tokens(folder), reused
    say_known(description, reused, len(texts), "texts")
    file = ListFile.open(folder, new_rows)
    with Progress(description, len(new_rows), "texts") as progress:
        progress.resume(file.done)
        for rows in file.chunks(TEXTS_PER_CALL):
            file.write(_ids([texts[row] for row in rows.tolist()], tokenizer))
            progress.advance(len(rows))
    new = file.read()
    parts = [(one.rows_N, load_tokens(one.folder), one.their_rows_N) for one in known]
    tokens = gathered(
        len(texts), [*parts, (new_rows, new, np.arange(len(new)))], np.int32, allocate_in(folder / TOKENS)
    )
    _finish(tokens, folder)
    remove_made(folder)
    return load_tokens(folder), reused


def _digests(folder: Path, texts: Sequence[str]) -> Array:
    """Of all texts: those that an earlier call saved, whole or not at all, or new ones."""
    path = folder / DIGESTS
    if not path.exists():
        fresh = folder / f"new-{DIGESTS}"
        np.save(fresh, text_digests(texts))
        fresh.replace(path)
    digests_N: Array = np.load(path)
    return digests_N


def save_tokens(tokens: Ragged, folder: Path) -> None:
    """Write `tokens.npy` (int32) and `offsets.npy` (int64)."""
    np.save(folder / TOKENS, tokens.values_T)
    _finish(tokens, folder)


def _finish(tokens: Ragged, folder: Path) -> None:
    """What stands beside the ids; the card, which says that all is there, comes last."""
    if isinstance(tokens.values_T, np.memmap):
        tokens.values_T.flush()
    np.save(folder / "offsets.npy", tokens.offsets)
    card = folder / f"{CARD}.new"
    card.write_text(json.dumps({"texts": len(tokens), "tokens": len(tokens.values_T)}) + "\n")
    card.replace(folder / CARD)


def load_tokens(folder: Path) -> Ragged:
    """Open what `save_tokens` wrote, the ids memory-mapped."""
    return Ragged(np.load(folder / TOKENS, mmap_mode="r"), np.load(folder / "offsets.npy"))
