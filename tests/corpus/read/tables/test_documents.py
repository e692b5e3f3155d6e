"""Documents from JSONL, CSV, TSV and Parquet: good, broken and large ones, and the text of every error."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.corpus import Columns, Corpus, document_table, open_corpus, query_table, read_beir, write_beir
from sdretrieval.corpus.read.tables import (
    ImportReport,
    QuerySources,
    Trouble,
    files,
    import_documents,
    with_queries,
)
from sdretrieval.errors import CorpusError, MissingPackageError, RequestError
from sdretrieval.formatting import readable_bytes
from tests.corpus.read.tables.conftest import WriteFile, WriteRows

ROWS = [
    {"_id": "a", "title": "Rain", "text": "It falls, mostly."},
    {"_id": "b", "title": "", "text": 'Tides "turn".'},
    {"_id": "c", "title": "Snow", "text": "It lies."},
]
CSV = '_id,title,text\na,Rain,"It falls, mostly."\nb,,"Tides ""turn""."\nc,Snow,It lies.\n'
TSV = '_id\ttitle\ttext\na\tRain\tIt falls, mostly.\nb\t\tTides "turn".\nc\tSnow\tIt lies.\n'
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)


def imported(source: str, columns: Columns | None = None) -> tuple[list[tuple[str, str, str]], ImportReport]:
    found = import_documents(source, columns)
    rows = zip(*(found.corpus.documents[name] for name in ("id", "title", "text")), strict=True)
    return [(i, title, text) for i, title, text in rows], found.reports[0]


def counted(report: ImportReport) -> dict[str, int]:
    return {trouble.name: found.count for trouble, found in report.troubles.items()}


def good(count: int = 20) -> list[dict[str, Any]]:
    return [{"_id": f"g{n}", "title": "", "text": f"good text {n}"} for n in range(count)]


# --- good


@pytest.mark.parametrize("packed", ["", ".gz", ".zst"])
@pytest.mark.parametrize(("ending", "content"), [("jsonl", JSONL), ("csv", CSV), ("tsv", TSV)])
def test_every_text_format_is_read_plain_and_packed(write: WriteFile, ending: str, content: str, packed: str) -> None:
    source = write(f"docs.{ending}{packed}", content)
    rows, report = imported(source)
    assert rows == [(row["_id"], row["title"], row["text"]) for row in ROWS]
    assert (report.read, report.kept, report.troubles) == (3, 3, {})
    assert open_corpus(source).name == "docs"


def test_parquet_is_read(write_rows: WriteRows) -> None:
    rows, report = imported(write_rows("docs.parquet", ROWS))
    assert rows == [(row["_id"], row["title"], row["text"]) for row in ROWS]
    assert report.lines()[0].endswith("docs.parquet: 3 read, 3 documents kept")


def test_byte_order_mark_windows_line_ends_and_semicolons_are_read(write: WriteFile) -> None:
    rows, _ = imported(write("docs.csv", '\ufeffID;Title;Body\r\n1;Rain;a, b\r\n2;Snow;"c\r\nd"\r\n'))
    assert rows == [("1", "Rain", "a, b"), ("2", "Snow", "c\r\nd")]


def test_a_tsv_takes_quotation_marks_as_they_are_unless_a_whole_field_is_quoted(write: WriteFile) -> None:
    rows, _ = imported(write("docs.tsv", 'id\ttext\n1\t"a" and "b"\n2\t"say ""a"""\n3\t6" pipe\n'))
    assert [text for _, _, text in rows] == ['"a" and "b"', 'say "a"', '6" pipe']


def test_numbers_nulls_and_lists_of_texts_are_texts(write_rows: WriteRows) -> None:
    source = write_rows(
        "docs.jsonl", [{"id": 7, "title": None, "text": ["a", "b"]}, {"id": 8.0, "title": 1984, "text": "c"}]
    )
    assert imported(source)[0] == [("7", "", "a\nb"), ("8", "1984", "c")]


def test_columns_are_named_and_several_texts_joined(write: WriteFile) -> None:
    source = write("faq.csv", "key,head,question,answer\n1,H,Why?,So.\n2,H,How?,\n")
    rows, _ = imported(source, Columns("key", "head", ("question", "answer")))
    assert rows == [("1", "H", "Why?\nSo."), ("2", "H", "How?")]


