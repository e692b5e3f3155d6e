"""A run fits probabilities on dev and says how true they come."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from sdretrieval.errors import DamagedArtifact
from sdretrieval.indexes.probability import ProbabilityMap, prior
from sdretrieval.stages.probability import DEPTH, JudgedHits, cross_fitted, figures, fit
from sdretrieval.store.run_folder import checked

TRUE = ProbabilityMap(bias=-5.0, score=6.0, lead=4.0, coverage=2.0, agreement=1.0)


def drawn(queries: int, seed: int = 0) -> JudgedHits:
    """Hits that are relevant as often as `TRUE` says."""
    random = np.random.default_rng(seed)
    scores, coverage = np.sort(random.random((queries, DEPTH)))[:, ::-1], random.random((queries, DEPTH))
    best = coverage.max(axis=1)
    return JudgedHits(scores, coverage, best, random.random(scores.shape) < TRUE.of(scores, coverage, best))


def test_a_finished_run_says_how_true_its_probabilities_come(finished: Any) -> None:
    record = finished.report["probability"]
    assert json.loads((finished.folder / "probability.json").read_text()) == record
    assert not record["estimate"] and record["queries"] == 20
    assert ProbabilityMap.from_json(record["map"]).coverage >= 0 == record["without_words"]["coverage"]
    for split, queries in (("dev", 20), ("test", 24)):
        found = record["figures"][split]
        assert (found["queries"], found["hits"]) == (queries, queries * DEPTH)
        assert found["error"]["probability"] < found["error"]["score"]
        assert found["brier"]["probability"] < found["brier"]["score"]
        assert sum(pairs for *_, pairs in found["bins"]) == found["hits"]
        assert found["answered"][0][1] == pytest.approx(finished.report[MEASURES[split]]["final"][record["measure"]])
    page = (finished.folder / "report.html").read_text()
    assert "Probability of relevance" in page and "Share of relevant hits by probability" in page


MEASURES = {"dev": "dev_measures", "test": "measures"}


def test_a_changed_map_is_refused(finished_copy: Any) -> None:
    path = finished_copy / "tiny" / "probability.json"
    path.write_text(path.read_text().replace('"bias": ', '"bias": 1'))
    with pytest.raises(DamagedArtifact, match="probability.json"):
        checked(finished_copy / "tiny", "probability.json")


def test_dev_figures_are_of_queries_that_the_map_has_not_seen() -> None:
    few = drawn(30)
    noise = few._replace(relevant_Qk=np.random.default_rng(1).random(few.relevant_Qk.shape) < 0.2)
    honest = cross_fitted(noise, seed=13)
    own = noise.by(fit(noise))
    quality = noise.relevant_Qk.any(axis=1).astype(float)
    assert honest is not None
    seen, unseen = (figures(noise, found, quality)["brier"]["probability"] for found in (own, honest))
    assert unseen > seen


def test_probabilities_that_come_true_show_little_error_and_order_queries() -> None:
    hits = drawn(3000)
    honest = cross_fitted(hits, 13)
    assert honest is not None
    found = figures(hits, honest, hits.relevant_Qk[:, 0].astype(float))
    assert found["error"]["probability"] < 0.01 and found["first_error"]["probability"] < 0.04
    assert found["error"]["score"] > 0.2
    assert found["nauc"]["probability"] > max(found["nauc"]["score"], found["nauc"]["gap"])


@pytest.mark.parametrize("hits", [drawn(19), drawn(40)._replace(relevant_Qk=np.zeros((40, DEPTH), dtype=bool))])
def test_a_dev_that_cannot_tell_fits_no_map(hits: JudgedHits) -> None:
    assert cross_fitted(hits, 13) is None


@pytest.mark.parametrize("scale", [1.0, 0.1])
def test_the_prior_means_the_same_for_a_student_whose_scores_lie_closer_together(scale: float) -> None:
    hits = drawn(50)
    by = hits._replace(scores_Qk=hits.scores_Qk * scale).by(prior(0.05 * scale)[0])
    np.testing.assert_allclose(by, hits.by(prior(0.05)[0]))
    assert prior(0.05)[1].coverage == prior(0.05)[1].agreement == 0
