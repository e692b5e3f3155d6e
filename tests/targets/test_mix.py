"""The ensemble's weighted sum."""

from __future__ import annotations

import numpy as np
import pytest
from score_strategies import gaussian

from sdretrieval.errors import RequestError, WorkError
from sdretrieval.ragged import Ragged
from sdretrieval.targets.calibrate import mix, mix_matrices, normalised


def test_weights_are_normalised() -> None:
    a, b = Ragged.of([[1.0, 2.0], [3.0]], np.float32), Ragged.of([[5.0, 2.0], [-1.0]], np.float32)
    assert mix([a, b], [1, 3]).values_T.tolist() == [4.0, 2.0, 0.0]
    assert mix([a, b], [0.25, 0.75]).values_T.tolist() == [4.0, 2.0, 0.0]
    assert mix([a, b], [2, 0]).values_T.tolist() == a.values_T.tolist()


def test_matrices_mix_as_lists_do() -> None:
    a, b = gaussian(3, 4, seed=1), gaussian(3, 4, seed=2)
    found = mix_matrices([a.values_T.reshape(3, 4), b.values_T.reshape(3, 4)], [1, 2])
    np.testing.assert_array_equal(found.ravel(), mix([a, b], [1, 2]).values_T)


@pytest.mark.parametrize("weights", [[], [0.0, 0.0], [1.0, -0.5], [np.nan, 1.0], [np.inf, 1.0]])
def test_bad_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(RequestError, match="expected numbers of 0 or more with one above 0"):
        normalised(weights)


def test_members_must_agree() -> None:
    with pytest.raises(WorkError, match="teacher member 1 holds 2 lists of 6 entries, member 0 3 of 6"):
        mix([gaussian(3, 2), gaussian(2, 3)], [1, 1])
    with pytest.raises(WorkError, match="2 teacher members, but 1 weights"):
        mix([gaussian(3, 2), gaussian(3, 2)], [1])
    with pytest.raises(WorkError, match=r"matrices of shapes \[\(2, 2\), \(2, 3\)\]"):
        mix_matrices([np.zeros((2, 2)), np.zeros((2, 3))], [1, 1])