def test_a_long_document_passes_the_limit_of_csv(write: WriteFile) -> None:
    rows, report = imported(write("docs.csv", f"id,text\n1,{'word ' * 100_000}\n"))
    assert len(rows[0][2]) == 500_000 and not report.troubles


def test_without_ids_they_come_from_the_text_and_stay_when_others_change(write: WriteFile) -> None:
    before, _ = imported(write("one.csv", "title,text\nA,x\nB,y\n"))
    after, report = imported(write("two.csv", "title,text\nC,z\nB,y\nB,y\n"))
    assert before[1] in after and before[0] not in after
    assert counted(report) == {"REPEATED_TEXT": 1}
    assert len({identifier for identifier, _, _ in after}) == 2


# --- broken


def test_every_trouble_is_counted_and_named(write: WriteFile) -> None:
    lines = [json.dumps(row).encode() for row in good(40)]
    lines += [
        b'{"_id": "cut", "text": "of',
        b'["no", "object"]',
        b'{"_id": "x1", "body": "not text"}',
        b'{"text": "no id"}',
        b'{"_id": "latin", "text": "caf\xe9"}',
        b'{"_id": "half", "text": "x \\ud800"}',
        b'{"_id": "empty", "text": " "}',
        b'{"_id": "g1", "text": "good text 1"}',
        b'{"_id": "g2", "text": "other text"}',
        b'{"_id": "again", "text": "good text 3"}',
    ]
    rows, report = imported(write("docs.jsonl", b"\n".join(lines)))
    texts = {identifier: text for identifier, _, text in rows}
    assert (texts["latin"], texts["half"], texts["again"]) == ("caf\ufffd", "x \ufffd", "good text 3")
    assert counted(report) == {"BROKEN": 4, "REPLACED": 2, "EMPTY": 1, "REPEATED_ID": 2, "REPEATED_TEXT": 1}
    assert (report.read, report.kept) == (50, 43)
    shown = "\n".join(report.lines())
    for expected in (
        "4 broken lines, left out: line 41: Unterminated string",
        "line 42: a JSON list, expected an object",
        "line 43: no 'text' (found: _id, body)",
        "line 44: _id is None, expected an id",
        "line 45: ",
        "1 empty text, left out: line 47: 'empty'",
        "line 48: 'g1' with a text that was there; line 49: 'g2' with another text",
        "line 50: 'again', 'good text 3'",
    ):
        assert expected in shown
    assert report.to_json()["troubles"]["empty"] == {"count": 1, "examples": ["line 47: 'empty'"]}


def test_five_examples_are_named_and_the_rest_counted(write_rows: WriteRows) -> None:
    report = imported(write_rows("docs.jsonl", [*good(200), *({"_id": f"e{n}", "text": ""} for n in range(9))]))[1]
    assert report.troubles[Trouble.EMPTY].count == 9
    assert len(report.troubles[Trouble.EMPTY].examples) == 5
    assert report.lines()[-1].endswith("line 205: 'e4' ...")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "d.jsonl",
            JSONL + "{\n",
            r"d\.jsonl:4: Expecting property name.* 1 of 4 lines are broken \(25%\), more than the 10% that an import "
            r"leaves out: is the file what its name says\?",
        ),
        ("d.jsonl", '[{"id": 1}]', r"d\.jsonl:1: a JSON list, expected one object a line: jq -c"),
        ("d.jsonl", "", r"d\.jsonl holds no documents \(0 lines were read\)"),
        ("d.jsonl", '{"_id": 1, "text": ""}\n', r"d\.jsonl holds no documents \(1 lines were read\)"),
        ("d.jsonl", "{} \n" + '{"a": 1}', r"d\.jsonl: no column for the text; the columns found are none"),
        ("d.jsonl", '{"_id": 1, "text": {"a": 1}}\n', r"d\.jsonl:1: text is \{'a': 1\}, expected a text"),
        ("d.csv", CSV + "d,e\n", r"d\.csv:5: 2 fields, expected 3\. 1 of 4 lines are broken"),
        (
            "d.csv",
            'id,text\n1,a\n2,"open\n3,b\n4,c\n',
            r"d\.csv:3: a quotation mark is opened and never closed, 3 lines are lost\. 3 of 4 lines",
        ),
        ("d.csv", "", r"d\.csv is empty: expected a first line with the names of the columns"),
        ("d.tsv", "", r"d\.tsv is empty: expected a first line"),
        ("d.csv", "id,text,text\n", r"d\.csv:1: the column 'text' is named twice"),
        ("d.csv", 'id,"text\n', r"d\.csv:1: the line of column names is broken \(unexpected end of data\)"),
        ("d.tsv", "id\ttext\n1\ta\tb\n", r"d\.tsv:2: 3 tab-separated fields, expected 2"),
        (
            "d.csv",
            "id,texts,titel\n1,a,b\n",
            r"d\.csv: no column for the text; the columns found are 'id', 'texts', 'titel', expected one of text, "
            r"body, content, contents, passage\. The nearest is 'texts'\. Name it with --text",
        ),
        ("d.csv", "id,text\n1,a\n".encode("utf-16"), r"d\.csv is UTF-16, expected UTF-8: iconv -f UTF-16"),
        ("d.parquet", "PAR1", r"d\.parquet is no Parquet file or a damaged one: "),
        (
            "d.xlsx",
            "PK",
            r"d\.xlsx is no table by its name; read are \.jsonl, \.csv, \.tsv \(each also \.gz or \.zst\)",
        ),
    ],
)
def test_what_cannot_be_read_is_named(write: WriteFile, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        import_documents(write(name, content))


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            Columns(text=("txt",)),
            r"no column 'txt'; the columns found are '_id', 'title', 'text'\. Did you mean 'text'\?",
        ),
        (Columns(id="ID"), r"no column 'ID'; .* Did you mean '_id'\?"),
        (Columns(title="zzz"), r"no column 'zzz'; the columns found are '_id', 'title', 'text'\.$"),
    ],
)
def test_a_wrong_column_gives_those_found_and_the_nearest(write: WriteFile, columns: Columns, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        import_documents(write("docs.csv", CSV), columns)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"There is no file .*nowhere\.csv\. Check the path"):
        import_documents(str(tmp_path / "nowhere.csv"))


