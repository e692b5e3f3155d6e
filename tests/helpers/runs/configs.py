"""Configs that are as short as can be, to be broken by tests."""

from __future__ import annotations

from typing import Any

import pytest

from sdretrieval.errors import ConfigError
from sdretrieval.config import parse_config

CROSS = {"kind": "cross_encoder", "model": "c"}
DENSE = {"kind": "dense", "model": "d"}


def minimal(**changes: Any) -> dict[str, Any]:
    """The least that is a config, with some sections changed."""
    base = {"name": "x", "corpus": {"source": "beir:x"}, "student": {"model": "m"}, "teacher": {"kind": "lexical"}}
    return {**base, **changes}


def ensemble(*members: dict[str, Any]) -> dict[str, Any]:
    """The same with a mixture of teachers."""
    return minimal(teacher={"kind": "ensemble", "members": list(members)})


def problems(data: Any, *overrides: str) -> list[str]:
    """The lines of the error that `data` gives, a problem each."""
    with pytest.raises(ConfigError) as caught:
        parse_config(data, overrides)
    head, *lines = str(caught.value).splitlines()
    assert head == f"config has {len(lines)} problem{'s' if len(lines) > 1 else ''}:"
    return [line.strip() for line in lines]
