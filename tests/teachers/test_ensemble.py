"""Members scored on the same candidates, calibrated, mixed; the same mixture over all documents of a batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdretrieval.encode.views import View
from sdretrieval.errors import NumericError
from sdretrieval.ragged import Array, Ragged
from sdretrieval.targets.calibrate import EVIDENCE, Calibration, top_statistics
from sdretrieval.teachers.dense import DenseTeacher
from sdretrieval.teachers.ensemble import BatchTeacher, TeacherScores, score_candidates
from sdretrieval.teachers.lexical import LexicalTeacher
from sdretrieval.teachers.protocols import FreeTeacher, HasUnit
from sdretrieval.teachers.query_removed import QueryRemovedScores, with_query_removed
from tests.teachers.collection import Collection


class Lengths:
    """A costly teacher: prefers long documents."""

    name, asymmetry = "lengths", "counts what the student cannot count"

    def __init__(self, collection: Collection) -> None:
        self._lengths = np.asarray([len(text) for text in collection.documents], dtype=np.float32)

    def score(self, query_rows_Q: Array, candidates: Ragged) -> Ragged:
        return candidates.with_values(self._lengths[candidates.values_T])


@pytest.fixture(scope="module")
def free(collection: Collection) -> list[FreeTeacher]:
    documents = collection.embed(collection.documents, View(64, "all"))
    return [
        DenseTeacher("ema", collection.query_vectors, documents),
        LexicalTeacher(collection.lexical, collection.queries),
    ]


@pytest.fixture(scope="module")
def scores(collection: Collection, free: list[FreeTeacher]) -> TeacherScores:
    return score_candidates([*free, Lengths(collection)], collection.query_rows, collection.candidates, "zscore")


def test_every_member_scores_every_candidate(scores: TeacherScores, collection: Collection) -> None:
    assert [(member.name, member.free) for member in scores.members] == [
        ("ema", True), ("lexical", True), ("lengths", False),
    ]  # fmt: skip
    for member in scores.members:
        assert len(member.raw.values_T) == len(collection.candidates.values_T)
        assert np.isfinite(member.raw.values_T).all()


def test_a_free_member_is_calibrated_on_its_own_best_documents_a_costly_one_on_the_list(
    scores: TeacherScores, collection: Collection, free: list[FreeTeacher]
) -> None:
    expected = top_statistics(free[0].top(collection.query_rows, 100).scores_Qk)
    np.testing.assert_allclose(scores.members[0].statistics.centre_Q, expected.centre_Q, rtol=1e-6)
    means = [float(values.mean()) for values in scores.members[2].raw]
    np.testing.assert_allclose(scores.members[2].statistics.centre_Q, means, rtol=1e-6)


def test_the_mixture_is_the_weighted_mean_of_calibrated_scores(scores: TeacherScores) -> None:
    first, second, third = (ragged.values_T for ragged in scores.calibrated())
    np.testing.assert_allclose(
        scores.mixed([2, 1, 1]).values_T, 0.5 * first + 0.25 * second + 0.25 * third, rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(scores.mixed([0, 1, 0]).values_T, second, rtol=1e-6)


def test_saved_scores_are_read_back(scores: TeacherScores, tmp_path: Path) -> None:
    scores.save(tmp_path)
    found = TeacherScores.load(tmp_path)
    np.testing.assert_array_equal(found.mixed([1, 2, 3]).values_T, scores.mixed([1, 2, 3]).values_T)
    for before, after in zip(scores.members, found.members, strict=True):
        assert (before.name, before.asymmetry, before.free) == (after.name, after.asymmetry, after.free)
        assert (before.statistics.form, before.statistics.height) == (after.statistics.form, after.statistics.height)
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize("calibration", ["absolute", "zscore", "minmax", "log_odds", "none"])
def test_a_batchs_matrix_holds_the_lists_scores(
    collection: Collection, free: list[FreeTeacher], calibration: Calibration
) -> None:
    scores = score_candidates(free, collection.query_rows, collection.candidates, calibration)
    batch = BatchTeacher(free, scores, [0.3, 0.7], collection.query_rows)
    positions = np.asarray([4, 0, 11])
    whole = batch.matrix(positions, np.arange(120))
    mixed = scores.mixed([0.3, 0.7])
    for row, position in enumerate(positions):
        np.testing.assert_allclose(whole[row, collection.candidates[position]], mixed[position], rtol=1e-4, atol=1e-5)


def test_on_the_absolute_scale_each_member_has_its_own_unit(
    collection: Collection, free: list[FreeTeacher], tmp_path: Path
) -> None:
    teachers = [*free, Lengths(collection)]
    scores = score_candidates(teachers, collection.query_rows, collection.candidates, "absolute")
    ema, lexical, lengths = scores.calibrated()
    tops = free[0].top(collection.query_rows, 100).scores_Qk
    sigma = np.mean([top[np.isfinite(top)].std() for top in tops])
    np.testing.assert_allclose(ema.values_T, scores.members[0].raw.values_T / sigma, rtol=1e-4)
    queries = [collection.queries[row] for row in collection.query_rows]
    for position, rows in enumerate(collection.candidates):
        query = [queries[position]]
        evidence = collection.lexical.scores(query, rows)[0] / collection.lexical.norm(query)[0]
        np.testing.assert_allclose(lexical[position], EVIDENCE * evidence, rtol=1e-4, atol=1e-5)
    assert lengths.values_T.min() >= 0 and lengths.values_T.max() <= EVIDENCE
    order = np.argsort(scores.members[2].raw.values_T, kind="stable")
    assert (np.diff(lengths.values_T[order]) >= 0).all(), "a logistic map keeps the order, across queries too"
    scores.save(tmp_path)
    np.testing.assert_array_equal(TeacherScores.load(tmp_path).calibrated()[2].values_T, lengths.values_T)


def test_a_unit_survives_the_removal_of_queries(collection: Collection) -> None:
    plain = LexicalTeacher(collection.lexical, collection.queries)
    removed = with_query_removed(plain, QueryRemovedScores({0: 3}, {0: 0.5}), zero_is_no_hit=True)
    assert isinstance(removed, HasUnit)
    np.testing.assert_array_equal(removed.unit(collection.query_rows), plain.unit(collection.query_rows))


class Broken(Lengths):
    """Says NaN once."""

    def score(self, query_rows_Q: Array, candidates: Ragged) -> Ragged:
        values = super().score(query_rows_Q, candidates).values_T.copy()
        values[-1] = np.nan
        return candidates.with_values(values)


def test_a_score_that_is_no_number_names_member_query_and_candidate(collection: Collection) -> None:
    last = len(collection.candidates[11]) - 1
    with pytest.raises(NumericError, match=rf"lengths: score of query position 11, candidate position {last} is nan"):
        score_candidates([Broken(collection)], collection.query_rows, collection.candidates, "zscore")
