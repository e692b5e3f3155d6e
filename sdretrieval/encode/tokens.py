"""Token ids of every text, once per tokenizer, as a ragged memory map that all stages and generations read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sdretrieval.encode.known import DIGESTS, Donor, find_known, say_known, text_digests, unknown_rows
from sdretrieval.encode.views import Specials
from sdretrieval.progress import Progress
from sdretrieval.ragged import Array, Ragged, gathered

if TYPE_CHECKING:
    from collections.abc import Sequence

TEXTS_PER_CALL = 1000


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
            block = list(texts[start : start + TEXTS_PER_CALL])
            # `verbose=False`: a text longer than the model is no mistake here, the view decides what is seen.
            found = tokenizer(block, add_special_tokens=False, verbose=False)["input_ids"]
            lists += [np.asarray(ids, dtype=np.int32) for ids in found]
            progress.advance(len(block))
    return Ragged.of(lists, np.int32)


def tokenize_into(
    folder: Path, texts: Sequence[str], tokenizer: Any, description: str = "tokenize", donors: Sequence[Donor] = ()
) -> tuple[Ragged, int]:
    """Token ids of each text, saved in `folder`, and how many texts' ids came from `donors`, which are results of the
    same tokenizer: they are the very ids that it would give again."""
    digests_N = text_digests(texts)
    known = find_known(digests_N, donors)
    new_rows = unknown_rows(len(texts), known)
    say_known(description, len(texts) - len(new_rows), len(texts), "texts")
    new = tokenize([texts[row] for row in new_rows.tolist()], tokenizer, description)
    parts = [(one.rows_N, load_tokens(one.folder), one.their_rows_N) for one in known]
    tokens = gathered(len(texts), [*parts, (new_rows, new, np.arange(len(new)))], np.int32)
    save_tokens(tokens, folder)
    np.save(folder / DIGESTS, digests_N)
    return tokens, len(texts) - len(new_rows)


def save_tokens(tokens: Ragged, folder: Path) -> None:
    """Write `tokens.npy` (int32) and `offsets.npy` (int64)."""
    np.save(folder / "tokens.npy", tokens.values_T)
    np.save(folder / "offsets.npy", tokens.offsets)
    (folder / "tokens.json").write_text(json.dumps({"texts": len(tokens), "tokens": len(tokens.values_T)}) + "\n")


def load_tokens(folder: Path) -> Ragged:
    """Open what `save_tokens` wrote, the ids memory-mapped."""
    return Ragged(np.load(folder / "tokens.npy", mmap_mode="r"), np.load(folder / "offsets.npy"))
