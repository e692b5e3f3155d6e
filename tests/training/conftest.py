"""A lesson on the tiny collection; a fresh one for every test that trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.lesson import Lesson, prepare


@pytest.fixture
def lesson(tiny_corpus: Path, tiny_student: Path) -> Lesson:
    """With a freshly loaded student."""
    return prepare(tiny_corpus, tiny_student)


@pytest.fixture
def new_lesson(tiny_corpus: Path, tiny_student: Path) -> Callable[[], Lesson]:
    """As many fresh ones as a test needs."""
    return lambda: prepare(tiny_corpus, tiny_student)
