"""A cross-encoder as a teacher: it reads query and document together, which no bi-encoder can.

Raw logits in float32 (a sigmoid saturates near 1, in bfloat16 it rounds good candidates to exactly 1). A document
longer than the model's limit is read in overlapping windows; its logit is the best window's. Nogueira and Cho (2019).
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from sdretrieval.encode.batches import budget_batches, usual_batch_tokens
from sdretrieval.encode.locate import locate_model, model_digest
from sdretrieval.encode.pace import Pace
from sdretrieval.encode.student import check_positions, positions_of, torch_device
from sdretrieval.errors import ModelError, NumericError
from sdretrieval.progress import Progress
from sdretrieval.ragged import Array, Ragged
from sdretrieval.teachers.pairs import PairCache, pair_key

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

logger = logging.getLogger("sdretrieval")

PAIRS_PER_SHARD = 512
"""A killed run loses at most this many scored pairs."""
WINDOWS_AT_ONCE = 4096
"""About how many windows are held as tokens: a shard of book-long documents has hundreds of thousands."""


class CrossEncoderTeacher:
    """Scores pairs once, remembers them in a `PairCache`. Not free: it scores lists, never a whole batch."""

    asymmetry = "reads query and document together, token against token"

    def __init__(
        self,
        model: CrossEncoder,
        *,
        name: str,
        query_text: Callable[[int], str],
        document_text: Callable[[int], str],
        cache: PairCache,
        max_tokens: int = 512,
        windows: Literal["first", "all"] = "first",
        stride: int | None = None,
        batch_tokens: int | None = None,
    ) -> None:
        self.name = name
        self._model, self._cache = model, cache
        self._query_text, self._document_text = query_text, document_text
        self._max_tokens, self._windows, self._stride = max_tokens, windows, stride
        network = model.model
        self._batch_tokens = batch_tokens or usual_batch_tokens(network.device.type if network is not None else "cpu")
        self.newly_scored = 0

    def score(self, query_rows_Q: Array, candidates: Ragged) -> Ragged:
        """See Teacher.score. Pairs that the cache knows cost nothing."""
        queries_T, documents_T = query_rows_Q[candidates.list_of_entry], candidates.values_T

        def pair(entry: int) -> tuple[str, str]:  # all texts at once would be a corpus, a document in each of its lists
            return self._query_text(int(queries_T[entry])), self._document_text(int(documents_T[entry]))

        return candidates.with_values(self._scored(len(documents_T), pair))

    def score_texts(self, pairs: Sequence[tuple[str, str]]) -> Array:
        """The logit of each pair of a query's and a document's text."""
        return self._scored(len(pairs), pairs.__getitem__)

    def _scored(self, count: int, pair: Callable[[int], tuple[str, str]]) -> Array:
        keys = [pair_key(*pair(i)) for i in range(count)]
        unknown = np.isnan(self._cache.get(keys))
        todo = sorted({keys[i]: i for i in np.flatnonzero(unknown).tolist()}.values())
        self.newly_scored += len(todo)
        what, network = f"score with {self.name}", self._model.model
        device = network.device.type if network is not None else "cpu"
        with Progress(what, len(todo), "pairs") as progress, Pace(what, device) as pace:
            for start in range(0, len(todo), PAIRS_PER_SHARD):
                block = todo[start : start + PAIRS_PER_SHARD]
                pairs = [pair(i) for i in block]
                logits = self._logits(pairs, progress.advance, pace)
                _check_finite(self.name, logits, pairs)
                self._cache.add([keys[i] for i in block], logits)
        return self._cache.get(keys)

    def _logits(self, pairs: Sequence[tuple[str, str]], advance: Callable[[int], None], pace: Pace) -> Array:
        """The best window's logit of each pair."""
        import torch

        network = self._model.model
        assert network is not None
        network.eval()
        logits = np.full(len(pairs), -np.inf, dtype=np.float32)
        for encoded, owners in self._blocks(pairs):
            count = int(owners[-1] - owners[0]) + 1
            done = reported = 0
            for batch in budget_batches([len(ids["input_ids"]) for ids in encoded], self._batch_tokens):
                features = self._model.tokenizer.pad([encoded[i] for i in batch], return_tensors="pt")
                with torch.inference_mode():
                    scores = network(**features.to(network.device)).logits.float().reshape(len(batch), -1)[:, 0]
                with np.errstate(invalid="ignore"):  # NaN goes on as NaN, and is reported with its pair
                    np.maximum.at(logits, owners[batch], scores.cpu().numpy())
                # By work: windows of one length share a batch, so that most pairs end in the last batches.
                done, before = done + len(batch), reported
                reported = count * done // len(encoded)
                advance(reported - before)
                pace.step(sum(len(encoded[i]["input_ids"]) for i in batch))
        return logits

    def _blocks(self, pairs: Sequence[tuple[str, str]]) -> Iterator[tuple[list[dict[str, Any]], Array]]:
        """Token windows, and the pair that each belongs to, some `WINDOWS_AT_ONCE` at a time; no pair is split."""
        encoded: list[dict[str, Any]] = []
        owners: list[int] = []
        for position, (query, document) in enumerate(pairs):
            windows = self._pair_windows(query, document)
            encoded += windows
            owners += [position] * len(windows)
            if len(encoded) >= WINDOWS_AT_ONCE:
                yield encoded, np.asarray(owners)
                encoded, owners = [], []
        if encoded:
            yield encoded, np.asarray(owners)

    def _pair_windows(self, query: str, document: str) -> list[dict[str, Any]]:
        tokenizer = self._model.tokenizer
        query_length = len(tokenizer(query, add_special_tokens=False, verbose=False)["input_ids"])
        if query_length > self._max_tokens // 2:  # a query this long leaves no room for windows: cut both sides
            return [dict(tokenizer(query, document, truncation="longest_first", max_length=self._max_tokens))]
        if self._windows == "first":
            return [dict(tokenizer(query, document, truncation="only_second", max_length=self._max_tokens))]
        room = self._max_tokens - query_length - tokenizer.num_special_tokens_to_add(pair=True)
        overlap = max(room - (self._stride or room // 2), 0)
        encoded = tokenizer(
            query, document, truncation="only_second", max_length=self._max_tokens,
            return_overflowing_tokens=True, stride=overlap,
        )  # fmt: skip
        names = [key for key in tokenizer.model_input_names if key in encoded]
        return [{key: encoded[key][i] for key in names} for i in range(len(encoded["input_ids"]))]


def load_cross_encoder(name: str, *, max_tokens: int, device: str = "auto") -> tuple[CrossEncoder, str]:
    """The model in float32 and its digest. Raises ModelError if it is absent, no reranker, or too short."""
    import torch
    from safetensors import SafetensorError
    from sentence_transformers import CrossEncoder

    folder = locate_model(name)
    check_is_reranker(name, folder)
    try:
        model = CrossEncoder(str(folder), device=torch_device(device), activation_fn=torch.nn.Identity())
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as problem:
        raise ModelError(f"model {name!r} in {folder} does not load as a cross-encoder: {problem}") from problem
    _check_one_output(name, model.num_labels)
    check_positions(name, positions_of(model[0]), max_tokens)
    prompt = model.prompts.get(model.default_prompt_name or "")
    if prompt:  # pairs are read as they are: a reranker that wants an instruction must not get worse unnoticed
        logger.warning("cross-encoder %s asks for the prompt %r, which is not put before its pairs", name, prompt)
    return model.float(), model_digest(folder)


def check_is_reranker(name: str, folder: Path) -> None:
    """Raise ModelError if the files beside the weights say that `folder` holds no reranker; loads nothing.

    A bi-encoder loads as a cross-encoder without complaint: with a random head.
    """
    card = folder / "config.json"
    settings = json.loads(card.read_text(encoding="utf8")) if card.is_file() else {}
    kinds = settings.get("architectures")
    if not kinds:
        modules = folder / "modules.json"
        if modules.is_file() and "Pooling" in modules.read_text(encoding="utf8"):
            raise ModelError(
                f"model {name!r} is no cross-encoder: {modules.name} names a Pooling, as a bi-encoder's does, expected "
                "a model with a classification head; choose a reranker"
            )
    elif not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        raise ModelError(
            f"model {name!r} is no cross-encoder: its architecture is {', '.join(kinds)}, expected one that ends in "
            "ForSequenceClassification; choose a reranker"
        )
    else:  # transformers writes the labels unless they are its default of two
        labels = settings.get("id2label")
        _check_one_output(name, settings.get("num_labels", 2) if labels is None else len(labels))


def _check_one_output(name: str, outputs: int) -> None:
    if outputs != 1:
        raise ModelError(f"cross-encoder {name!r} has {outputs} outputs, expected 1 relevance logit; choose a reranker")


def _check_finite(name: str, logits: Array, pairs: Sequence[tuple[str, str]]) -> None:
    bad = np.flatnonzero(~np.isfinite(logits))
    if len(bad):
        query, document = pairs[int(bad[0])]
        raise NumericError(
            f"teacher {name}: {len(bad)} scores are not finite, the first for query {query[:60]!r} and document "
            f"{document[:60]!r}; load the model in float32 or choose another"
        )
