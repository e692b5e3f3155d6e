"""The study of probabilities, on the tiny collection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.no_answer import PLAIN, halves, told
from benchmarks.probabilities import auroc, rows, study, tables, with_dev
from tests.helpers.runs.tiny_runs import copy_without
from tests.helpers.tiny import write_random_vectors


def test_auroc_counts_pairs_in_order_and_ties_half() -> None:
    assert auroc(np.array([0.9, 0.4, 0.5, 0.4]), np.array([True, True, False, False])) == pytest.approx(2.5 / 4)


def test_a_collection_of_test_queries_alone_is_split_in_halves(tiny_corpus: Path, tmp_path: Path) -> None:
    alone = copy_without(tiny_corpus, tmp_path / "alone", "train", "dev")
    with with_dev(alone) as folder:
        lines = {path.stem: path.read_text().splitlines()[1:] for path in (folder / "qrels").iterdir()}
        assert (folder / "corpus.jsonl").read_text() == (alone / "corpus.jsonl").read_text()
    assert {split: len(of) for split, of in lines.items()} == {"train": 1, "dev": 11, "test": 12}
    assert len({line for of in lines.values() for line in of}) == 24
    with with_dev(tiny_corpus) as folder:
        assert folder == tiny_corpus


def test_each_way_of_fitting_has_its_row(
    tiny_corpus: Path, tiny_student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.probabilities.MAX_TOKENS", 64)
    one = study(tiny_corpus, str(tiny_student), tmp_path)
    assert not one.reduced_test.answered.all() and one.reduced_test.answered.any()
    found = rows({"one": one, "other": one})
    ways = ("labels", "synthetic queries", "other collections")
    assert list(found) == [f"{name}, {way}" for name in ("one", "other") for way in ways]
    labels, elsewhere = found["one, labels"], found["one, other collections"]
    assert labels["no_answer"]["ceiling"] is not None and elsewhere["no_answer"]["ceiling"] is None
    assert elsewhere["map"]["score"] == 0, "scores of another collection say nothing"
    assert elsewhere["figures"]["error"]["probability"] < elsewhere["figures"]["error"]["score"]
    assert tables(found).count("\n| one, ") == 6


def test_a_query_without_an_answer_is_told_by_words_where_vectors_know_nothing(
    tiny_corpus: Path, tmp_path: Path
) -> None:
    write_random_vectors(tiny_corpus, tmp_path / "random" / tiny_corpus.name)
    dev, test = halves(tiny_corpus, "random", tmp_path)
    assert len(test.answered) == len(test.firsts) == 24 and 0 < test.answered.sum() < 24
    assert all(np.isfinite(one).all() and len(one) == 24 for one in test.features.values())
    by = {name: auroc(test.features[name], test.answered) for name in ("score", "by BM25's first")}
    assert by["by BM25's first"] > 0.75 and abs(by["score"] - 0.5) < 0.3
    assert told("logistic", [dev], test, PLAIN, scaled_apart=False) > 0.75
