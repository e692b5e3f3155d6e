"""Pairs of query and document as a cross-encoder reads them: tokens within its limit, of which the document gives way.

A reranker reads the two texts as the tokenizer joins them, or inside a prompt template (a language model that is asked
for yes or no, as Qwen3-Reranker is). Neither the query nor a template's instruction is ever cut for the document; the
model's own prompt is put where the library puts it. Only a query of more than half the room is cut, with its document.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sdretrieval.errors import ModelError
from sdretrieval.ragged import Array
from sdretrieval.teachers.pair_teacher import Pair

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

WINDOWS_AT_ONCE = 4096
"""About how many windows are held as tokens: a shard of book-long documents has hundreds of thousands."""
LEAST_ROOM = 16
"""Tokens that a template must leave for query and document."""

BORDERS = 4
"""Tokens that a window may gain where its text meets the template's. Windows after the first leave room for them: if
one were cut once more, there would be a gap."""

Encoded = dict[str, Any]


def is_template(model: CrossEncoder) -> bool:
    """Whether the library puts a pair into the tokenizer's chat template."""
    return "message" in getattr(model[0], "modality_config", {})


def prompt_of(model: CrossEncoder) -> str:
    """The prompt that the library's `predict` uses: the model's default, mostly none."""
    return model.prompts.get(model.default_prompt_name or "") or ""


class PairWindows:
    """Token windows of pairs: `first` alone or `all`, each of at most `max_tokens` with everything around it."""

    def __init__(
        self,
        model: CrossEncoder,
        max_tokens: int,
        windows: Literal["first", "all"] = "first",
        stride: int | None = None,
    ) -> None:
        self._model, self._tokenizer, self._prompt = model, model.tokenizer, prompt_of(model)
        self._max_tokens, self._windows, self._stride = max_tokens, windows, stride
        self._template = is_template(model)
        self._around = len(self._templated([("", "")])[0]["input_ids"]) if self._template else 0
        # What the network is told beside the tokens, the same for every batch: the kind of input, which logits to keep.
        features = model.preprocess([("a", "b")], prompt=self._prompt)
        self._beside = {name: value for name, value in features.items() if not hasattr(value, "shape")}

    def check_room(self, name: str) -> None:
        """Raise ModelError if the template leaves no room for texts."""
        if self._max_tokens - self._around < LEAST_ROOM:
            raise ModelError(
                f"cross-encoder {name!r} puts pairs into a template of {self._around} tokens, max_tokens is "
                f"{self._max_tokens}; set max_tokens to at least {self._around + LEAST_ROOM}, and to some "
                "hundreds more for documents"
            )

    def features(self, encoded: Sequence[Encoded]) -> dict[str, Any]:
        """A batch of windows, padded on the side that the model wants, as the library's `preprocess` gives it."""
        return {**self._tokenizer.pad(list(encoded), return_tensors="pt"), **self._beside}

    def blocks(self, pairs: Sequence[Pair]) -> Iterator[tuple[list[Encoded], Array]]:
        """Windows, and the pair that each belongs to, some `WINDOWS_AT_ONCE` at a time; no pair is split."""
        encoded: list[Encoded] = []
        owners: list[int] = []
        texts: list[Pair] = []
        for position, pair in enumerate(pairs):
            if self._template:
                pieces = self._pieces(*pair)
                texts += pieces
                owners += [position] * len(pieces)
            else:
                windows = self._joined(self._prompt + pair[0], pair[1])
                encoded += windows
                owners += [position] * len(windows)
            if len(owners) >= WINDOWS_AT_ONCE:
                yield encoded or self._fitted(texts), np.asarray(owners)
                encoded, owners, texts = [], [], []
        if owners:
            yield encoded or self._fitted(texts), np.asarray(owners)

    def _joined(self, query: str, document: str) -> list[Encoded]:
        """Windows of a pair that the tokenizer joins."""
        tokenizer = self._tokenizer
        query_length = len(tokenizer(query, add_special_tokens=False, verbose=False)["input_ids"])
        cut: dict[str, Any] = {"truncation": "only_second"}
        if query_length > self._max_tokens // 2:  # a query this long leaves no room for windows: cut both sides
            cut = {"truncation": "longest_first"}
        elif self._windows == "all":
            room = self._max_tokens - query_length - tokenizer.num_special_tokens_to_add(pair=True)
            cut |= {"return_overflowing_tokens": True, "stride": room - self._step(room)}
        # A list of pairs, even of one: a single pair with an empty document would be read as no pair at all.
        encoded = tokenizer([(query, document)], max_length=self._max_tokens, **cut)
        return _rows(tokenizer, encoded)

    def _step(self, room: int) -> int:
        """Tokens from one window's start to the next."""
        return min(self._stride or room - room // 2, room)

    def _pieces(self, query: str, document: str) -> list[Pair]:
        """The query with each window of the document, as texts for a template: its tokens depend on what is around."""
        room = self._max_tokens - self._around
        of_query, of_document = self._spans(query), self._spans(document)
        if len(of_query) > room // 2 and len(of_query) + len(of_document) > room:
            kept = min(len(of_query), max(room // 2, room - len(of_document)))
            query, of_query = query[: of_query[kept - 1][1]], of_query[:kept]
        room -= len(of_query)
        first = (query, _cut(document, of_document[:room]))
        if self._windows == "first" or len(of_document) <= room:
            return [first]
        room -= BORDERS
        step = self._step(room)
        starts = range(step, len(of_document) - room + step, step)  # up to the first window that reaches the end
        return [first, *((query, _cut(document, of_document[start : start + room])) for start in starts)]

    def _fitted(self, pairs: Sequence[Pair]) -> list[Encoded]:
        """Pairs in the template. Where two texts meet, tokens may fall otherwise: a document then loses a few more."""
        encoded = self._templated(pairs)
        for i, (query, document) in enumerate(pairs):
            while (over := len(encoded[i]["input_ids"]) - self._max_tokens) > 0 and document:
                document = _cut(document, self._spans(document)[:-over])
                encoded[i] = self._templated([(query, document)])[0]
        return encoded

    def _templated(self, pairs: Sequence[Pair]) -> list[Encoded]:
        """Pairs as the library tokenizes them, uncut."""
        uncut = {"text": {"padding": False, "truncation": False}, "common": {"return_tensors": None}}
        features = self._model.preprocess(list(pairs), prompt=self._prompt, processing_kwargs=uncut)
        return _rows(self._tokenizer, features)

    def _spans(self, text: str) -> list[tuple[int, int]]:
        """First and last character of each token."""
        found = self._tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        return list(found["offset_mapping"])


def _rows(tokenizer: Any, encoded: Mapping[str, Any]) -> list[Encoded]:
    names = [name for name in tokenizer.model_input_names if name in encoded]
    return [{name: encoded[name][i] for name in names} for i in range(len(encoded["input_ids"]))]


def _cut(text: str, spans: Sequence[tuple[int, int]]) -> str:
    return text[spans[0][0] : spans[-1][1]] if spans else ""
