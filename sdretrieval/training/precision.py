"""Which arithmetic trains faster on this machine: measured in a few seconds, never assumed.

On some CPUs bfloat16 autocast is faster than float32, on others slower; a GPU that has it takes it unmeasured.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

WORTH_IT = 1.15
"""Ratio of speeds from which reduced precision is taken: below it, noise would decide."""


def faster_precision(
    model: SentenceTransformer, tokens: int = 128, rounds: int = 3
) -> tuple[Literal["float32", "bfloat16"], float]:
    """The precision to train in, and the ratio float32 / bfloat16 seconds: interleaved, the median of `rounds`."""
    import torch

    if model.device.type == "cuda":
        return ("bfloat16", float("inf")) if torch.cuda.is_bf16_supported() else ("float32", 0.0)
    ratios = []
    for turn in range(rounds + 1):
        seconds = {reduced: _step_seconds(model, tokens, reduced) for reduced in (False, True)}
        if turn:  # the first turn warms up
            ratios.append(seconds[False] / seconds[True])
    ratio = statistics.median(ratios)
    return ("bfloat16" if ratio >= WORTH_IT else "float32"), ratio


def _step_seconds(model: SentenceTransformer, tokens: int, reduced: bool) -> float:
    import torch

    ids = torch.full((8, tokens), model.tokenizer.pad_token_id or 0, dtype=torch.long) + 5
    features = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    if "token_type_ids" not in model.tokenizer.model_input_names:
        features.pop("token_type_ids")
    start = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=reduced):
        vectors = model(features)["sentence_embedding"]
    vectors.float().sum().backward()
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - start
