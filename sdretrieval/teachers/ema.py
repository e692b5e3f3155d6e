"""The student's exponential moving average: frozen it starts a generation's `DenseTeacher`, live it moves along.

Averaging weights over the course of training gives a steadier and usually better model than the last step's (Tarvainen
and Valpola 2017; Caron et al. 2021). Decay is given as `half_life`, a share of the generation's updates: a decay of
0.999 over 20 updates would move nothing.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch

Network = TypeVar("Network", bound="torch.nn.Module")


def decay_of(half_life: float, updates: int) -> float:
    """Decay per update so that after `half_life` x `updates` updates half of the old average is left."""
    if half_life <= 0 or updates < 1:
        raise ValueError(f"half_life {half_life} and updates {updates} must be above 0")
    return float(0.5 ** (1.0 / max(half_life * updates, 1e-9)))


class WeightAverage:
    """The running average of a module's floating-point state, float32 on the module's device."""

    def __init__(self, module: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        state = {name: tensor.detach() for name, tensor in module.state_dict().items()}
        self.state = {name: (t.float() if t.dtype.is_floating_point else t).clone() for name, t in state.items()}

    def update(self, module: torch.nn.Module) -> None:
        """average <- decay x average + (1 - decay) x module."""
        for name, tensor in module.state_dict().items():
            if tensor.dtype.is_floating_point:
                self.state[name].lerp_(tensor.detach().to(self.state[name].dtype), 1.0 - self.decay)
            else:
                self.state[name].copy_(tensor)

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take a saved state, onto the device of this one."""
        for name, tensor in state.items():
            self.state[name].copy_(tensor)

    def to(self, device: torch.device) -> None:
        """Move the state."""
        self.state = {name: tensor.to(device) for name, tensor in self.state.items()}

    def module(self, like: Network) -> Network:
        """A copy of `like` that holds the average, in evaluation mode and without gradients."""
        averaged = copy.deepcopy(like)
        averaged.load_state_dict(self.state)
        return averaged.eval().requires_grad_(False)


class LiveEma:
    """LiveTeacher: starts from the generation's snapshot, moves after every update.

    It is no torch module and holds its copy in a list, so that the trainer, which replaces every child module called
    `model` of a loss by the student, cannot reach it.
    """

    def __init__(self, snapshot: torch.nn.Module, decay: float) -> None:
        self.average = WeightAverage(snapshot, decay)
        self._holder = [self.average.module(snapshot)]

    @property
    def network(self) -> torch.nn.Module:
        """The averaged model as it is now."""
        return self._holder[0]

    def update(self, student: torch.nn.Module, step: int) -> None:
        """See LiveTeacher.update."""
        self.average.update(student)
        self.network.load_state_dict(self.average.state)

    def restart(self) -> None:
        """Average from the network as it is now: it was given other parts."""
        self.average = WeightAverage(self.network.requires_grad_(False), self.average.decay)

    def restore(self, state: Mapping[str, torch.Tensor]) -> None:
        """Continue from a saved average (a resumed run)."""
        self.average.restore(state)
        self.network.load_state_dict(self.average.state)

    def to(self, device: torch.device) -> None:
        """Move average and network (each process of a distributed training has its own device)."""
        self.average.to(device)
        self.network.to(device)

    def matrix(self, queries: list[dict[str, Any]], documents: list[dict[str, Any]] | torch.Tensor) -> torch.Tensor:
        """See LiveTeacher.matrix."""
        import torch

        with torch.no_grad():
            query_vectors = self._vectors(queries)
            vectors = documents if isinstance(documents, torch.Tensor) else self._vectors(documents)
            scores_QM: torch.Tensor = query_vectors.float() @ vectors.float().T
        return scores_QM

    def _vectors(self, parts: list[dict[str, Any]]) -> torch.Tensor:
        import torch

        return torch.cat([self.network(dict(part))["sentence_embedding"] for part in parts])