@pytest.mark.parametrize(
    ("ending", "reason"),
    [
        ("gz", r"Compressed file ended before|CRC|invalid"),
        ("zst", "Compressed file ended before the end-of-stream marker"),
    ],
)
def test_an_archive_that_is_cut_off_is_named(write: WriteFile, ending: str, reason: str) -> None:
    path = Path(write(f"docs.jsonl.{ending}", JSONL * 1000))
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CorpusError, match=rf"docs\.jsonl\.{ending} cannot be read: ({reason}).*fetch the file again"):
        import_documents(str(path))


@pytest.mark.parametrize("ending", ["gz", "zst"])
def test_an_archive_that_is_none_is_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"docs.csv.{ending}"
    path.write_text(CSV)
    with pytest.raises(CorpusError, match=r"cannot be read: (Not a gzipped file|Unable to decompress Zstandard data)"):
        import_documents(str(path))


def test_zstd_frames_one_after_another_are_one_text(write: WriteFile, tmp_path: Path) -> None:
    parts = [Path(write(f"{n}.jsonl.zst", json.dumps(row) + "\n")).read_bytes() for n, row in enumerate(ROWS)]
    (tmp_path / "all.jsonl.zst").write_bytes(b"".join(parts))
    assert len(imported(str(tmp_path / "all.jsonl.zst"))[0]) == 3


