"""A student's exits: vectors of its first layers alone, or in fewer dims, from the pass that makes its own vectors.

Legend: B texts of a part, T tokens of a text, W dims of the transformer, F dims of the student, D of an exit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sdretrieval.encode.batches import features_of
from sdretrieval.encode.views import Specials
from sdretrieval.errors import ModelError
from sdretrieval.ragged import Array
from sdretrieval.training.smaller import found_layers

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


class Exit(NamedTuple):
    """The first `layers` layers, and `dims` dims of the vector; None: all."""

    layers: int | None
    dims: int | None


class Exits:
    """Exits of `model`, which may be wrapped later: the trainer does that to it, and not to what is remembered here.

    `map_FD`: the directions of which an exit's vectors keep the first, if some exit has fewer dims. What stands behind
    the transformer (pooling, the length made 1) is the student's own. Raises ModelError if the model's layers are not
    to be found, or do not make what it pools.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        exits: Sequence[tuple[int | None, int | None]],
        map_FD: Array | None,
        name: str,
    ) -> None:
        self.exits = [Exit(*one) for one in exits]
        self._map_FD = None if map_FD is None else torch.from_numpy(np.ascontiguousarray(map_FD)).to(model.device)
        self._behind: list[Any] = list(model)[1:]
        counts = sorted({one.layers for one in self.exits if one.layers is not None})
        self._layers: dict[int, nn.Module] = {}
        self._norm: nn.Module | None = None
        if counts:
            first: Any = model[0]
            _, _, layers = found_layers(first.auto_model, counts[-1], name)
            self._layers = {count: layers[count - 1] for count in counts}
            self._norm = _last_norm(model, layers, name)

    def vectors(self, model: nn.Module, features: dict[str, Any]) -> list[Tensor]:
        """Of the student itself (B, F), then of each exit (B, D), of length 1."""
        with _outputs(self._layers) as tokens_of:
            made = model(features)
        found: dict[int | None, Tensor] = {None: made["sentence_embedding"]}
        for count, tokens_BTW in tokens_of.items():
            tokens_BTW = (tokens_BTW if self._norm is None else self._norm(tokens_BTW)).float()
            shown = {**made, "token_embeddings": tokens_BTW}
            for module in self._behind:
                shown = module(shown)
            found[count] = shown["sentence_embedding"]
        return [found[None], *(self._short(found[one.layers], one.dims) for one in self.exits)]

    def _short(self, vectors_BF: Tensor, dims: int | None) -> Tensor:
        if dims is None:
            return vectors_BF
        assert self._map_FD is not None
        return normalize(vectors_BF.float() @ self._map_FD[:, :dims].to(vectors_BF.device), dim=1)


@contextmanager
def _outputs(layers: dict[int, nn.Module]) -> Iterator[dict[int, Tensor]]:
    """Inside, what each of `layers` makes of the tokens, (B, T, W), by its key."""
    made: dict[int, Tensor] = {}

    def keep(count: int) -> Any:
        def hook(_: nn.Module, __: Any, output: Any) -> None:
            made[count] = output[0] if isinstance(output, tuple) else output

        return hook

    hooks = [layer.register_forward_hook(keep(count)) for count, layer in layers.items()]
    try:
        yield made
    finally:
        for hook in hooks:
            hook.remove()


def _last_norm(model: SentenceTransformer, layers: nn.ModuleList, name: str) -> nn.Module | None:
    """What the transformer does to its last layer's output; None if nothing. Tried on a few tokens."""
    first: Any = model[0]
    features = features_of(model, [np.full(8, 5)], Specials((), ()))
    training = model.training
    model.eval()
    with torch.no_grad(), _outputs({0: layers[-1]}) as tokens_of:
        wanted_BTW = first({key: value.to(model.device) for key, value in features.items()})["token_embeddings"]
        last_BTW = tokens_of[0]
        norms: list[nn.Module] = [one for one in first.auto_model.modules() if "norm" in type(one).__name__.lower()]
        fitting = [norm for norm in norms if torch.allclose(_tried(norm, last_BTW), wanted_BTW, atol=1e-5)]
    model.train(training)
    if torch.allclose(last_BTW, wanted_BTW, atol=1e-5):
        return None
    if not fitting:
        raise ModelError(
            f"model {name!r}: what it pools is neither what its last layer makes nor a norm of it, so that train.also "
            "cannot teach its first layers; leave train.also.layers out, and take smaller: [{layers: N}] instead"
        )
    return fitting[-1]


def _tried(norm: nn.Module, tokens_BTW: Tensor) -> Tensor:
    try:
        made: Tensor = norm(tokens_BTW)
    except RuntimeError:  # it is of another width
        return torch.full_like(tokens_BTW, torch.nan)
    return made
