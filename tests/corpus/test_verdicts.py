"""What a person marked: read, found again in a corpus by its text, refused by line where it is wrong."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from sdretrieval.corpus import Corpus, Verdicts, content_digest, document_table, query_table, read_marks, resolve
from sdretrieval.corpus.verdicts import COLUMNS, kept_records, marks_text, pairs_of
from sdretrieval.errors import RequestError

HEAD = "verdict\tquery_id\tdocument_id\n"


def corpus() -> Corpus:
    """Three documents, two of one text, and two queries."""
    documents = document_table([("d0", "Bread", "needs  yeast"), ("d1", "", "Bread needs yeast"), ("d2", "", "Ships")])
    return Corpus("c", documents, query_table([("q0", "how to bake"), ("q1", "who sails")]), {"train": {}})


def written(folder: Path, text: str, name: str = "marks.tsv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf8")
    return path


def digest(text: str) -> str:
    return content_digest(text).hex()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.tsv", HEAD + "relevant\tq0\td2\n\tq1\td2\n Not \tq1\td0\n"),
        ("a.csv", "verdict,query_id,document_id\nrelevant,q0,d2\n,q1,d2\nNOT,q1,d0\n"),
        ("b.csv", "\ufeffverdict;query_id;document_id\nrelevant;q0;d2\n;q1;d2\nnot;q1;d0\n"),
        (
            "a.jsonl",
            '{"verdict": "relevant", "query_id": "q0", "document_id": "d2"}\n'
            '{"query_id": "q1", "document_id": "d2"}\n{"verdict": "not", "query_id": "q1", "document_id": "d0"}\n',
        ),
    ],
)
def test_marks_are_read_from_what_people_save(tmp_path: Path, name: str, text: str) -> None:
    marks = read_marks(written(tmp_path, text, name))
    assert [(mark.query, mark.document, mark.verdict) for mark in marks] == [
        ("id:q0", "id:d2", "relevant"),
        ("id:q1", "id:d0", "not"),
    ]
    assert marks[1].line == (3 if name.endswith("jsonl") else 4)
    found, idle = resolve(marks, corpus(), [0, 1], tmp_path / name)
    assert (found.relevant, found.refused, idle) == ({0: frozenset({2})}, {1: frozenset({0})}, [])
    assert Verdicts.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_a_text_is_found_by_what_it_says_whatever_its_id_is_now(tmp_path: Path) -> None:
    line = f"relevant\tOLD\tOLD\t{digest('how  to bake')}\t{digest('Bread needs yeast')}\n"
    path = written(tmp_path, "verdict\tquery_id\tdocument_id\tquery_digest\tdocument_digest\n" + line)
    found, _ = resolve(read_marks(path), corpus(), [0, 1], path)
    assert found.relevant == {0: frozenset({0, 1})}, "both documents of that text"


def test_a_query_that_is_not_trained_on_is_named_and_says_nothing(tmp_path: Path) -> None:
    path = written(tmp_path, HEAD + "relevant\tq0\td2\nnot\tq1\td2\n")
    found, idle = resolve(read_marks(path), corpus(), [1], path)
    assert (found.relevant, found.refused, [mark.line for mark in idle]) == ({}, {1: frozenset({2})}, [2])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (
            "maybe\tq0\td0\n",
            r"marks\.tsv: line 2: verdict 'maybe'; expected relevant, not, or nothing; correct or remove the",
        ),
        ("not\t\td0\n", "line 2: no query_digest and no query_id; expected one of them"),
        ("\tq0\td0\nnot\tq0\td9\n", "line 3: no document of this corpus has the id d9; correct or remove the line"),
        ("not\tq9\td0\n", "line 2: no query of this corpus has the id q9"),
        ("not\tq0\td0\n\tq1\td0\nrelevant\tq0\td1\n", None),
        (
            "not\tq0\td0\n\tq1\td0\nrelevant\tq0\td0\n",
            "line 4 says 'relevant' of what line 2 says 'not'; correct or remove",
        ),
        ("x\tq0\td0\ny\tq0\td0\n", "line 2: verdict 'x'.*; line 3: verdict 'y'.*; correct or remove these lines"),
    ],
)
def test_what_is_wrong_is_named_by_its_line(tmp_path: Path, lines: str, message: str | None) -> None:
    path = written(tmp_path, HEAD + lines)
    if message is None:
        resolve(read_marks(path), corpus(), [0, 1], path)
        return
    with pytest.raises(RequestError, match=message):
        resolve(read_marks(path), corpus(), [0, 1], path)


def test_two_ids_of_one_text_cannot_be_marked_differently_by_digest(tmp_path: Path) -> None:
    head = "verdict\tquery_id\tdocument_id\tdocument_digest\n"
    path = written(tmp_path, f"{head}not\tq0\td0\t\nrelevant\tq0\t\t{digest('Bread needs yeast')}\n")
    with pytest.raises(RequestError, match="line 3 says 'relevant' of what line 2 says 'not'"):
        resolve(read_marks(path), corpus(), [0], path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.xlsx", b"", "found the ending '.xlsx'; expected one of .tsv, .csv, .jsonl"),
        ("a.tsv", None, "no such file; `sdretrieval doubts` writes one to mark"),
        ("a.tsv", b"\xff\xfe", "byte 0 is not UTF-8; save the file as UTF-8"),
        (
            "a.tsv",
            b"query_id\tdocument_id\n",
            "found the columns query_id, document_id; expected verdict, query_digest or",
        ),
        ("a.tsv", b"", "found the columns none; expected verdict"),
        ("a.jsonl", b"{}\n{broken\n", "line 2: broken JSON"),
        ("a.jsonl", b"[1]\n", "line 1: found no object; expected one a line"),
    ],
)
def test_a_file_that_is_no_such_table_is_refused(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(RequestError, match=message.replace(".", r"\.")):
        read_marks(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("m.jsonl", "[" * 100_000, r"m\.jsonl, line 1: broken JSON: maximum recursion depth"),
        ("m.csv", "query_id,document_id,verdict\nq1,d1," + "x" * (1 << 18), r"m\.csv, line 1: field larger"),
    ],
)  # fmt: skip
def test_a_hostile_file_of_marks_gives_one_message(tmp_path: Path, name: str, text: str, message: str) -> None:
    csv.field_size_limit(1 << 17)
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError, match=message):
        read_marks(tmp_path / name)


@pytest.mark.parametrize("ending", [".tsv", ".csv", ".jsonl"])
def test_what_is_written_to_mark_is_read_again(tmp_path: Path, ending: str) -> None:
    record = {name: f'{name} "with"\n a,b\tand;c' for name in COLUMNS} | {"verdict": "not", "teacher_score": 0.5}
    path = written(tmp_path, marks_text([record, {**record, "verdict": ""}], ending), f"a{ending}")
    (kept,) = kept_records(path)
    assert kept["query"] == 'query "with" a,b and;c'
    assert ('digest:query_digest "with" a,b and;c', 'id:document_id "with" a,b and;c') in pairs_of(kept)
    assert (
        pairs_of({"query_id": "q0", "document_id": "d0"})
        == {("id:q0", "id:d0")}
        <= pairs_of({**kept, "query_id": "q0", "document_id": "d0"})
    )
    assert float(kept["teacher_score"]) == 0.5
    assert kept_records(tmp_path / f"none{ending}") == []


@pytest.mark.parametrize("ending", [".tsv", ".csv"])
def test_a_spreadsheet_finds_no_formula_and_ids_come_back(tmp_path: Path, ending: str) -> None:
    ids = {"query_id": "-_x9", "document_id": "'=d"}
    texts = {"query": "=HYPERLINK(1)", "document": " @SUM(1+1)*cmd|' /C calc'!A0", "known_positive": "+1-1"}
    record = dict.fromkeys(COLUMNS, "") | {"verdict": "not", "teacher_score": -0.5} | ids | texts
    text = marks_text([record], ending)
    path = written(tmp_path, text, f"a{ending}")
    with path.open(newline="") as stream:
        (row,) = csv.DictReader(stream, delimiter="\t" if ending == ".tsv" else ",")
    assert [cell for cell in row.values() if cell.strip().startswith(tuple("=+-@"))] == ["-0.5"]
    (mark,) = read_marks(path)
    assert (mark.query, mark.document) == ("id:-_x9", "id:'=d")
    assert marks_text(kept_records(path), ending) == text, "marks are kept and written again, however often"
