"""BEIR folders: what is read, what is refused and with which words, and that nothing changes on the way."""

from __future__ import annotations

import gzip
import json
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from sdretrieval.corpus import (
    carve_dev,
    check_corpus,
    dangling_judgements,
    load_corpus,
    read_beir,
    save_corpus,
    write_beir,
)
from sdretrieval.errors import CorpusError, DamagedArtifact

DOCUMENTS = [
    '{"_id": "a", "title": "Rain", "text": "It falls.", "metadata": {}}',
    '{"_id": "b", "text": "Tides \\u2028 turn."}',
]
QUERIES = ['{"_id": "q1", "text": "what falls"}', '{"_id": "q2", "text": "what turns"}']
QRELS = ["query-id\tcorpus-id\tscore", "q1\ta\t1", "q1\tb\t0", "q2\tb\t2"]


def folder_of(root: Path, documents: list[str], queries: list[str], qrels: list[str] | None) -> Path:
    (root / "qrels").mkdir(parents=True)
    (root / "corpus.jsonl").write_text("\n".join(documents) + "\n", encoding="utf8")
    (root / "queries.jsonl").write_text("\n".join(queries) + "\n", encoding="utf8")
    if qrels is not None:
        (root / "qrels" / "test.tsv").write_text("\n".join(qrels) + "\n", encoding="utf8")
    return root


def test_reads_documents_queries_and_judgements(tmp_path: Path) -> None:
    corpus = read_beir(folder_of(tmp_path / "small", DOCUMENTS, QUERIES, QRELS))
    assert corpus.name == "small"
    assert corpus.document_texts() == ["Rain It falls.", "Tides \u2028 turn."]
    assert corpus.query_texts() == ["what falls", "what turns"]
    assert corpus.qrels == {"test": {"q1": {"a": 1, "b": 0}, "q2": {"b": 2}}}
    assert corpus.positives("test", 0) == [0]


def test_qrels_without_headings_keep_their_first_line(tmp_path: Path) -> None:
    corpus = read_beir(folder_of(tmp_path / "c", DOCUMENTS, QUERIES, QRELS[1:]))
    assert corpus.qrels["test"]["q1"] == {"a": 1, "b": 0}


def test_byte_order_mark_windows_line_ends_numbers_as_ids_and_broken_surrogates_are_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "c", ["{}"], QUERIES, None)
    (folder / "corpus.jsonl").write_bytes(b'\xef\xbb\xbf{"_id": 7, "title": null, "text": "x \\ud800"}\r\n\r\n')
    (folder / "qrels" / "dev.tsv").write_bytes(b"\xef\xbb\xbfq1\t7\t1\r\n")
    corpus = read_beir(folder)
    assert corpus.document_ids == ["7"]
    assert corpus.document_texts() == ["x \ufffd"]
    assert corpus.qrels["dev"] == {"q1": {"7": 1}}


@pytest.mark.parametrize(
    ("qrels", "expected"),
    [
        ("corpus-id\tquery-id\tscore\na\tq1\t1\n", {"q1": {"a": 1}}),
        ("query-id\titer\tcorpus-id\trelevance\nq1\t0\ta\t1\n", {"q1": {"a": 1}}),
        ("\ufeff\r\nq1\ta\t1.0\r\n  \r\n\r\n", {"q1": {"a": 1}}),
    ],
)
def test_headings_say_which_column_is_which(tmp_path: Path, qrels: str, expected: dict[str, dict[str, int]]) -> None:
    folder = folder_of(tmp_path / "c", DOCUMENTS, QUERIES, [])
    (folder / "qrels" / "test.tsv").write_text(qrels, encoding="utf8", newline="")
    assert read_beir(folder).qrels == {"test": expected}


def test_packed_qrels_are_read(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "c", DOCUMENTS, QUERIES, QRELS)
    plain = read_beir(folder)
    (folder / "qrels" / "test.tsv.gz").write_bytes(gzip.compress((folder / "qrels" / "test.tsv").read_bytes()))
    (folder / "qrels" / "test.tsv").unlink()
    assert read_beir(folder).digest == plain.digest


def test_headings_that_say_nothing_and_broken_texts_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    broken = r'{"_id": "c\ud800", "text": "x"}'
    with caplog.at_level(logging.WARNING, logger="sdretrieval"):
        corpus = read_beir(folder_of(tmp_path / "c", [*DOCUMENTS, broken], QUERIES, ["q1\tb\tyes", "q1\ta\t1"]))
    assert corpus.document_ids[-1] == "c\ufffd" and corpus.qrels["test"] == {"q1": {"a": 1}}
    assert "1 first line of qrels taken for headings, expected query-id, corpus-id, score: test.tsv: 'q1', 'b'" in (
        caplog.text
    )
    assert "each read as U+FFFD: corpus.jsonl:3: half of a surrogate pair in 'c" in caplog.text


