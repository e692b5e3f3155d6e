"""Splits of generated queries: apart from each other, never read by what they measure."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from sdretrieval.corpus import Corpus, document_table, query_table, read_beir
from sdretrieval.errors import CorpusError
from sdretrieval.synthetic_queries.make import hold_out_documents, is_synthetic, synthetic_sources, with_synthetic_split


@pytest.fixture(scope="module")
def corpus(tiny_corpus: Path) -> Corpus:
    return read_beir(tiny_corpus)


def test_a_held_out_split_is_apart_from_training(corpus: Corpus) -> None:
    with_dev, dev = with_synthetic_split(corpus, "estimate", 20, seed=9, held_out=True)
    assert list(dev) == list(with_dev.qrels["estimate"]) and all(map(is_synthetic, dev))
    assert 20 <= len(dev) <= 30  # half as many again, for the filter
    assert synthetic_sources(with_dev) <= hold_out_documents(corpus, 20, seed=9)
    assert all(query.query_removed for query in dev.values())
    with_both, more = with_synthetic_split(with_dev, "more", 60, seed=9, held_out=False)
    sources = [{query.document_row for query in queries.values()} for queries in (dev, more)]
    assert not sources[0] & sources[1]
    assert with_both.qrels["train"] == corpus.qrels["train"]
    assert with_both.digest != with_dev.digest != corpus.digest
    query = more["generated-more-3"]
    assert with_both.positives("more", with_both.query_row["generated-more-3"]) == [query.document_row]
    assert with_both.query_texts([with_both.query_row["generated-more-3"]]) == [query.text]


def test_no_training_query_is_made_from_an_answer_to_a_query_that_measures(corpus: Corpus) -> None:
    judged = [*corpus.qrels["dev"].values(), *corpus.qrels["test"].values()]
    answers = {corpus.document_row[document] for grades in judged for document in grades}
    _, near = with_synthetic_split(corpus, "more", 200, seed=9, held_out=False)
    _, apart = with_synthetic_split(corpus, "more", 200, seed=9, held_out=False, without=["dev", "test"])
    assert {query.document_row for query in near.values()} & answers
    assert apart and not {query.document_row for query in apart.values()} & answers
    everything = replace(corpus, qrels={"test": {corpus.query_ids[0]: dict.fromkeys(corpus.document_ids, 1)}})
    with pytest.raises(CorpusError, match="none unused and no answer to a query that measures, with a title"):
        with_synthetic_split(everything, "more", 5, seed=9, held_out=False, without=["test"])


def test_at_most_a_fifth_of_the_documents_is_held_out(corpus: Corpus) -> None:
    assert len(hold_out_documents(corpus, 10_000, seed=1)) == len(corpus.documents) // 5
    assert len(hold_out_documents(corpus, 10, seed=1)) == 15


def test_two_held_out_splits_share_no_document(corpus: Corpus) -> None:
    with_dev, dev = with_synthetic_split(corpus, "dev", 10, seed=9, held_out=True)
    _, test = with_synthetic_split(with_dev, "test", 10, seed=9, held_out=True)
    assert not {q.document_row for q in dev.values()} & {q.document_row for q in test.values()}


def test_a_split_of_that_name_gives_way(corpus: Corpus) -> None:
    changed, _ = with_synthetic_split(corpus, "dev", 10, seed=1, held_out=True)
    assert all(query.startswith("generated-dev-") for query in changed.qrels["dev"])
    with pytest.raises(CorpusError, match="has synthetic queries for 'dev' already"):
        with_synthetic_split(changed, "dev", 10, seed=1, held_out=True)


def test_documents_that_give_nothing_or_too_little(caplog: pytest.LogCaptureFixture) -> None:
    def toy(text: str) -> Corpus:
        return Corpus("toy", document_table([("d", "", text)]), query_table([]), {})

    with pytest.raises(CorpusError, match=r"No queries could be generated for split 'dev' of corpus toy: 1 documents"):
        with_synthetic_split(toy("short"), "dev", 5, seed=1, held_out=False)
    with caplog.at_level(logging.WARNING, logger="sdretrieval"):
        with_synthetic_split(toy("one two three four five six"), "dev", 5, seed=1, held_out=False)
    assert "1 of 5 queries generated for 'dev'" in caplog.text