def test_without_its_package_the_pip_command_is_named(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write("docs.jsonl.zst", JSONL)
    monkeypatch.setitem(sys.modules, "backports.zstd", None)
    with pytest.raises(MissingPackageError, match=r"needs the package backports.zstd.*: pip install backports.zstd"):
        import_documents(source)


def test_columns_of_what_is_no_table(tiny_corpus: Path) -> None:
    from sdretrieval.corpus import import_corpus

    with pytest.raises(CorpusError, match=r"Columns can be named for tables only, and .*tiny is none"):
        import_corpus(str(tiny_corpus), columns=Columns(text=("body",)))


def test_what_was_left_out_is_logged_when_a_table_is_opened(
    write_rows: WriteRows, caplog: pytest.LogCaptureFixture
) -> None:
    open_corpus(write_rows("docs.jsonl", [*good(), {"_id": "e", "text": ""}]))
    assert "1 empty text, left out: line 21: 'e'" in caplog.text


def test_vectors_and_binary_columns_are_not_read(tmp_path: Path) -> None:
    rows = {
        "text": ["a", "b"],
        "vector": [[0.5, 1.5], [2.5, 3.5]],
        "blob": [b"x", b"y"],
        "nested": [{"a": 1}, {"a": 2}],
    }
    pq.write_table(pa.table(rows), tmp_path / "docs.parquet")
    assert len(imported(str(tmp_path / "docs.parquet"))[0]) == 2
    with pytest.raises(CorpusError, match=r"no column 'vector'; the columns found are 'text'"):
        import_documents(str(tmp_path / "docs.parquet"), Columns(text=("vector",)))


def test_one_open_quotation_mark_costs_its_own_lines_only(write: WriteFile) -> None:
    lines = [f"{n},text {n}" for n in range(40)]
    lines[10] = '10,"open'
    lines[12] = '12,"closed here" not at the end'
    rows, report = imported(write("docs.csv", "id,text\n" + "\n".join(lines)))
    assert [identifier for identifier, _, _ in rows] == [str(n) for n in range(40) if n not in (10, 11, 12)]
    assert counted(report) == {"BROKEN": 3} and report.read == 40


def test_examples_can_be_printed(write: WriteFile) -> None:
    lines = [json.dumps(row) for row in good(30)]
    lines += ['{"_id": "x", "text": {"\\ud800": 1}}', '{"_id": "a\\nb", "text": ""}', '{"\\ud800": "x"}']
    report = imported(write("docs.jsonl", "\n".join(lines)))[1]
    "\n".join(report.lines()).encode("utf8")
    assert all("\n" not in line for line in report.lines())


# --- large


@pytest.mark.parametrize("name", ["large.jsonl.gz", "large.csv.zst", "large.tsv", "large.parquet"])
def test_a_hundred_thousand_lines_take_seconds(write: WriteFile, tmp_path: Path, name: str) -> None:
    count = 100_000
    rows = [(str(n), f"title {n}", f"text of document {n}, nothing more") for n in range(count)]
    if name.endswith(".parquet"):
        columns = dict(zip(("id", "title", "text"), map(list, zip(*rows, strict=True)), strict=True))
        pq.write_table(pa.table(columns), tmp_path / name)
        source = str(tmp_path / name)
    elif "jsonl" in name:
        keys = ("id", "title", "text")
        source = write(name, "".join(json.dumps(dict(zip(keys, row, strict=True))) + "\n" for row in rows))
    else:
        file = io.StringIO()
        csv.writer(file, dialect="excel-tab" if ".tsv" in name else "excel").writerows([("id", "title", "text"), *rows])
        source = write(name, file.getvalue())
    started = time.monotonic()
    found = import_documents(source)
    assert len(found.corpus.documents) == found.reports[0].read == count
    assert found.corpus.documents[count - 1]["text"] == "text of document 99999, nothing more"
    assert time.monotonic() - started < 30


# --- whatever the texts are

PLAIN = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
TEXTS = st.lists(
    st.tuples(PLAIN, PLAIN).filter(lambda row: bool((row[0] + row[1]).strip())), min_size=1, max_size=8, unique=True
)


@given(texts=TEXTS, ending=st.sampled_from(["jsonl", "csv", "parquet"]))
@settings(max_examples=60, deadline=None)
def test_converted_and_read_again_the_texts_are_the_same(texts: list[tuple[str, str]], ending: str) -> None:
    rows = [{"_id": f"d{n}", "title": title, "text": text} for n, (title, text) in enumerate(texts)]
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / f"docs.{ending}"
        if ending == "parquet":
            pq.write_table(pa.Table.from_pylist(rows), path)
        elif ending == "jsonl":
            path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), newline="\n")
        else:
            with path.open("w", newline="", encoding="utf8") as file:
                writer = csv.DictWriter(file, ["_id", "title", "text"], quoting=csv.QUOTE_ALL)
                writer.writeheader()
                writer.writerows(rows)
        write_beir(import_documents(str(path)).corpus, Path(name) / "beir")
        again = read_beir(Path(name) / "beir")
        assert list(zip(again.documents["title"], again.documents["text"], strict=True)) == texts


# --- hostile


