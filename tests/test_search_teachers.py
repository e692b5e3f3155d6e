"""The study of teachers that search more: what it measures is what the product measures, and nothing judges itself."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import search_teachers, search_teachers_table
from benchmarks.mixing import MEASURE, SPLIT
from benchmarks.search_teachers import Case, expanded, feedback_terms, load, moved, neighbours, smoothed
from sdretrieval.corpus.sources import open_corpus
from sdretrieval.evaluation import evaluate, run_from_hits
from sdretrieval.indexes import exact_search
from tests.helpers.tiny import write_random_vectors


@pytest.fixture(scope="module")
def folder(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    vectors = tmp_path_factory.mktemp("vectors")
    write_random_vectors(tiny_corpus, vectors / "random" / tiny_corpus.name)
    return vectors


@pytest.fixture(scope="module")
def case(tiny_corpus: Path, folder: Path) -> Case:
    return load(tiny_corpus, "random", folder)


def test_ndcg_is_the_evaluators(tiny_corpus: Path, folder: Path, case: Case) -> None:
    corpus = open_corpus(str(tiny_corpus))
    rows = corpus.split_rows(SPLIT)
    place = folder / "random" / tiny_corpus.name
    hits = exact_search(np.load(place / "documents.npy"), np.load(place / "queries.npy")[rows], len(corpus.documents))
    run = run_from_hits([corpus.query_ids[row] for row in rows], corpus.document_ids, *hits)
    expected = evaluate(corpus.qrels[SPLIT], run, [MEASURE]).of(MEASURE)
    assert sorted(case.ndcg(case.dense_QN)) == pytest.approx(sorted(expected.values()), abs=1e-4)


def test_feedback_comes_from_the_best_documents_but_never_from_the_querys_own(case: Case) -> None:
    first_QN = case.mix(0.75)
    best_Q = case.top(first_QN, 1)[:, 0]
    rows = np.arange(len(best_Q))

    def rank_of(scores_QN: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return (scores_QN > scores_QN[rows, best_Q][:, None]).sum(1)

    assert (rank_of(case.dense_QN) > 0).any()
    assert (rank_of(moved(case, first_QN, 1, 10.0)) == 0).all(), "the document itself is nearest to what it became"
    own_QN = np.zeros_like(case.own_QN)
    own_QN[rows, best_Q] = True
    case.own_QN, kept = own_QN, case.own_QN
    try:
        assert not (case.top(first_QN, 5) == best_Q[:, None]).any()
    finally:
        case.own_QN = kept


def test_words_of_the_best_documents_join_the_query_and_none_leave_it_as_it_is(case: Case) -> None:
    assert expanded(case, case.words_QN, share=0.0) == pytest.approx(case.words_QN, abs=1e-5)
    texts = [case.document_texts[row] for row in case.top(case.words_QN, 1)[:, 0]]
    for text, (columns, shares) in zip(texts, feedback_terms(case, case.words_QN, 1, 5), strict=True):
        assert {*columns.tolist()} <= {*case.lexical.vocabulary.ids(text)}
        assert shares.sum() == pytest.approx(1)


def test_a_neighbours_score_counts_by_its_share() -> None:
    products = np.asarray([[9.0, 3, 1], [3, 9, 2], [1, 2, 9]])
    near = neighbours(lambda some: products[some].copy(), 3, 2)
    assert near.tolist() == [[1, 2], [0, 2], [1, 0]]
    assert smoothed(np.asarray([[1.0, 0, 0]]), near, 1, 0.25) == pytest.approx(np.asarray([[0.75, 0.25, 0.0]]))


def test_the_tables_say_what_pays_and_no_collection_predicts_itself(
    tiny_corpus: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(texts: Sequence[str]) -> np.ndarray[Any, Any]:
        return search_teachers.unit(np.random.default_rng(1).normal(size=(len(texts), 8)))

    found = search_teachers.measure(tiny_corpus, "random", folder, encode)
    monkeypatch.setattr(search_teachers_table, "SAMPLES", 100)
    monkeypatch.setattr(search_teachers_table, "SPLITS", 4)
    chance, others = np.random.default_rng(2), []
    for name in ("one", "two", "three"):
        plain, values = 0.5 + 0.01 * chance.random(40), []
        for row in found["values"]:
            if row["system"] in ("", *search_teachers_table.PREDICTED):
                pays = row["system"] == "graph, 5 neighbours, 0.2" and row["weight"] == search_teachers_table.SHOWN
                more = 0.1 if pays else 0.001 * chance.random() if row["system"] else 0.0
                values.append({**row, "ndcg": (plain + more).tolist()})
        signals = {one: chance.random() for one in found["signals"]}
        others.append({**found, "collection": name, "values": values, "signals": signals})
    text = search_teachers_table.tables(others)
    line = next(one for one in text.splitlines() if one.startswith("| graph, 5 neighbours, 0.2 |"))
    assert line.count("+0.100 (+0.100; 3, 0)") == 1
    chosen = next(one for one in text.splitlines() if one.startswith("| graph | "))
    assert chosen.endswith("| +0.100 |"), "half of the queries finds it, the other half has it"
    seen, names = np.asarray([[0.0], [1.0], [2.0]]), ["one", "two", "three"]
    changed = [search_teachers_table.held_out(seen, np.asarray([gain, 0.1, 0.2]), names)[0] for gain in (0.0, 9.0)]
    assert changed[0] == pytest.approx(changed[1])
