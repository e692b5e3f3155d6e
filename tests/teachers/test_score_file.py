"""Files of scores: every layout gives the same table, and whatever is broken is refused by file and line."""

from __future__ import annotations

import gzip
import logging
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.errors import CorpusError, RequestError
from sdretrieval.evaluation import write_trec
from sdretrieval.ragged import Ragged
from sdretrieval.teachers.imported import ImportedTeacher
from sdretrieval.teachers.pairs import check_target, read_pairs, write_pairs, write_scores
from sdretrieval.teachers.score_file import ScoreTable, read_scores

ROWS = [("q1", "d1", 1.5), ("q1", "d2", -0.25), ("q2", "d1", 3e-05)]
LINES = "".join(f"{query}\t{document}\t{score}\n" for query, document, score in ROWS)


def pairs(table: ScoreTable) -> dict[tuple[str, str], float]:
    return {
        (table.query_ids[query], table.document_ids[document]): float(score)
        for query, document, score in zip(table.query_P, table.document_P, table.score_P, strict=True)
    }


EXPECTED = {(query, document): float(np.float32(score)) for query, document, score in ROWS}


def written(folder: Path, name: str, content: str | bytes) -> str:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def parquet(folder: Path, name: str = "s.parquet", **columns: Any) -> str:
    pq.write_table(pa.table(columns), folder / name)
    return str(folder / name)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("s.tsv", LINES),
        ("s.tsv", "query\tdocument\tscore\n" + LINES),
        ("s.tsv", "\ufeffquery-id\tcorpus-id\tscore\r\n" + LINES.replace("\n", "\r\n")),
        ("s.txt", LINES.replace("\t", "  ")),
        ("s.csv", "score,qid,docid\n" + "".join(f"{s},{q},{d}\n" for q, d, s in ROWS)),
        ("s.jsonl", "".join(f'{{"query": "{q}", "document": "{d}", "logit": {s}}}\n' for q, d, s in ROWS)),
        ("s.trec", "".join(f"{q} Q0 {d} {rank} {s} my-model\n" for rank, (q, d, s) in enumerate(ROWS, 1))),
        ("s.tsv", "".join(f"{q}\tQ0\t{d}\t{rank}\t{s}\tmodel\n" for rank, (q, d, s) in enumerate(ROWS, 1))),
        ("s.tsv.gz", gzip.compress(LINES.encode())),
        ("s.tsv.zst", zstd.compress(LINES.encode())),
        ("s.tsv", "query\tdocument\tquery_text\tdocument_text\tscore\n"
         + "".join(f'{q}\t{d}\tsome text\tthe "other"\t{s}\n' for q, d, s in ROWS)),
        ("s.tsv", "query\tdocument\tscore\tema\tlexical\tdense\n" + LINES.replace("\n", "\t1\t2\t3\n")),
        ("s.tsv", LINES + LINES),
    ],
    ids=["bare", "names", "windows", "spaces", "csv", "jsonl", "trec", "trec_tabs", "gz", "zst", "texts", "six_names",
         "twice"],
)  # fmt: skip
def test_every_layout_gives_the_same_pairs(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert pairs(read_scores(written(tmp_path, name, content))) == EXPECTED


def test_parquet_takes_ids_that_are_numbers_and_scores_of_any_width(tmp_path: Path) -> None:
    for kind in (pa.float32(), pa.float64()):
        scores = pa.array([1.5, -0.25], kind)
        file = parquet(tmp_path, query_id=[1, 1], doc_id=["a", "b"], score=scores, query_text=["x", "x"])
        assert pairs(read_scores(file)) == {("1", "a"): 1.5, ("1", "b"): -0.25}


ODD = ["a b", "100%", "a%20b", " a", "a ", "t\tab", "n\nl", "50%\toff", "\u2028x", "NA", "007", '"q"', "#", "é", "=1"]


@pytest.mark.parametrize("ending", ["tsv", "parquet", "trec"])
def test_ids_of_every_kind_are_found_again_in_files_of_scores(tmp_path: Path, ending: str) -> None:
    file, scores = tmp_path / f"s.{ending}", np.arange(len(ODD), dtype=np.float32) / 3
    if ending == "trec":
        write_trec({f"q{i}": {i: float(score)} for i, score in zip(ODD, scores, strict=True)}, file, "tag")
    else:
        write_scores(file, [(f"q{i}", i) for i in ODD], {"score": scores})
    teacher = ImportedTeacher(read_scores(str(file)), name="x", query_ids=[f"q{i}" for i in ODD], document_ids=ODD)
    every = Ragged.of([[row] for row in range(len(ODD))], np.int64)
    assert np.allclose(teacher.score(np.arange(len(ODD)), every).values_T, scores) and not teacher.unknown_ids


def test_ids_that_others_write_percent_encoded_are_taken_as_they_are(tmp_path: Path) -> None:
    table = read_scores(written(tmp_path, "s.trec", "a%20query Q0 100%25 1 0.5 tag\n"))
    for query, document in (("a%20query", "100%25"), ("a query", "100%")):
        teacher = ImportedTeacher(table, name="x", query_ids=[query], document_ids=[document])
        assert teacher.score(np.asarray([0]), Ragged.of([[0]], np.int64)).values_T.tolist() == [0.5]


def test_pairs_are_read_back_as_they_were(tmp_path: Path) -> None:
    listed = [(f"q{identifier}", identifier) for identifier in ODD]
    write_pairs(tmp_path / "p.tsv", listed, lambda pair: ("one", "two"))
    assert read_pairs(tmp_path / "p.tsv") == listed


def test_a_column_is_taken_by_its_name(tmp_path: Path) -> None:
    file = written(tmp_path, "s.tsv", "query\tdocument\tscore\tlexical\nq\td\t1\t2\n")
    assert pairs(read_scores(file, "lexical")) == {("q", "d"): 2.0}


def test_several_files_are_one_table(tmp_path: Path) -> None:
    written(tmp_path, "scores-1.tsv", LINES)
    parquet(tmp_path, "scores-2.parquet", query=["q3"], document=["d9"], score=[7.0])
    assert pairs(read_scores(str(tmp_path / "scores-*"))) == {**EXPECTED, ("q3", "d9"): 7.0}


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    file = written(tmp_path, "s.tsv", "q\td\t1\n")
    assert pairs(read_scores(file)) == {("q", "d"): 1.0}
    written(tmp_path, "s.tsv", "q\td\t1\nq\te\t2\n")
    assert pairs(read_scores(file)) == {("q", "d"): 1.0, ("q", "e"): 2.0}


BROKEN: list[tuple[str, str | bytes, str]] = [
    ("s.tsv", "q\td\t1\nq\te\n", r"scores .*s\.tsv: 1 broken line: line 2: 2 fields, expected 3; expected query, docu"),
    ("s.tsv", "q\td\t1\nq\te\tgood\n", r"line 2: the score is 'good', expected a number; .* mend it, or write it"),
    ("s.tsv", "q\td\t1\nq\te\t\n", r"line 2: the score is '', expected a number"),
    ("s.tsv", "q\td\t1\n\te\t2\n", r"line 2: no query"),
    ("s.tsv", "q\td\t1\nq\t \t2\n", r"line 2: no document"),
    ("s.tsv", "q\td\t1\n" + "q\te\n" * 5, r"5 broken lines: line 2: .*; line 3: .*; line 4: [^;]* \(and 2 more\)"),
    ("s.tsv", "query\tdocument\tscore\nq\td\t1\nq\te\n", r"1 broken line: line 3: 2 tab-separated fields, expected 3"),
    ("s.tsv", "query\tdocument\tscore\nq\td\tgood\n", r"line 2: the score is 'good', expected a number"),
    ("s.tsv", b"q\td\t1\nq\t\xff\t2\n", r"1 broken line: line 2: "),
    ("s.jsonl", '{"query": "q", "document": "d", "score": 1}\n{"query"\n', r"1 broken line: line 2: "),
    ("s.jsonl", '{"query": "q", "document": "d", "score": true}\n', r"line 1: the score is True, expected a number"),
    ("s.jsonl", '{"query": "q", "document": "d", "score": null}\n', r"line 1: the score is None, expected a number"),
    ("s.tsv", "query\tdocument\tscore\n", r"the file holds no pair; expected query, document, score \(or a TREC run"),
    ("s.txt", "", r"the file holds no pair"),
    ("s.tsv", "q\td\tnan\n", r"s\.tsv:1: the score of query 'q' and document 'd' is nan, expected a finite"),
    ("s.tsv", "q\td\t1\nq\te\t-inf\nq\tf\tinf\n", r"s\.tsv:2: the score of query 'q' and document 'e' is -inf.*\(2 s"),
    ("s.tsv", "q\td\t1e300\n", r"s\.tsv:1: .* is 1e\+300, expected a finite float32"),
    ("s.tsv", "q\td\t1\nq\te\t2\nq\td\t1.5\n",
     r"s\.tsv:1 and .*s\.tsv:3 give query 'q' and document 'd' two scores, 1 and 1\.5 \(1 such.*; keep one"),
    ("s.tsv", "query\tscore\nq\t1\n", r"no column for the document's id; the columns found are 'query', 'score'"),
    ("s.tsv", "q\td\tn/a\nq\te\t1\n", r"no column for the query's id; the columns found are 'q', 'd', 'n/a'"),
    ("s.csv", "query,document,points\nq,d,1\n", r"no column for the score; .*Name it in the config: teacher\.column\."),
    ("s.parquet", "text", r"scores .*s\.parquet: no Parquet file or a damaged one"),
    ("s.tsv.gz", b"text", r"s\.tsv\.gz cannot be read"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "message"), BROKEN)
def test_a_broken_file_is_refused_by_line(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        read_scores(written(tmp_path, name, content))


def test_a_column_that_is_not_there(tmp_path: Path) -> None:
    named = written(tmp_path, "named.tsv", "query\tdocument\tscore\tlexical\nq\td\t1\t2\n")
    with pytest.raises(CorpusError, match=r"no column 'lexcal'.*Did you mean 'lexical'\?"):
        read_scores(named, "lexcal")
    with pytest.raises(RequestError, match=r"column 'x' is asked for, but the file has no line of names"):
        read_scores(written(tmp_path, "bare.tsv", LINES), "x")


def test_two_files_that_disagree_name_both_places(tmp_path: Path) -> None:
    written(tmp_path, "a.tsv", "q\td\t1\n")
    written(tmp_path, "b.tsv", "q\te\t1\nq\td\t2\n")
    with pytest.raises(RequestError, match=r"a\.tsv:1 and .*b\.tsv:2 give query 'q' and document 'd' two scores"):
        read_scores(str(tmp_path / "*.tsv"))


def test_a_file_that_is_not_there_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"nowhere\.tsv: is not there\. `sdretrieval score CONFIG --pairs FILE` writ"
    ):
        read_scores(str(tmp_path / "nowhere.tsv"))
    with pytest.raises(RequestError, match="is a folder, expected a file"):
        read_scores(str(tmp_path))


def test_a_hundred_thousand_lines(tmp_path: Path) -> None:
    chance = random.Random(1)
    lines = [f"query-{n // 100}\tdocument-{n}\t{chance.gauss(0, 3):.6f}" for n in range(100_000)]
    chance.shuffle(lines)
    file = written(tmp_path, "large.tsv", "query\tdocument\tscore\n" + "\n".join(lines) + "\n")
    table = read_scores(file)
    assert (len(table), len(table.query_ids), len(table.document_ids)) == (100_000, 1000, 100_000)
    query, document, score = lines[77_777].split("\t")
    assert pairs(table)[query, document] == np.float32(float(score))
    written(tmp_path, "large.tsv", "query\tdocument\tscore\n" + "\n".join([*lines, "query-1\tdocument"]) + "\n")
    with pytest.raises(RequestError, match=r"1 broken line: line 100002: 2 tab-separated fields, expected 3"):
        read_scores(file)


def test_a_suspicious_scale_is_warned_of_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = written(tmp_path, "s.tsv", "".join(f"q\td{n}\t0.5\n" for n in range(30)))
    with caplog.at_level(logging.WARNING, logger="sdretrieval"):
        read_scores(file)
        read_scores(file)
    assert [record.getMessage() for record in caplog.records] == [
        f"scores {file}: all 30 scores are 0.5: there is no order to learn; is this the right column?"
    ]


# --- what is written is read back


IDS = st.text(st.characters(codec="utf-8", categories=("L", "N", "P")), min_size=1, max_size=8)
SCORES = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=20)


