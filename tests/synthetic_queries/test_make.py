"""The documents take turns; nothing is dropped silently."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.corpus import Corpus, document_table, normalised, query_table
from sdretrieval.synthetic_queries import QueryTally, Recipe, make_queries


def corpus_of(texts: list[str], queries: tuple[str, ...] = (), title: str = "The title of number {n}") -> Corpus:
    documents = ((f"d{n}", title.format(n=n), text) for n, text in enumerate(texts))
    return Corpus("toy", document_table(documents), query_table((f"q{n}", q) for n, q in enumerate(queries)), {})


def text_of(n: int) -> str:
    return f"word{n} one two three four five six seven. Then more{n} words follow here again today. And nine{n} more."


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return corpus_of([text_of(n) for n in range(300)])


def test_kinds_are_mixed_by_their_shares(corpus: Corpus) -> None:
    recipe = Recipe({"sentence": 3.0, "keywords": 1.0})
    kinds = Counter(query.kind for query in make_queries(corpus, range(300), 300, 1, recipe))
    assert set(kinds) == {"sentence", "keywords"} and 0.65 < kinds["sentence"] / 300 < 0.85


def test_a_recipe_of_some_kinds_makes_these_alone(corpus: Corpus) -> None:
    for kind in ("title", "question", "sentence", "keywords"):
        queries = make_queries(corpus, range(300), 50, 1, Recipe({"title": 1.0}).of([kind]))  # type: ignore[list-item]
        assert {query.kind for query in queries} == {kind}


def test_a_title_that_several_documents_share_is_no_query() -> None:
    shared = corpus_of([text_of(n) for n in range(40)], title="The very same title")
    assert not make_queries(shared, range(40), 20, 1, Recipe({"title": 1.0, "question": 1.0}))


def test_sentences_and_keywords_are_as_long_as_queries_that_people_asked(corpus: Corpus) -> None:
    recipe = Recipe({"sentence": 1.0, "keywords": 1.0}, lengths=[6])
    assert {len(query.text.split()) for query in make_queries(corpus, range(300), 100, 1, recipe)} == {6}


def test_same_seed_same_queries(corpus: Corpus) -> None:
    assert make_queries(corpus, range(300), 50, 4, Recipe()) == make_queries(corpus, range(300), 50, 4, Recipe())
    assert make_queries(corpus, range(300), 50, 4, Recipe()) != make_queries(corpus, range(300), 50, 5, Recipe())


def test_each_document_is_asked_before_any_is_asked_twice(corpus: Corpus) -> None:
    rows = Counter(query.document_row for query in make_queries(corpus, range(100, 200), 80, 2, Recipe()))
    assert max(rows.values()) == 1 and set(rows) <= set(range(100, 200))


def test_a_query_near_a_held_out_one_is_refused_and_counted(corpus: Corpus) -> None:
    tally = QueryTally()
    near = [f"title The of number {n}" for n in range(0, 300, 2)]
    titles = Recipe({"title": 1.0})
    queries = make_queries(corpus, range(300), 200, 1, titles, held_out=near, tally=tally)
    assert not {query.document_row for query in queries if query.kind == "title"} & set(range(0, 300, 2))
    assert tally.dropped["title", "near a held-out query"] >= 150
    assert "The title of number" in tally.examples["dropped: near a held-out query"][0]


def test_a_model_writes_what_it_is_asked_for(corpus: Corpus) -> None:
    def writer(texts: list[str]) -> list[str]:
        return [f"what is said of {text.split()[-2]}?" for text in texts]

    recipe = Recipe({"written": 1.0, "sentence": 1.0}, writer=writer)  # type: ignore[arg-type]
    queries = make_queries(corpus, range(300), 100, 1, recipe)
    written = [query for query in queries if query.kind == "written"]
    assert 30 < len(written) < 70
    assert all(query.text == f"what is said of nine{query.document_row}?" for query in written)
    assert all(query.query_removed == corpus.document_text(query.document_row) for query in written)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text("ab .\n", max_size=60), min_size=1, max_size=8), st.integers(0, 3))
def test_no_text_twice_and_none_that_is_a_query_already(texts: list[str], seed: int) -> None:
    toy = corpus_of(texts, tuple(texts[:2]), title="")
    tally = QueryTally()
    made = make_queries(toy, range(len(texts)), 30, seed, Recipe({"sentence": 0.5, "keywords": 0.5}), tally=tally)
    words = [normalised(query.text) for query in made]
    assert len(set(words)) == len(words) and not set(words) & {normalised(text) for text in texts[:2]}
    assert sum(tally.made.values()) == len(made) + sum(tally.dropped.values())


def test_a_tally_survives_json() -> None:
    tally = QueryTally()
    tally.make("sentence")
    tally.make("title")
    tally.drop("title", "a query of this text exists", "x" * 500)
    tally.keep("sentence", "some words")
    record = tally.to_json()
    assert record["made"] == {"title": 1, "sentence": 1}
    assert record["dropped"] == {"title": {"a query of this text exists": 1}}
    assert len(record["examples"]["dropped: a query of this text exists"][0]) == 200
    assert QueryTally.from_json(record).to_json() == record
