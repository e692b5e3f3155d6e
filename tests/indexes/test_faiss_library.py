"""Where faiss is absent or broken, the user reads which pip command helps."""

from __future__ import annotations

import importlib
import sys

import pytest

from sdretrieval.errors import MissingPackageError
from sdretrieval.indexes.faiss_library import gpu_count, load_faiss


def test_without_faiss_the_pip_commands_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(MissingPackageError, match=r"pip install faiss-cpu .*pip install faiss-gpu\)") as caught:
        load_faiss()
    assert "neither faiss-cpu nor faiss-gpu is installed" in str(caught.value)


def test_a_faiss_that_does_not_start_keeps_its_own_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> None:
        raise RuntimeError("faiss-gpu installed but nvidia-cuda-runtime-cu12 is missing")

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(MissingPackageError, match="does not start .*nvidia-cuda-runtime-cu12 is missing"):
        load_faiss()


def test_gpu_count_is_a_number_with_either_wheel() -> None:
    assert gpu_count() >= 0
