"""Real collections and real model weights, or a skip that says where they were looked for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]


def real_data(name: str) -> Path:
    """Folder of a real BEIR collection, from SDRETRIEVAL_TEST_DATA or beside the checkout; skips without it."""
    root = Path(os.environ.get("SDRETRIEVAL_TEST_DATA", CHECKOUT / ".." / "shared" / "data"))
    return _or_skip(root / name, "corpus.jsonl", f"no collection {name}", "SDRETRIEVAL_TEST_DATA")


def real_model(name: str) -> Path:
    """Folder of a real model, from SDRETRIEVAL_TEST_MODELS or the user's cache; skips without it."""
    root = Path(os.environ.get("SDRETRIEVAL_TEST_MODELS", Path.home() / ".cache" / "sdretrieval-models"))
    return _or_skip(root / name, "config.json", f"no model {name}", "SDRETRIEVAL_TEST_MODELS")


def _or_skip(folder: Path, must_hold: str, what: str, variable: str) -> Path:
    if not (folder / must_hold).exists():
        pytest.skip(f"{what} at {folder}; set {variable} to the folder that holds it")
    return folder.resolve()
