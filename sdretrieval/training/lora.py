"""LoRA: matrices of low rank beside the linear layers learn, the student itself stays as it is (Hu et al. 2021).

Gradients, the optimiser's moments and checkpoints are those of a hundredth of the weights. After training the matrices
are added to the weights, so that nothing behind knows of them.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from sdretrieval.errors import MissingPackageError, ModelError

if TYPE_CHECKING:
    from torch import nn

SCALE = 2
"""What the product of both matrices is multiplied by, whatever the rank."""


def linear_layers(model: nn.Module) -> list[str]:
    """Names of the layers that get matrices: all but the pooler's, whose output no bi-encoder reads.

    Raises MissingPackageError without peft, and ModelError for a model without any.
    """
    from torch import nn

    if find_spec("peft") is None:
        raise MissingPackageError(
            "train.lora_rank needs the package peft, which is not installed; run: pip install peft  (or pip install "
            "'sdretrieval[lora]')"
        )
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear) and ".pooler." not in name]
    if not names:
        found = ", ".join(type(module).__name__ for module in model.children())
        raise ModelError(
            f"train.lora_rank: the student has no linear layers, only {found}; expected a transformer, or null"
        )
    return names


def add_lora(model: nn.Module, rank: int, seed: int) -> None:
    """Freeze `model` and put matrices (rank, inputs) and (outputs, rank) beside its linear layers.

    It computes what it did: the second is 0. The first is drawn by `seed`. Raises as `linear_layers`.
    """
    import torch

    names = linear_layers(model)
    from peft import LoraConfig, inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=SCALE * rank, target_modules=names), model)


def merge_lora(model: nn.Module) -> None:
    """Add the matrices to the weights and take them out: `model` has the modules that it had before `add_lora`."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(model.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, module.get_base_layer())
