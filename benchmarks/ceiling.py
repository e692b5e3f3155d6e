"""The machine's ceiling: how near a side comes to what matrix products alone would take, in the same rounds.

Legend: N texts, D dims, F the width between a layer's two products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.sides import Side, Work

PRODUCT = 1024
PRODUCTS = 60
"""Of square matrices of that side, in a round."""
SIDE = "products"
"""The name of the side that multiplies."""


def products(needed: float) -> Work:
    """float32 products alone; gives the operations of a round, and the `needed` ones of the work beside it."""
    import torch

    one, other = torch.randn(PRODUCT, PRODUCT), torch.randn(PRODUCT, PRODUCT)

    def work() -> tuple[float, float]:
        for _ in range(PRODUCTS):
            one @ other
        return 2.0 * PRODUCTS * PRODUCT**3, needed

    return work


def operations(config: Any, lengths_N: Any) -> float:
    """Floating-point operations of a BERT encoder over sequences without padding: four D x D products and two D x F
    a token and layer, and the two products of attention, which grow with the square of the length."""
    size, wide, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    lengths = np.asarray(lengths_N, dtype=np.float64)
    return float(layers * (lengths.sum() * 2 * (4 * size**2 + 2 * size * wide) + 4 * size * (lengths**2).sum()))


def share(sides: Mapping[str, Side], name: str) -> float:
    """Of the ceiling, what the side reaches: the median over rounds."""
    done, needed = sides[SIDE].result
    pairs = zip(sides[SIDE].seconds, sides[name].seconds, strict=True)
    return float(np.median([needed / (done / product) / taken for product, taken in pairs]))


def described(sides: Mapping[str, Side], names: Sequence[str], what: str) -> str:
    """The shares of some sides, in words."""
    done, _ = sides[SIDE].result
    speed = float(np.median([done / seconds for seconds in sides[SIDE].seconds])) / 1e9
    parts = ", ".join(f"{name} {100 * share(sides, name):.0f} %" for name in names)
    return (
        f"Share of the machine's ceiling ({speed:.0f} GFLOP/s, float32 products of {PRODUCT} x {PRODUCT} in the same "
        f"rounds) that {what} reach: {parts}."
    )


def at_most(sides: Mapping[str, Side], own: str, peer: str) -> str:
    """How many times as fast as the peer our side would be if it reached all of the ceiling."""
    pairs = zip(sides[own].seconds, sides[peer].seconds, strict=True)
    ratio = float(np.median([theirs / ours for ours, theirs in pairs]))
    return f"At all of it, ours would be {ratio / share(sides, own):.1f} times as fast as {peer}: the most there is."
