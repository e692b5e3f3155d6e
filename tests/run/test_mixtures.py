"""Mixed vectors say which mixture of two students is tried first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sdretrieval.run.api import RunResult
from sdretrieval.stages.inputs import Prepared, Vectors
from sdretrieval.stages.mixtures import FOUND, between, build_mixtures
from sdretrieval.store import Work
from sdretrieval.store.runner import Artifact
from tests.helpers.runs.tiny_runs import MakeConfig, artifact

VECTORS = arrays(np.float32, (5, 4), elements=st.floats(-4, 4, width=32))


@given(VECTORS, VECTORS, st.floats(0, 1))
def test_a_mixed_vector_lies_between_in_direction_and_length(old: np.ndarray, new: np.ndarray, share: float) -> None:
    mixed = between(old, new, share)
    wanted = (1 - share) * np.linalg.norm(old, axis=1) + share * np.linalg.norm(new, axis=1)
    plain = (1 - share) * old + share * new
    apart = np.linalg.norm(plain, axis=1) > 1e-3  # opposite vectors have nothing between them
    np.testing.assert_allclose(np.linalg.norm(mixed, axis=1)[apart], wanted[apart], rtol=1e-4, atol=1e-5)
    dots = (mixed * plain).sum(axis=1)
    np.testing.assert_allclose(dots[apart], (wanted * np.linalg.norm(plain, axis=1))[apart], rtol=1e-3, atol=1e-4)


def test_the_ends_are_the_two_students(finished: RunResult, make_config: MakeConfig, tmp_path: Path) -> None:
    """Share 0 is measured as the student before was, share 1 as the candidate."""
    old, new = (Vectors(Artifact("", artifact(finished.folder, f"{number}/encode"))) for number in (1, 2))
    prepared = Prepared(Artifact("", artifact(finished.folder, "0/corpus")))
    work = Work(tmp_path)
    build_mixtures(work, prepared, make_config(), old, new, (0.0, 0.5, 1.0))
    means = json.loads((tmp_path / FOUND).read_text())["means"]
    measured = finished.report["dev_measures"]
    assert means["0.0"] == pytest.approx(measured["student_0"]["nDCG@10"])
    assert means["1.0"] == pytest.approx(measured["generation_1"]["nDCG@10"])
    assert sorted(path.name for path in tmp_path.iterdir()) == [FOUND], "the mixed vectors are gone"
