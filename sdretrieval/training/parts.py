"""Which parts of the student learn, and without dropout: what makes training affordable on a CPU.

Word embeddings are most of a small model's weights and learn little from a few hundred queries; dropout's random
numbers are dear on a CPU and its noise is not needed when the target is a soft distribution.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sdretrieval.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


def freeze(model: nn.Module, parts: Sequence[str]) -> int:
    """Stop gradients of every parameter whose name holds one of `parts`.

    `layers:3` names the embeddings and the lowest 3 layers. Returns the number of parameters that still learn.
    Raises ModelError for a part that names nothing, and where nothing is left to learn.
    """
    chosen = frozen_names([name for name, _ in model.named_parameters()], parts)
    for name, parameter in model.named_parameters():
        if name in chosen:
            parameter.requires_grad_(False)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


def frozen_names(names: Sequence[str], parts: Sequence[str]) -> set[str]:
    """Those parameters' `names` that `parts` freeze; changes nothing, so that a run can ask before it begins.

    Raises ModelError for a part that names nothing, and where nothing is left to learn.
    """
    chosen: set[str] = set()
    for part in parts:
        named = {name for name in names if _belongs(name, part)}
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


def _belongs(name: str, part: str) -> bool:
    lowest = re.fullmatch(r"layers:(\d+)", part)
    if lowest is None:
        return part in name
    layer = re.search(r"\blayers?\.(\d+)\.", name)
    return "embeddings" in name if layer is None else int(layer.group(1)) < int(lowest.group(1))


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
