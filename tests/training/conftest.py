"""A lesson on the tiny collection, prepared once; every test that trains gets a student of its own."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.lesson import Lesson, prepare


@pytest.fixture(scope="session")
def new_lesson(tiny_corpus: Path, tiny_student: Path) -> Callable[[], Lesson]:
    """As many untaught students as a test needs."""
    first = prepare(tiny_corpus, tiny_student)
    return lambda: replace(first, student=replace(first.student, model=copy.deepcopy(first.student.model)))


@pytest.fixture
def lesson(new_lesson: Callable[[], Lesson]) -> Lesson:
    """With an untaught student."""
    return new_lesson()
