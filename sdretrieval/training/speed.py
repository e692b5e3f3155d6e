"""What makes training affordable on a CPU: fewer parts learn, no dropout, and the arithmetic that is faster there.

Word embeddings are most of a small model's weights and learn little from a few hundred queries. Dropout's random
numbers are dear on a CPU and its noise is not needed when the target is a soft distribution. On some CPUs bfloat16
autocast is faster than float32, on others slower, and a step of training can gain what a mere forward pass does not: so
that is measured in a few seconds. A GPU says what it computes in: a batch as small as these measures how fast kernels
start.
"""

from __future__ import annotations

import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np

from sdretrieval.encode.batches import features_of
from sdretrieval.encode.encoder import Precision
from sdretrieval.encode.views import Specials
from sdretrieval.errors import ModelError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import nn


EMBEDDINGS = ("word_embeddings", "tok_embeddings", "embed_tokens", "embed_in", "wte.", ".shared.")
"""What families of models call the matrix of their tokens' vectors; the first name freezes it in all of them."""


def freeze(model: nn.Module, parts: Sequence[str]) -> int:
    """Stop gradients of every parameter whose name holds one of `parts`.

    `layers:3` names the embeddings and the lowest 3 layers. Returns the number of parameters that still learn.
    Raises ModelError for a part that names nothing, and if nothing is left to learn.
    """
    chosen = frozen_names([name for name, _ in model.named_parameters()], parts)
    for name, parameter in model.named_parameters():
        if name in chosen:
            parameter.requires_grad_(False)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def frozen_names(names: Sequence[str], parts: Sequence[str]) -> set[str]:
    """Those parameters' `names` that `parts` freeze; changes nothing, so that a run can ask before it begins.

    Raises ModelError for a part that names nothing, and if nothing is left to learn.
    """

    def layer_of(name: str) -> int:
        layer = re.search(r"\blayers?\.(\d+)\.", name)
        embeds = any(word in name for word in ("embeddings", *EMBEDDINGS))
        return int(layer.group(1)) if layer else -1 if embeds else sys.maxsize

    chosen: set[str] = set()
    for part in parts:
        lowest = re.fullmatch(r"layers:(\d+)", part)
        words = EMBEDDINGS if part == EMBEDDINGS[0] else (part,)
        named = {
            name
            for name in names
            if (layer_of(name) < int(lowest.group(1)) if lowest else any(word in name for word in words))
        }
        if not named:
            examples = sorted({re.sub(r"\.\d+\.", ".0.", name) for name in names})[:6]
            raise ModelError(
                f"train.freeze: no parameter's name holds {part!r}; names look like {', '.join(examples)}; "
                "'layers:N' freezes the embeddings and the lowest N layers"
            )
        chosen |= named
    if len(chosen) == len(set(names)):
        raise ModelError(f"train.freeze: {', '.join(parts)} leaves no parameter to learn; freeze less")
    return chosen


@contextmanager
def dropout_at(model: nn.Module, rate: float) -> Iterator[None]:
    """Set every dropout of the model to `rate`; the model's own rates come back at the end."""
    from torch import nn

    modules = [module for module in model.modules() if isinstance(module, nn.Dropout)]
    before = [module.p for module in modules]
    for module in modules:
        module.p = rate
    try:
        yield
    finally:
        for module, own in zip(modules, before, strict=True):
            module.p = own


SHORT = 160
"""Tokens up to which attention step by step trains faster than fused (benchmarks/attention.py)."""


@contextmanager
def quick_attention(model: nn.Module) -> Iterator[None]:
    """Compute short texts' attention step by step while a model trains in bfloat16 on a CPU: with fused attention an
    update takes 1.6 to 2.2 times as long there (`benchmarks.attention`). Longer texts, float32 and GPUs are left alone.
    """
    import torch

    first: Any = next(iter(model.children()), None)
    transformer: Any = getattr(first, "auto_model", None)
    if getattr(getattr(transformer, "config", None), "_attn_implementation", None) != "sdpa":
        yield  # it has none, or a kind of its own
        return

    def choose(_: Any, args: tuple[Any, ...]) -> None:
        ids = args[0].get("input_ids")
        short = ids is not None and ids.device.type == "cpu" and ids.shape[1] <= SHORT
        transformer.config._attn_implementation = "eager" if short and torch.is_autocast_enabled("cpu") else "sdpa"

    hook = first.register_forward_pre_hook(choose)
    try:
        yield
    finally:
        hook.remove()
        transformer.config._attn_implementation = "sdpa"


WORTH_IT = 1.15
"""Ratio of speeds from which reduced precision is taken: below it, noise would decide."""
HOPELESS = 0.8
"""A first ratio below this ends the measurement."""
FEW_TOKENS, FAR = 16, 0.4
"""If a processor has no bfloat16, a pass in it takes seconds: a ratio below FAR on a few tokens is answer enough."""


def faster_precision(
    model: SentenceTransformer, *, training: bool, tokens: int = 128, rounds: int = 3
) -> tuple[Precision, str]:
    """The faster precision, and why in a few words.

    On a CPU the ratio float32 / bfloat16 seconds decides: interleaved, the median of `rounds`; if bfloat16 is far
    slower, one round decides, or even a few tokens. `training` measures a pass forward and back, else forward alone.
    A GPU takes bfloat16 if it computes in it, which is not timed.
    """
    import torch

    if model.device.type == "cuda":
        name = torch.cuda.get_device_name(model.device)
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return "bfloat16", f"{name} computes in bfloat16"
        return "float32", f"{name} does not compute in bfloat16"

    def measured(count: int) -> float:
        seconds = {reduced: _seconds(model, count, reduced, training) for reduced in (False, True)}
        return seconds[False] / seconds[True]

    few = min(FEW_TOKENS, tokens)
    measured(few)  # what is only done once is done
    ratios = [measured(few)]
    if ratios[0] >= FAR:
        ratios = [measured(tokens)]
        while len(ratios) < rounds and ratios[0] >= HOPELESS:
            ratios.append(measured(tokens))
    ratio = statistics.median(ratios)
    return ("bfloat16" if ratio >= WORTH_IT else "float32"), f"bfloat16 {ratio:.2f} times as fast as float32"


def _seconds(model: SentenceTransformer, tokens: int, reduced: bool, training: bool) -> float:
    import torch

    device, some_token = model.device, 5
    sequences = [np.full(tokens, some_token)] * 8
    features = {name: value.to(device) for name, value in features_of(model, sequences, Specials((), ())).items()}

    attention = quick_attention(model) if training else nullcontext()
    start = time.perf_counter()
    with torch.set_grad_enabled(training), torch.autocast(device.type, torch.bfloat16, enabled=reduced), attention:
        vectors = model(features)["sentence_embedding"]
    if training:
        vectors.float().sum().backward()
        model.zero_grad(set_to_none=True)
    return time.perf_counter() - start
