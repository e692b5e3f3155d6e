"""The tiny collection, once for all tests of teachers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.teachers.collection import Collection


@pytest.fixture(scope="session")
def collection(tiny_student: Path) -> Collection:
    """Read only."""
    return Collection.load(tiny_student)
