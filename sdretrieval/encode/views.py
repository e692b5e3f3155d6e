"""What part of a text a side may see.

The student sees the first `max_tokens` tokens. A full-context teacher sees every token: overlapping windows of the
student's length, aggregated by their maximum, even if a document is longer than the model's positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sdretrieval.errors import ModelError
from sdretrieval.ragged import Array


@dataclass(frozen=True)
class Specials:
    """Token ids that a model wants around every sequence, and the prompt's ids, which open every window."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    prompt: tuple[int, ...] = ()

    @property
    def count(self) -> int:
        """Positions that are not the text's own."""
        return len(self.prefix) + len(self.suffix) + len(self.prompt)


@dataclass(frozen=True)
class View:
    """`windows: first` cuts at `max_tokens` (specials included), `all` covers the text, a new window every `stride`.

    `stride` counts text tokens; half the window if None.
    """

    max_tokens: int
    windows: Literal["first", "all"] = "first"
    stride: int | None = None

    def spans(self, length: int, specials: int) -> list[tuple[int, int]]:
        """(start, end) of each window over a text of `length` tokens; at least one, even for an empty text.

        Raises ModelError if specials and prompt fill `max_tokens`.
        """
        room = self.max_tokens - specials
        if room < 1:
            raise ModelError(
                f"max_tokens {self.max_tokens} leaves no room beside {specials} special and prompt tokens; "
                "raise max_tokens or shorten the prompt"
            )
        if self.windows == "first" or length <= room:
            return [(0, min(length, room))]
        step = min(self.stride or max(room // 2, 1), room)
        starts = range(0, length - room + step, step)
        return [(min(start, length - room), min(start, length - room) + room) for start in starts]

    def counts(self, lengths_N: Array, specials: int) -> Array:
        """How many windows `spans` gives texts of these lengths, shape (N,)."""
        room = self.max_tokens - specials
        if self.windows == "first" or room < 1:
            return np.ones(len(lengths_N), dtype=np.int64)
        step = min(self.stride or max(room // 2, 1), room)
        beyond_N = np.maximum(np.asarray(lengths_N, dtype=np.int64) - room, 0)
        return 1 + -(-beyond_N // step)

    def cut(self, content: Array, specials: Specials) -> list[Array]:
        """The windows of one text as token id arrays ready for the model."""
        return [
            np.concatenate(
                [specials.prefix, specials.prompt, content[start:end], specials.suffix],
                dtype=np.int32,
                casting="unsafe",
            )
            for start, end in self.spans(len(content), specials.count)
        ]