def test_the_last_judgement_of_a_pair_counts_here_as_in_beir(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from beir.datasets.data_loader import GenericDataLoader

    folder = folder_of(tmp_path / "c", DOCUMENTS, QUERIES, [*QRELS, "q1\ta\t0", "q2\tb\t2"])
    with caplog.at_level(logging.WARNING, logger="sdretrieval"):
        corpus = read_beir(folder)
    assert corpus.qrels["test"] == {"q1": {"a": 0, "b": 0}, "q2": {"b": 2}}
    assert corpus.qrels["test"] == GenericDataLoader(str(folder)).load(split="test")[2]
    assert "2 pairs judged more than once, and the last judgement counts, as in BEIR: test.tsv:5: q1 -> a with 0, " in (
        caplog.text
    )


def test_a_folder_of_documents_alone_is_a_corpus(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(DOCUMENTS[0])
    corpus = read_beir(tmp_path, name="mine")
    assert (corpus.name, len(corpus.documents), len(corpus.queries), dict(corpus.qrels)) == ("mine", 1, 0, {})


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no corpus at .*nowhere: the path does not exist.*A BEIR folder holds"):
        read_beir(tmp_path / "nowhere")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CorpusError, match=r"file is a file, expected a folder\. A BEIR folder holds corpus\.jsonl"):
        read_beir(tmp_path / "file")


def test_a_folder_of_another_kind_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    (tmp_path / "pictures").mkdir()
    with pytest.raises(
        CorpusError, match=r"no BEIR folder: corpus\.jsonl missing; it holds 'notes\.txt', 'pictures/'\. A BEIR"
    ):
        read_beir(tmp_path)
    with pytest.raises(CorpusError, match=r"missing; it is empty"):
        read_beir(tmp_path / "pictures")


def test_qrels_without_queries_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "c", DOCUMENTS, QUERIES, QRELS)
    (folder / "queries.jsonl").unlink()
    with pytest.raises(
        CorpusError, match=r"no BEIR folder: queries\.jsonl missing; it holds 'corpus\.jsonl', 'qrels/'"
    ):
        read_beir(folder)


