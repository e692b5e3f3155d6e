"""Which arithmetic is faster on this machine, in training and in encoding: measured in a few seconds, never assumed.

On some CPUs bfloat16 autocast is faster than float32, on others slower, and a step of training can gain what a mere
forward pass does not.
"""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from sdretrieval.encode.encoder import Precision

if TYPE_CHECKING:
    import torch
    from sentence_transformers import SentenceTransformer

WORTH_IT = 1.15
"""Ratio of speeds from which reduced precision is taken: below it, noise would decide."""
HOPELESS = 0.8
"""A first ratio below this ends the measurement."""
FEW_TOKENS, FAR = 16, 0.4
"""Where a processor has no bfloat16, a pass in it takes seconds: a ratio below FAR on a few tokens is answer enough."""


def faster_precision(
    model: SentenceTransformer, *, training: bool, tokens: int = 128, rounds: int = 3
) -> tuple[Precision, float]:
    """The faster precision, and the ratio float32 / bfloat16 seconds: interleaved, the median of `rounds`.

    `training` measures a pass forward and back, else forward alone. A GPU without bfloat16 gets float32 (ratio 0).
    Where bfloat16 is far slower, one round decides, or even a few tokens.
    """
    import torch

    if model.device.type == "cuda" and not torch.cuda.is_bf16_supported():
        return "float32", 0.0

    def measured(count: int) -> float:
        seconds = {reduced: _seconds(model, count, reduced, training) for reduced in (False, True)}
        return seconds[False] / seconds[True]

    few = min(FEW_TOKENS, tokens)
    measured(tokens if model.device.type == "cuda" else few)  # what is only done once is done
    ratios = [measured(few)]
    if ratios[0] >= FAR:
        ratios = [measured(tokens)]
        while len(ratios) < rounds and ratios[0] >= HOPELESS:
            ratios.append(measured(tokens))
    ratio = statistics.median(ratios)
    return ("bfloat16" if ratio >= WORTH_IT else "float32"), ratio


def _seconds(model: SentenceTransformer, tokens: int, reduced: bool, training: bool) -> float:
    import torch

    device = model.device
    ids = torch.full((8, tokens), (model.tokenizer.pad_token_id or 0) + 5, dtype=torch.long, device=device)
    features = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "token_type_ids": torch.zeros_like(ids)}
    if "token_type_ids" not in model.tokenizer.model_input_names:
        features.pop("token_type_ids")
    _wait(device)
    start = time.perf_counter()
    with torch.set_grad_enabled(training), torch.autocast(device.type, torch.bfloat16, enabled=reduced):
        vectors = model(features)["sentence_embedding"]
    if training:
        vectors.float().sum().backward()
        model.zero_grad(set_to_none=True)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    """A GPU works behind the caller's back: its seconds count only once it is done."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
