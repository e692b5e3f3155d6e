"""Generated queries: from the documents alone, never twice, kept apart where they must be."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.corpus import (
    Corpus,
    document_table,
    generated_queries,
    generated_sources,
    hold_out_documents,
    normalised,
    query_table,
    read_beir,
    with_generated_split,
)
from sdretrieval.errors import CorpusError


@pytest.fixture(scope="module")
def corpus(tiny_corpus: Path) -> Corpus:
    return read_beir(tiny_corpus)


def corpus_of(texts: list[str], queries: list[str] = [], titles: list[str] | None = None) -> Corpus:  # noqa: B006
    titles = titles or [""] * len(texts)
    documents = ((f"d{row}", title, text) for row, (title, text) in enumerate(zip(titles, texts, strict=True)))
    return Corpus("toy", document_table(documents), query_table((f"q{n}", q) for n, q in enumerate(queries)), {})


def test_every_query_stands_in_its_document(corpus: Corpus) -> None:
    queries = generated_queries(corpus, 200, seed=1)
    texts = corpus.document_texts()
    assert len(queries) == 200
    for query in queries:
        assert " ".join(query.text.split()) in " ".join(texts[query.document_row].split())
        if query.kind == "span":
            assert 6 <= len(query.text.split()) <= 12
        if query.kind == "leading":
            assert len(query.text.split()) <= 12


def test_spans_are_the_largest_share_of_a_mix() -> None:
    texts = [
        f"word{n} one two three four five six seven. Then more{n} words follow here again today." for n in range(300)
    ]
    titled = corpus_of(texts, titles=[f"The title of number {n}" for n in range(300)])
    kinds = Counter(query.kind for query in generated_queries(titled, 300, seed=1))
    assert set(kinds) == {"span", "leading", "title"}
    assert kinds.most_common(1)[0][0] == "span"
    assert 0.5 < kinds["span"] / 300 < 0.7


def test_same_seed_same_queries(corpus: Corpus) -> None:
    assert generated_queries(corpus, 50, seed=4) == generated_queries(corpus, 50, seed=4)
    assert generated_queries(corpus, 50, seed=4) != generated_queries(corpus, 50, seed=5)


def test_each_document_is_asked_before_any_is_asked_twice(corpus: Corpus) -> None:
    rows = Counter(query.document_row for query in generated_queries(corpus, 100, seed=2))
    assert max(rows.values()) == 1


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text("ab .\n", max_size=40), min_size=1, max_size=8), st.integers(0, 3))
def test_no_text_twice_and_none_that_is_a_query_already(texts: list[str], seed: int) -> None:
    toy = corpus_of(texts, queries=texts[:2])
    made = [normalised(query.text) for query in generated_queries(toy, 30, seed)]
    assert len(set(made)) == len(made)
    assert not set(made) & {normalised(text) for text in texts[:2]}


def test_too_few_texts_give_fewer_queries_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="sdretrieval"):
        made = generated_queries(corpus_of(["one two three four five six", "short"]), 10, seed=1)
    assert [query.document_row for query in made] == [0]
    assert "1 of 10 queries generated" in caplog.text


def test_excluded_documents_give_no_query(corpus: Corpus) -> None:
    held = hold_out_documents(corpus, 30, seed=9)
    assert len(held) == 30
    assert not held & {query.document_row for query in generated_queries(corpus, 150, seed=1, exclude_documents=held)}


def test_a_held_out_split_is_apart_from_training(corpus: Corpus) -> None:
    with_dev = with_generated_split(corpus, "estimate", 20, seed=9, held_out=True)
    assert list(with_dev.qrels["estimate"]) == [f"generated-estimate-{n}" for n in range(20)]
    assert generated_sources(with_dev) <= hold_out_documents(corpus, 20, seed=9)
    with_both = with_generated_split(with_dev, "more", 60, seed=9, held_out=False)
    sources = [{d for judged in with_both.qrels[s].values() for d in judged} for s in ("estimate", "more")]
    assert not sources[0] & sources[1]
    assert with_both.qrels["train"] == corpus.qrels["train"]
    assert with_both.digest != with_dev.digest != corpus.digest
    assert with_both.positives("more", with_both.query_row["generated-more-3"])


def test_a_split_of_that_name_gives_way(corpus: Corpus) -> None:
    changed = with_generated_split(corpus, "dev", 10, seed=1, held_out=True)
    assert all(query.startswith("generated-dev-") for query in changed.qrels["dev"])
    with pytest.raises(CorpusError, match="has generated queries for 'dev' already"):
        with_generated_split(changed, "dev", 10, seed=1, held_out=True)


def test_documents_that_give_nothing() -> None:
    with pytest.raises(CorpusError, match=r"No queries could be generated for split 'dev' of corpus toy: 1 documents"):
        with_generated_split(corpus_of(["short"]), "dev", 5, seed=1, held_out=False)
