"""`corpus check` finds what is wrong and says so."""

from __future__ import annotations

import json

import numpy as np
import pytest

from sdretrieval.corpus import Corpus, Dangling, check_corpus, document_table, query_table


@pytest.fixture
def messy() -> Corpus:
    documents = [("a", "One", "two three"), ("b", "", "one  TWO three"), ("c", "", " "), ("d", "", "x " * 96)]
    queries = [("q1", "same words"), ("q2", "Same words"), ("q3", ""), ("q4", "other words")]
    qrels = {"train": {"q1": {"a": 1}, "q3": {"b": 0}}, "test": {"q2": {"d": 1}, "q4": {"nowhere": 1}}}
    return Corpus("messy", document_table(documents), query_table(queries), qrels)


def test_counts_lengths_and_findings(messy: Corpus) -> None:
    found = check_corpus(messy, views={"student": 50, "teacher": 500})
    assert (found.documents, found.queries, found.unit) == (4, 4, "words")
    assert (found.document_lengths.median, found.document_lengths.longest) == (3.0, 96)
    assert found.cut_by_view == {"student": 0.25, "teacher": 0.0}
    assert found.duplicates.examples == ("b = a",)
    assert found.empty_documents.examples == ("c",)
    assert found.empty_queries.examples == ("q3",)
    assert found.dangling.examples == ("test: q4 -> nowhere (no such document)",)
    assert found.repeated.examples == ("'same words' in test, train",)
    assert found.splits["train"].with_positive == 1


def test_the_students_tokens_are_counted_where_given(messy: Corpus) -> None:
    found = check_corpus(messy, lambda texts: np.array([len(text) for text in texts]), {"student": 191})
    assert found.unit == "tokens"
    assert found.document_lengths.longest == 191
    assert found.cut_by_view == {"student": 0.0}


def test_judgements_left_out_while_reading_are_counted(messy: Corpus) -> None:
    assert check_corpus(messy, dangling=[Dangling("dev", "q7", "a", "query")]).dangling.count == 2


def test_lines_for_people_and_json_for_machines(messy: Corpus) -> None:
    found = check_corpus(messy, views={"student": 50})
    text = "\n".join(found.lines())
    assert "messy: 4 documents, 4 queries" in text
    assert "judged queries by split: train 2 (1 positive), test 2 (2 positives)" in text
    assert "median 3, p90 68, longest 96; student cuts 25.0%" in text
    assert "documents that repeat an earlier one: 1 (e.g. b = a)" in text
    assert "warning: split train: 1 of 2 queries without a positive" in text
    assert "warning: view student cuts 25% of the documents" in text
    assert "warning: 1 judgement pointing nowhere" in text
    assert json.loads(json.dumps(found.to_json()))["duplicates"] == {"count": 1, "examples": ["b = a"]}


def test_a_clean_corpus_has_no_warnings_and_one_without_judgements_has_one() -> None:
    documents, queries = document_table([("a", "", "words here")]), query_table([("q", "which")])
    clean = check_corpus(Corpus("clean", documents, queries, {"test": {"q": {"a": 1}}}))
    assert clean.warnings == ()
    bare = check_corpus(Corpus("bare", documents, query_table([]), {}))
    assert bare.query_lengths.longest == 0
    assert bare.warnings == ("no judgements: nothing can be measured but estimates from synthetic queries",)


def test_the_longest_documents_are_named_with_what_each_view_sees(messy: Corpus) -> None:
    found = check_corpus(messy, views={"student": 24, "teacher": 48})
    assert [(one.identifier, one.length, dict(one.seen)) for one in found.longest] == [
        ("d", 96, {"student": 24, "teacher": 48})
    ]
    assert found.seen_by_view == {"student": pytest.approx(30 / 102), "teacher": pytest.approx(54 / 102)}
    text = "\n".join(found.lines())
    assert "view student sees 29.4% of all words; the longest documents: d 96 (25.0% seen)" in text
    assert json.loads(json.dumps(found.to_json()))["longest"][0]["identifier"] == "d"
    assert check_corpus(messy, views={"student": 100}).longest == ()


def test_a_language_that_bm25_would_stem_wrongly_is_a_warning() -> None:
    text = "Die Stadt ist nicht groß, und der Fluss ist auch nicht lang, aber das Land ist schön und die Luft ist gut. "
    documents = document_table([("a", "", text * 10), ("b", "", text * 11)])
    found = check_corpus(Corpus("deutsch", documents, query_table([("q", "welche")]), {"test": {"q": {"a": 1}}}))
    assert [line for line in found.warnings if "German" in line] == [
        "the texts look German, but BM25 stems them, and drops stop words, as English: set mine.language: german "
        "(english is the default)"
    ]
    assert "letters: Latin 100%; language: German, by py3langid" in found.lines()


def test_words_are_counted_by_characters_where_there_are_no_spaces() -> None:
    corpus = Corpus("c", document_table([("a", "", "北京是首都。")]), query_table([]), {})
    assert check_corpus(corpus).document_lengths.longest == 6