def test_an_empty_corpus(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").touch()
    with pytest.raises(CorpusError, match=r"corpus\.jsonl holds no documents"):
        read_beir(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            '{"_id": "c", "text": "cut o',
            r"corpus\.jsonl:3: broken line \(Unterminated string.*it begins '{\"_id\": \"c\"",
        ),
        ('["c", "text"]', r"corpus\.jsonl:3: a JSON list, expected an object"),
        ('{"id": "c", "text": "x"}', r"corpus\.jsonl:3: no field _id \(found: id, text\), expected a string"),
        ('{"_id": "c", "contents": "x"}', r"corpus\.jsonl:3: no field text \(found: _id, contents\)"),
        ('{"_id": "c", "text": null}', r"corpus\.jsonl:3: text is None, expected a string"),
        ('{"_id": "c", "text": ' + "[" * 100_000, r"corpus\.jsonl:3: broken line \(maximum recursion depth"),
        (r'{"_id": "a\u0000b", "text": "x"}', r"corpus\.jsonl:3: _id is 'a\\x00b', expected a string without NUL"),
        ('{"_id": true, "text": "x"}', r"corpus\.jsonl:3: _id is True, expected a string"),
        ('{"_id": "", "text": "x"}', r"corpus\.jsonl:3: _id is '', expected a string"),
        ('{"_id": "c", "text": "x", "title": ["y"]}', r"corpus\.jsonl:3: title is \['y'\], expected a string"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_beir(folder_of(tmp_path / "c", [*DOCUMENTS, line], QUERIES, QRELS))


def test_a_broken_query_line_is_named_in_its_own_file(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"queries\.jsonl:1: broken line .* Mend the line or remove it"):
        read_beir(folder_of(tmp_path / "c", DOCUMENTS, ["what falls", *QUERIES], QRELS))


def test_a_line_that_is_not_utf8(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "c", DOCUMENTS, QUERIES, QRELS)
    (folder / "corpus.jsonl").write_bytes(b'{"_id": "a", "text": "caf\xe9"}\n')
    with pytest.raises(CorpusError, match=r"corpus\.jsonl:1: broken line \('utf-8' codec can't decode"):
        read_beir(folder)


def test_ids_that_occur_twice_are_named_with_their_lines(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus\.jsonl: 1 id used more than once: 'a \(lines 1 and 3\)'"):
        read_beir(folder_of(tmp_path / "c", [*DOCUMENTS, DOCUMENTS[0]], QUERIES, QRELS))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("q2\tb", r"test\.tsv:5: 2 tab-separated columns .*expected 3: query-id, corpus-id, score\.$"),
        ("q2 0 b 1", r"test\.tsv:5: 1 tab-separated columns"),
        ("q2\t0\tb\t1", r"test\.tsv:5: 4 tab-separated columns .*TREC's layout: remove the second"),
        ("q2\tb\tgood", r"test\.tsv:5: the score is 'good', expected a whole number"),
        ("q2\tb\t0.5", r"test\.tsv:5: the score is '0\.5', expected a whole number"),
        (f"q2\tb\t{'9' * 30}", r"test\.tsv:5: the score is '9{30}', expected a whole number .* at most 10,000"),
        ("q2\tb\t1_0", r"test\.tsv:5: the score is '1_0', expected a whole number"),
    ],
)
def test_a_qrels_row_that_is_none_is_named(tmp_path: Path, row: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        read_beir(folder_of(tmp_path / "c", DOCUMENTS, QUERIES, [*QRELS, row]))


def test_judgements_that_point_nowhere_are_left_out_and_listed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = folder_of(tmp_path / "c", DOCUMENTS, QUERIES, [*QRELS, "q2\tgone\t1", "q9\ta\t1", "q9\tgone\t1"])
    with caplog.at_level(logging.WARNING, logger="sdretrieval"):
        corpus = read_beir(folder)
    assert corpus.qrels["test"] == {"q1": {"a": 1, "b": 0}, "q2": {"b": 2}}
    assert "3 judgements pointing nowhere, left out: test: q2 -> gone (no such document)" in caplog.text
    assert "published figures compare with a complete corpus alone" in caplog.text
    assert [found.missing for found in dangling_judgements(folder, corpus)] == [
        "document",
        "query",
        "query and document",
    ]


def test_written_and_read_again_is_the_same(tmp_path: Path) -> None:
    corpus = read_beir(folder_of(tmp_path / "c", DOCUMENTS, QUERIES, QRELS))
    write_beir(corpus, tmp_path / "deep" / "copy")
    assert read_beir(tmp_path / "deep" / "copy").digest == corpus.digest
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["copy"]


def test_beir_reads_what_we_write(tmp_path: Path, tiny_corpus: Path) -> None:
    corpus = read_beir(tiny_corpus)
    write_beir(corpus, tmp_path / "copy")
    judged = [line.split("\t") for line in (tmp_path / "copy/qrels/test.tsv").read_text().splitlines()[1:]]
    records = [json.loads(line) for line in (tmp_path / "copy/corpus.jsonl").read_text().splitlines()]
    assert {query for query, _, _ in judged} == set(corpus.qrels["test"])
    assert [record["_id"] for record in records] == corpus.document_ids


def test_nothing_is_written_over_a_folder_in_use(tmp_path: Path) -> None:
    corpus = read_beir(folder_of(tmp_path / "c", DOCUMENTS, QUERIES, QRELS))
    with pytest.raises(CorpusError, match="exists and is not empty: nothing was written"):
        write_beir(corpus, tmp_path / "c")


def test_saved_and_loaded_is_the_same_and_lies_on_disk(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    corpus = read_beir(folder_of(tmp_path / "c", DOCUMENTS, QUERIES, QRELS))
    save_corpus(corpus, tmp_path / "saved")
    loaded = load_corpus(tmp_path / "saved")
    assert (loaded.digest, loaded.name, loaded.qrels) == (corpus.digest, "c", corpus.qrels)
    assert loaded.documents.cache_files, "the documents are memory-mapped"
    assert "Saving" not in capfd.readouterr().err


def test_a_corpus_without_queries_can_be_saved(tmp_path: Path) -> None:
    (tmp_path / "corpus.jsonl").write_text(DOCUMENTS[0])
    corpus = read_beir(tmp_path)
    save_corpus(corpus, tmp_path / "saved")
    assert load_corpus(tmp_path / "saved").digest == corpus.digest


def test_a_saved_corpus_that_is_absent_or_damaged(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"holds no saved corpus: corpus\.json is missing"):
        load_corpus(tmp_path)
    save_corpus(read_beir(folder_of(tmp_path / "c", DOCUMENTS, QUERIES, QRELS)), tmp_path / "saved")
    (tmp_path / "saved" / "qrels.json").unlink()
    with pytest.raises(DamagedArtifact, match="cannot be read .* made again"):
        load_corpus(tmp_path / "saved")


@pytest.mark.real
def test_scifact_has_its_published_counts(real_data: Callable[[str], Path], tmp_path: Path) -> None:
    corpus = read_beir(real_data("scifact"))
    counts = {split: len(judged) for split, judged in corpus.qrels.items()}
    assert (len(corpus.documents), counts) == (5183, {"train": 809, "test": 300})
    save_corpus(corpus, tmp_path)
    assert load_corpus(tmp_path).digest == corpus.digest
    carved = carve_dev(corpus, seed=13)
    assert len(carved.qrels["dev"]) == pytest.approx(0.2 * 809, abs=2)


def test_positives_of_the_querys_own_id_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A corpus that numbers queries and documents alike would lose its positives without a word."""
    folder = tmp_path / "faq"
    (folder / "qrels").mkdir(parents=True)
    for name in ("corpus", "queries"):
        (folder / f"{name}.jsonl").write_text(
            "".join(json.dumps({"_id": str(n), "text": f"text {n}"}) + "\n" for n in range(3))
        )
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n0\t0\t1\n1\t1\t1\n2\t0\t1\n")
    with caplog.at_level(logging.WARNING, logger="sdretrieval"):
        corpus = read_beir(folder)
    expected = "2 of 3 test queries with a positive document of the same id (e.g. '0'): a query never retrieves"
    assert any(expected in message for message in caplog.messages)
    assert any(expected in warning for warning in check_corpus(corpus).warnings)
