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
    kinds = Counter(query.kind for query in make_queries(corpus, range(300), 300, 1, Recipe()))
    assert set(kinds) == {"title", "leading", "span", "keywords"}  # no headings here: spans stand in for them
    assert 0.5 < kinds["span"] / 300 < 0.7 and 0.05 < kinds["keywords"] / 300 < 0.16


def test_a_share_of_zero_makes_none(corpus: Corpus) -> None:
    queries = make_queries(corpus, range(300), 100, 1, Recipe({"title": 1.0, "span": 0.0}))
    assert {query.kind for query in queries} == {"title"}


def test_training_hides_what_the_recipe_says_and_measuring_hides_all(corpus: Corpus) -> None:
    training = make_queries(corpus, range(300), 200, 1, Recipe())
    assert {query.kind for query in training if query.query_removed is not None} == {"title"}
    measuring = make_queries(corpus, range(300), 200, 1, Recipe().for_measuring(), must_be_masked=True)
    assert all(query.query_removed and query.text not in query.query_removed for query in measuring)
    assert "keywords" not in {query.kind for query in measuring}


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


def test_what_cannot_be_hidden_does_not_measure() -> None:
    tally = QueryTally()
    short = corpus_of(["Only one sentence with quite a few words."], title="")
    assert not make_queries(short, [0], 5, 1, Recipe().for_measuring(), must_be_masked=True, tally=tally)
    assert sum(tally.dropped.values()) == sum(tally.made.values()) > 0


def test_a_model_writes_what_it_is_asked_for(corpus: Corpus) -> None:
    def writer(texts: list[str]) -> list[str]:
        return [f"what is said of {text.split()[-2]}?" for text in texts]

    recipe = Recipe({"written": 1.0, "span": 1.0}, writer=writer)  # type: ignore[arg-type]
    queries = make_queries(corpus, range(300), 100, 1, recipe)
    written = [query for query in queries if query.kind == "written"]
    assert 30 < len(written) < 70
    assert all(query.text == f"what is said of nine{query.document_row}?" for query in written)
    assert all(query.query_removed is None for query in written)


@settings(deadline=None, max_examples=30)
@given(st.lists(st.text("ab .\n", max_size=60), min_size=1, max_size=8), st.integers(0, 3))
def test_no_text_twice_and_none_that_is_a_query_already(texts: list[str], seed: int) -> None:
    toy = corpus_of(texts, tuple(texts[:2]), title="")
    tally = QueryTally()
    made = make_queries(toy, range(len(texts)), 30, seed, Recipe({"span": 0.5, "leading": 0.5}), tally=tally)
    words = [normalised(query.text) for query in made]
    assert len(set(words)) == len(words) and not set(words) & {normalised(text) for text in texts[:2]}
    assert sum(tally.made.values()) == len(made) + sum(tally.dropped.values())


def test_a_tally_survives_json() -> None:
    tally = QueryTally()
    tally.make("span")
    tally.make("title")
    tally.drop("title", "a query of this text exists", "x" * 500)
    tally.keep("span", "some words")
    record = tally.to_json()
    assert record["made"] == {"title": 1, "span": 1}
    assert record["dropped"] == {"title": {"a query of this text exists": 1}}
    assert len(record["examples"]["dropped: a query of this text exists"][0]) == 200
    assert QueryTally.from_json(record).to_json() == record


def test_a_query_that_still_stands_in_its_masked_document_does_not_measure() -> None:
    tally = QueryTally()
    title = "How plugins are found by name"
    text = f"{title}. Each of them may register commands, hooks and settings of its own, and more besides."
    twice = Corpus("toy", document_table([("d", title, text)]), query_table([]), {})
    leading = Recipe({"leading": 1.0})
    made = make_queries(twice, [0], 3, 1, leading.for_measuring(), must_be_masked=True, tally=tally)
    assert all(title.lower() not in query.text.lower() for query in made)
    assert tally.dropped["leading", "is in its document more than once"] > 0
