"""Configs that are as short as can be, to be broken by tests."""

from __future__ import annotations

from typing import Any

CROSS = {"kind": "cross_encoder", "model": "c"}
DENSE = {"kind": "dense", "model": "d"}


def minimal(**changes: Any) -> dict[str, Any]:
    """The least that is a config, with some sections changed."""
    base = {"name": "x", "corpus": {"source": "beir:x"}, "student": {"model": "m"}, "teacher": {"kind": "lexical"}}
    return {**base, **changes}


def ensemble(*members: dict[str, Any]) -> dict[str, Any]:
    """The same with a mixture of teachers."""
    return minimal(teacher={"kind": "ensemble", "members": list(members)})
