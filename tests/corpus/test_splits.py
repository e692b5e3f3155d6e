"""Splits: dev is unseen in training, does not hang on order, and has about the share asked for."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sdretrieval.corpus import (
    Corpus,
    Qrels,
    carve_dev,
    document_table,
    query_table,
    repeated_queries,
    require_positives,
    require_split,
    training_queries,
)
from sdretrieval.errors import CorpusError


def corpus_of(qrels: Mapping[str, Qrels], texts: Mapping[str, str] | None = None) -> Corpus:
    """A corpus that holds what `qrels` names; the texts of queries are their ids unless given."""
    judged = {query: grades for split in qrels.values() for query, grades in split.items()}
    documents = sorted({document for grades in judged.values() for document in grades})
    texts = texts or {}
    return Corpus(
        name="toy",
        documents=document_table((d, "", f"text of {d}") for d in documents),
        queries=query_table((q, texts.get(q, q)) for q in judged),
        qrels=qrels,
    )


train_splits = st.dictionaries(
    st.integers(0, 60).map(lambda n: f"q{n}"),
    st.dictionaries(st.integers(0, 80).map(lambda n: f"d{n}"), st.integers(0, 2), min_size=1, max_size=2),
    min_size=2,
    max_size=50,
)


def positives(qrels: Qrels) -> set[str]:
    return {document for judged in qrels.values() for document, grade in judged.items() if grade > 0}


def groups(qrels: Qrels) -> list[set[str]]:
    """Sets of positives that hang together by some query, found by merging sets."""
    merged: list[set[str]] = []
    for group in filter(None, (positives({query: judged}) for query, judged in qrels.items())):
        merged = [g for g in merged if not g & group] + [group.union(*(g for g in merged if g & group))]
    return merged


@settings(deadline=None, max_examples=60)
@given(train=train_splits, seed=st.integers(0, 5), order=st.randoms(use_true_random=False))
def test_carving_never_shares_a_positive_and_does_not_hang_on_order(
    train: Qrels, seed: int, order: random.Random
) -> None:
    corpus = corpus_of({"train": train})
    assume(positives(train) and len(groups(train)) > 1)
    carved = carve_dev(corpus, seed).qrels
    assert not positives(carved["dev"]) & positives(carved["train"])
    assert {**carved["dev"], **carved["train"]} == train
    assert carved["dev"]
    assert carved["train"]
    items = list(train.items())
    order.shuffle(items)
    assert carve_dev(corpus_of({"train": dict(items)}), seed).qrels == carved


@pytest.mark.parametrize("share", [0.1, 0.2, 0.5])
def test_the_share_is_kept_where_groups_are_small(share: float) -> None:
    train = {f"q{n}": {f"d{n // 2}": 1} for n in range(1000)}
    carved = carve_dev(corpus_of({"train": train}), seed=1, share=share)
    assert len(carved.qrels["dev"]) == pytest.approx(1000 * share, abs=2)


def test_another_seed_chooses_other_queries() -> None:
    corpus = corpus_of({"train": {f"q{n}": {f"d{n}": 1} for n in range(100)}})
    assert carve_dev(corpus, 1).qrels["dev"] != carve_dev(corpus, 2).qrels["dev"]


def test_queries_of_one_text_stay_together() -> None:
    train = {f"q{n}": {f"d{n}": 1} for n in range(40)}
    corpus = corpus_of({"train": train}, {f"q{n}": f"Text  {n // 2}" if n % 2 else f"text {n // 2}" for n in range(40)})
    assert not repeated_queries(carve_dev(corpus, seed=3, share=0.5))


def test_a_judgement_of_zero_binds_nothing() -> None:
    train = {f"q{n}": {"shared": 0, f"d{n}": 1} for n in range(20)}
    assert len(carve_dev(corpus_of({"train": train}), seed=1).qrels["dev"]) == 4


def test_one_giant_group_cannot_be_carved() -> None:
    with pytest.raises(CorpusError, match=r"No dev split can be carved off 'train' of corpus toy: its 3 queries hang"):
        carve_dev(corpus_of({"train": {f"q{n}": {"d": 1} for n in range(3)}}), seed=1)


def test_a_dev_split_that_is_there_is_not_replaced() -> None:
    corpus = corpus_of({"train": {"a": {"x": 1}, "b": {"y": 1}}, "dev": {"c": {"z": 1}}})
    with pytest.raises(CorpusError, match="has a dev split of 1 query: use that one"):
        carve_dev(corpus, seed=1)


def test_a_missing_split_names_those_that_are_there() -> None:
    corpus = corpus_of({"train": {"a": {"x": 1}}, "test": {"b": {"x": 1}, "c": {"x": 1}}, "dev": {}})
    require_split(corpus, "test")
    with pytest.raises(CorpusError, match=r"no split 'valid'\. Splits with judgements: train \(1 query\), test \(2 q"):
        require_split(corpus, "valid")
    with pytest.raises(CorpusError, match="an empty split 'dev'"):
        require_split(corpus, "dev")


def test_a_train_split_without_positives() -> None:
    corpus = corpus_of({"train": {"a": {"x": 0}, "b": {"x": 0}}})
    with pytest.raises(CorpusError, match=r"'train' of corpus toy has 2 judged queries, none with a positive"):
        require_positives(corpus)
    with pytest.raises(CorpusError, match="none with a positive"):
        carve_dev(corpus, seed=1)


def test_a_split_that_measures_without_positives_is_refused_and_queries_without_one_are_counted(
    caplog: pytest.LogCaptureFixture,
) -> None:
    nothing = corpus_of({"train": {"a": {"x": 1}}, "test": {"b": {"x": 0}, "c": {"x": -1}}})
    with pytest.raises(
        CorpusError, match=r"'test' of corpus toy has 2 judged queries, none .* Every measure would be 0: c"
    ):
        require_positives(nothing, "test")
    with caplog.at_level(logging.WARNING, logger="sdretrieval"):
        require_positives(corpus_of({"test": {"b": {"x": 0}, "c": {"x": 1}}}), "test")
    assert "1 of 2 test queries have no relevant document (e.g. 'b'); as in BEIR, they count 0" in caplog.text


def test_queries_without_positives_are_never_carved_off() -> None:
    train = {f"q{n}": {f"d{n}": n % 4 == 0} for n in range(400)}
    dev = carve_dev(corpus_of({"train": {q: {d: int(g) for d, g in grades.items()} for q, grades in train.items()}}), 1)
    assert len(dev.qrels["dev"]) == 20
    assert all(any(grades.values()) for grades in dev.qrels["dev"].values())


def test_a_corpus_without_judgements_names_the_settings_that_help() -> None:
    with pytest.raises(
        CorpusError, match=r"judgements: none\. Add queries\.jsonl and qrels/test\.tsv; or run without"
    ) as raised:
        require_split(corpus_of({}), "test")
    assert str(raised.value).endswith("--set corpus.labels=false --set corpus.generated_queries=1000")


def test_queries_in_two_splits_are_reported_and_left_out_of_training() -> None:
    corpus = corpus_of(
        {"train": {"a": {"x": 1}, "b": {"y": 1}, "c": {"z": 1}}, "dev": {"d": {"x": 1}}, "test": {"e": {"y": 1}}},
        {"a": "Why is  it wet?", "e": "why is it WET?", "d": "c"},
    )
    assert repeated_queries(corpus) == {
        "why is it wet?": {"train": ["a"], "test": ["e"]},
        "c": {"train": ["c"], "dev": ["d"]},
    }
    assert [corpus.query_ids[row] for row in training_queries(corpus)] == ["b"]
    assert [corpus.query_ids[row] for row in training_queries(corpus, exclude=["test"])] == ["b", "c"]