@given(scores=SCORES, ending=st.sampled_from(["tsv", "tsv.gz", "parquet"]))
def test_scores_come_back_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, scores: list[float], ending: str
) -> None:
    file = tmp_path_factory.mktemp("scores") / f"s.{ending}"
    listed = [("q", f"d{n}") for n in range(len(scores))]
    write_scores(file, listed, {"score": np.asarray(scores, np.float32)})
    back = pairs(read_scores(str(file)))
    assert np.array([back[pair] for pair in listed], np.float32).tobytes() == np.array(scores, np.float32).tobytes()


@pytest.mark.parametrize("ending", ["tsv", "tsv.gz", "parquet"])
def test_pairs_are_written_with_texts_that_do_not_break_lines(tmp_path: Path, ending: str) -> None:
    from sdretrieval.corpus.read.report import Tally
    from sdretrieval.corpus.read.tables.records import read_records

    file = tmp_path / f"pairs.{ending}"
    write_pairs(file, [("q", "d")], lambda pair: ("a\tb", "one\r\ntwo\u2028three"))
    if ending == "parquet":
        assert pq.read_table(file).to_pylist() == [
            {"query": "q", "document": "d", "query_text": "a\tb", "document_text": "one\r\ntwo\u2028three"}
        ]
        return
    (record,) = read_records(file, Tally(str(file), "pairs"))
    assert record.values == {
        "query": "q", "document": "d", "query_text": "a b", "document_text": "one two three",
    }  # fmt: skip
    assert list(tmp_path.iterdir()) == [file], "nothing unfinished is left beside it"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pairs.csv", "expected a file name that ends in .tsv, .tsv.gz or .parquet"),
        ("pairs", "expected a file name that ends in"),
        ("nowhere/pairs.tsv", "there is no folder .*nowhere; make it first"),
        ("folder.tsv", "is a folder, expected a file"),
    ],
)
def test_a_file_that_cannot_be_written(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder.tsv").mkdir()
    with pytest.raises(RequestError, match=message):
        check_target(tmp_path / name)
