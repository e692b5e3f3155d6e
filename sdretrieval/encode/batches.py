"""Batches by token budget, and what a model takes of one: sequences sorted by length, so that little is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sdretrieval.encode.views import Specials
from sdretrieval.ragged import Array

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

CPU_BATCH_TOKENS, OTHER_BATCH_TOKENS = 2048, 8192
"""A CPU is fastest while a batch's activations stay in its caches: 2,048 tokens a batch encode 1.15 times as fast as
8,192 (docs/ABLATIONS.md). What is neither CPU nor CUDA device was not measured."""
TOKENS_A_MULTIPROCESSOR = 512
"""A GPU has no use for caches but needs enough to do: tiles of some hundred rows on each of its multiprocessors."""
BYTES_A_TOKEN = 1 << 18
"""Activations of a token in a large encoder (width 1,024, inner width 4,096, float32), several at a time."""
GPU_MEMORY_SHARE = 0.25
"""Of a GPU that a batch's activations may take, so that weights and an index fit beside them."""


def usual_batch_tokens(device: str) -> int:
    """Tokens of a batch, padding included, on a kind of device (`cpu`, `cuda`): what keeps it busy and fits."""
    if device == "cpu":
        return CPU_BATCH_TOKENS
    if device != "cuda":
        return OTHER_BATCH_TOKENS
    import torch

    gpu = torch.cuda.get_device_properties(torch.cuda.current_device())
    fits = int(GPU_MEMORY_SHARE * gpu.total_memory / BYTES_A_TOKEN)
    return max(CPU_BATCH_TOKENS, min(TOKENS_A_MULTIPROCESSOR * gpu.multi_processor_count, fits))


def budget_batches(lengths: Sequence[int] | Array, batch_tokens: int) -> Iterator[Array]:
    """Positions grouped so that (count x longest) stays within `batch_tokens`; longest first: memory fails early.

    A sequence longer than `batch_tokens` gets a batch of its own.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    start = 0
    while start < len(order):
        count = max(1, batch_tokens // max(int(lengths[order[start]]), 1))
        yield order[start : start + count]
        start += count


def pad(sequences: Sequence[Array], pad_id: int) -> tuple[Array, Array]:
    """(ids_BL, mask_BL) int64, padded on the right to the longest sequence."""
    longest = max(map(len, sequences))
    ids_BL = np.full((len(sequences), longest), pad_id, dtype=np.int64)
    mask_BL = np.zeros((len(sequences), longest), dtype=np.int64)
    for row, sequence in enumerate(sequences):
        ids_BL[row, : len(sequence)] = sequence
        mask_BL[row, : len(sequence)] = 1
    return ids_BL, mask_BL


def features_of(model: SentenceTransformer, sequences: Sequence[Array], specials: Specials) -> dict[str, Any]:
    """input_ids, attention_mask (and token_type_ids, prompt_length if the model uses them) on the CPU."""
    import torch

    ids_BL, mask_BL = pad(sequences, model.tokenizer.pad_token_id or 0)
    features: dict[str, Any] = {"input_ids": torch.from_numpy(ids_BL), "attention_mask": torch.from_numpy(mask_BL)}
    if "token_type_ids" in model.tokenizer.model_input_names:
        features["token_type_ids"] = torch.zeros_like(features["input_ids"])
    if specials.prompt and not all(getattr(module, "include_prompt", True) for module in model):
        features["prompt_length"] = len(specials.prefix) + len(specials.prompt)
    return features