@pytest.mark.parametrize("packed", [".gz", ".zst"])
@pytest.mark.parametrize("content", ["zeros", "empty lines"])
def test_a_file_made_to_fill_the_memory_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, packed: str
) -> None:
    monkeypatch.setattr(files, "LINE_AT_MOST", 1 << 20)
    monkeypatch.setattr(files, "UNPACKED_AT_MOST", 1 << 21)
    data = (b"\0" if content == "zeros" else b"\n") * (1 << 22)
    path = tmp_path / f"docs.jsonl{packed}"
    path.write_bytes(gzip.compress(data) if packed == ".gz" else zstd.compress(data))
    with pytest.raises(CorpusError) as caught:
        open_corpus(str(path))
    size = readable_bytes(path.stat().st_size)
    reason = {
        "zeros": f"docs.jsonl{packed}:1: a line of more than 1.0 MB; expected one row a line",
        "empty lines": f"unpacks to more than 2.1 MB from {size}, as files made to fill a memory do. If it is meant, "
        f"unpack it first and name {tmp_path / 'docs.jsonl'}.",
    }
    assert reason[content] in str(caught.value)


def test_what_texts_shrink_to_is_no_bomb(write: WriteFile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "UNPACKED_AT_MOST", 1 << 10)
    lines = "".join(json.dumps({"id": str(n), "text": f"one text of many, number {n}"}) + "\n" for n in range(2000))
    assert len(open_corpus(write("docs.jsonl.gz", lines)).documents) == 2000


@pytest.mark.parametrize("source", ["x" * 5000, "~nosuchuser/docs.csv", "hf/" * 2000, "a\0b.csv"])
def test_a_source_that_can_be_no_path_gives_one_message(source: str) -> None:
    with pytest.raises(RequestError) as caught:
        open_corpus(source)
    assert "expected the path of a file or folder" in str(caught.value)
    assert len(str(caught.value)) < 250


# --- ids

IDS = [
    "a", "007", "7", "NA", "null", "nan", "None", "true", "a b", " a", "a ", "#x", '"q"', '"h', 't"', "'", "-1", "1.0",
    "%20", "a%20b", "=1+1", "\\n", "é", "\xa0x", "x\x0b", "\u2028x", "x" * 3000,
]  # fmt: skip
"""Whatever people call documents. Ids with tabs and line ends are refused where they cannot be written."""


def judged_corpus() -> Corpus:
    return Corpus(
        "ids", document_table((i, "", f"text {i}") for i in IDS), query_table((f"q{i}", f"query {i}") for i in IDS),
        {"test": {f"q{i}": {i: 1, "a": 2} for i in IDS}},
    )  # fmt: skip


def test_ids_of_every_kind_are_read_back_by_us_and_by_beir(tmp_path: Path) -> None:
    from beir.datasets.data_loader import GenericDataLoader

    corpus, folder = judged_corpus(), tmp_path / "beir"
    write_beir(corpus, folder)
    assert read_beir(folder).digest == corpus.digest
    documents, _, qrels = GenericDataLoader(str(folder)).load(split="test")
    assert list(documents) == IDS and qrels == corpus.qrels["test"]
    asking = QuerySources(queries=f"{folder}/queries.jsonl", qrels=(("test", f"{folder}/qrels/test.tsv"),))
    assert with_queries(import_documents(f"{folder}/corpus.jsonl"), asking).corpus.qrels == corpus.qrels


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_ids_of_every_kind_come_out_of_tables(write: WriteFile, write_rows: WriteRows, ending: str) -> None:
    rows = [{"id": i, "text": f"text {i}"} for i in IDS]
    if ending == "csv":
        out = io.StringIO()
        csv.writer(out).writerows([["id", "text"], *([row["id"], row["text"]] for row in rows)])
        source = write("docs.csv", out.getvalue())
    else:
        source = write_rows(f"docs.{ending}", rows)
    assert open_corpus(source).document_ids == IDS


def test_numbers_are_ids_and_what_cannot_be_one_is_named(write: WriteFile, write_rows: WriteRows) -> None:
    numbers = [{"id": 7.0, "text": "x"}, {"id": 8.5, "text": "y"}, {"id": 9.0, "text": "z"}]
    assert open_corpus(write_rows("docs.parquet", numbers)).document_ids == ["7", "8.5", "9"]
    odd = "".join(json.dumps({"id": i, "text": f"t {i}"}) + "\n" for i in (*range(40), 7e3, "a\0b", True, None))
    rows, report = imported(write("docs.jsonl", odd + '{"id": "x\\ud800", "text": "half"}\n'))
    assert [row[0] for row in rows[40:]] == ["7000", "x\ufffd"]
    shown = "\n".join(report.lines())
    assert "line 42: id 'a\\x00b' holds a NUL character" in shown
    assert "line 43: id is True, expected a text; line 44: id is None, expected an id" in shown
    assert counted(report) == {"BROKEN": 3, "REPLACED": 1}
