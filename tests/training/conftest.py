"""Training inputs of the tiny collection, prepared once; every test that trains gets a student of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.inputs import TrainingInputs, prepare


@pytest.fixture(scope="session")
def new_inputs(tiny_corpus: Path, tiny_student: Path) -> Callable[[], TrainingInputs]:
    """As many untaught students as a test needs."""
    first = prepare(tiny_corpus, tiny_student)
    return lambda: replace(first, student=replace(first.student, model=copy.deepcopy(first.student.model)))


@pytest.fixture
def inputs(new_inputs: Callable[[], TrainingInputs]) -> TrainingInputs:
    """With an untaught student."""
    return new_inputs()
