"""Measures: the same run gives the same numbers as beir's own evaluator."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from beir.retrieval.evaluation import EvaluateRetrieval

from sdretrieval.errors import ConfigError, NumericError, RequestError
from sdretrieval.evaluation import Measure, evaluate

CUTOFFS = [1, 5, 10, 100]
Qrels = dict[str, dict[str, int]]
Run = dict[str, dict[str, float]]


def random_task(seed: int, own_ids: bool) -> tuple[Qrels, Run]:
    """40 judged queries over 60 documents, scores with many ties; queries may also be documents."""
    random = np.random.default_rng(seed)
    documents = [str(number) for number in range(60)]
    queries = documents[:40] if own_ids else [f"q{number}" for number in range(40)]
    qrels = {
        query: {str(document): int(random.integers(0, 3)) for document in random.choice(documents, 6, replace=False)}
        for query in queries
    }
    run = {
        query: {str(doc): float(random.integers(0, 8)) / 3 for doc in random.permutation(documents)[:30]}
        for query in random.permutation(queries).tolist()
    }
    return qrels, run


def of_beir(qrels: Qrels, run: Run) -> dict[str, float]:
    run = deepcopy(run)
    tables = EvaluateRetrieval.evaluate(qrels, run, CUTOFFS)
    mrr = EvaluateRetrieval.evaluate_custom(qrels, run, CUTOFFS, "mrr")
    merged = {name: value for table in (*tables, mrr) for name, value in table.items()}
    return {name.replace("NDCG", "nDCG"): value for name, value in merged.items()}


@pytest.mark.parametrize("own_ids", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_means_equal_beirs_own(seed: int, own_ids: bool) -> None:
    qrels, run = random_task(seed, own_ids)
    before = deepcopy(run)
    expected = of_beir(qrels, run)
    measured = evaluate(qrels, run, list(expected))
    assert {name: round(value, 5) for name, value in measured.means().items()} == expected
    assert run == before


@pytest.mark.parametrize("seed", range(3))
def test_queries_without_results_count_as_zero(seed: int) -> None:
    qrels, run = random_task(seed, own_ids=False)
    silent = list(run)[:7]
    for query in silent[:4]:
        del run[query]
    for query in silent[4:]:
        run[query] = {}
    run["unjudged"] = {"1": 1.0}
    # beir drops the queries that a run does not name, unless they stand there with no documents.
    named: Run = {query: hits for query, hits in run.items() if query in qrels} | {query: {} for query in silent}
    expected = of_beir(qrels, named)
    measured = evaluate(qrels, run, list(expected))
    assert {name: round(value, 5) for name, value in measured.means().items()} == expected
    assert measured.n_queries == len(qrels)
    assert set(measured.of("nDCG@10")) == set(qrels)
    assert all(measured.of("MRR@10")[query] == 0 for query in silent)


def test_an_empty_run_measures_zero() -> None:
    assert evaluate({"q": {"d": 1}}, {}, ["nDCG@10", "MRR@10"]).means() == {"nDCG@10": 0.0, "MRR@10": 0.0}


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("NDCG@10", r"did you mean nDCG@10\?"),
        ("ndcg", r"did you mean nDCG@10\?"),
        ("recal@100", r"did you mean Recall@100\?"),
        ("precision@5", r"did you mean P@5\?"),
        ("mrr@0", r"did you mean MRR@10\?"),
        ("bleu", r"unknown measure 'bleu'; known are nDCG@k, MAP@k, Recall@k, P@k, MRR@k"),
    ],
)
def test_an_unknown_measure_is_refused_with_what_was_meant(name: str, suggestion: str) -> None:
    with pytest.raises(ConfigError, match=suggestion):
        evaluate({"q": {"d": 1}}, {}, [name])


def test_a_measure_prints_as_papers_print_it() -> None:
    assert str(Measure.parse("nDCG@10")) == "nDCG@10"


def test_asking_for_what_was_not_measured() -> None:
    with pytest.raises(RequestError, match=r"'P@1' was not measured here; measured were nDCG@10"):
        evaluate({"q": {"d": 1}}, {}, ["nDCG@10"]).mean("P@1")


def test_a_run_of_another_corpus_is_refused() -> None:
    with pytest.raises(RequestError, match="none of the run's 1 queries"):
        evaluate({"q": {"d": 1}}, {"other": {"d": 1.0}}, ["nDCG@10"])
    with pytest.raises(RequestError, match="no query is judged"):
        evaluate({}, {"q": {"d": 1.0}}, ["nDCG@10"])


def test_a_score_that_is_nan_is_refused() -> None:
    with pytest.raises(NumericError, match="query 'q': the score of document 'd' is NaN"):
        evaluate({"q": {"d": 1}}, {"q": {"d": float("nan")}}, ["nDCG@10"])
