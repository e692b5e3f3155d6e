"""Sections of students that cost less: those fitted to the final one, and those that are taught along with it."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Annotated

from pydantic import Field

from sdretrieval.config.fields import MOST, Number, Section, identity


class SmallerConfig(Section):
    """A smaller student, fitted to the vectors of the final one."""

    model: str | None = identity(
        "what encodes: static (each token has a vector, and no transformer is needed), a hub id or folder of a smaller "
        "model with the same vocabulary; null: the final student",
        None,
        min_length=1,
    )
    layers: int | None = identity(
        "so many of its transformer's layers, the first and the last ones; null: all", None, ge=1, le=1000
    )
    dims: int | None = identity("dims of a vector; null: all", None, ge=8, le=MOST)
    epochs: Number | None = identity(
        "passes over documents, training queries and pieces of documents; null: 6 for static, 3 for another model, and "
        "for layers none: only a linear map behind them is fitted", None, gt=0, le=10_000,
    )  # fmt: skip

    @property
    def name(self) -> str:
        """Of the student in the report: `final-static`, `final-layers3-dims128`."""
        model = [re.sub(r"[^A-Za-z0-9._-]+", "_", PurePath(self.model).name)] if self.model else []
        sizes = [f"{what}{size}" for what in ("layers", "dims") if (size := getattr(self, what)) is not None]
        return "-".join(["final", *model, *sizes])

    @property
    def encodes_itself(self) -> bool:
        """Whether an encoder of its own is fitted; else a linear map is, behind a part of the final student."""
        return self.model is not None or (self.layers is not None and self.epochs is not None)


class AlsoConfig(Section):
    """Exits of the student that learn in the same updates as it does."""

    layers: tuple[Annotated[int, Field(ge=1, le=1000)], ...] = identity(
        "its first so many layers, a list such as [3]", (), strict=False
    )
    dims: tuple[Annotated[int, Field(ge=8, le=MOST)], ...] = identity(
        "its vectors in so many dims, a list such as [64, 128]; with layers, each with each", (), strict=False
    )
