"""`corpus check | convert | python-stdlib`."""

from __future__ import annotations

import json
import re
import shutil
import sysconfig
from pathlib import Path

import pytest

from tests.cli.conftest import Call


def test_check_counts_in_the_students_tokens(tiny_corpus: Path, tiny_student: Path, call: Call) -> None:
    done = call("corpus", "check", tiny_corpus, "--model", tiny_student, "--max-tokens", 64, "--json")
    found = done.json()
    assert (found["documents"], found["unit"]) == (120, "tokens")
    assert found["splits"]["test"] == {"queries": 24, "with_positive": 24, "positives": 24}
    assert found["cut_by_view"]["student"] == pytest.approx(1 / 3, abs=0.01)
    lines = call("corpus", "check", tiny_corpus).out
    assert "document length in words" in lines
    assert "judgements that point nowhere: 0" in lines


def test_check_names_judgements_that_point_nowhere(tiny_corpus: Path, tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "broken"
    shutil.copytree(tiny_corpus, folder)
    with (folder / "qrels" / "test.tsv").open("a") as qrels:
        qrels.write("q0\tnowhere\t1\n")
    assert "-> nowhere (no such document)" in call("corpus", "check", folder).out


def test_a_pair_judged_twice_has_one_rule_everywhere(tmp_path: Path, call: Call) -> None:
    folder = tmp_path / "twice"
    (folder / "qrels").mkdir(parents=True)
    for name, texts in (("corpus", ["red pump", "blue valve"]), ("queries", ["pump", "valve"])):
        lines = (json.dumps({"_id": f"{name[0]}{n}", "text": text}) + "\n" for n, text in enumerate(texts))
        (folder / f"{name}.jsonl").write_text("".join(lines))
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\tc0\t1\nq1\tc1\t1\nq0\tc0\t0\n")
    said = "judged more than once, and the last judgement counts"
    before = call("evaluate", "bm25", "--corpus", folder, "--runs", tmp_path / "runs", "--json", "-")
    checked = call("corpus", "check", folder, "--json")
    converted = call("corpus", "convert", folder, tmp_path / "clean")
    assert all(said in done.err for done in (before, checked, converted))
    assert checked.json()["repeated_pairs"] == {"count": 1, "examples": ["test.tsv:4: q0 -> c0 with 0, before 1"]}
    after = call("evaluate", "bm25", "--corpus", tmp_path / "clean", "--runs", tmp_path / "runs", "--json", "-")
    asking = ("--queries", folder / "queries.jsonl", "--qrels", folder / "qrels" / "test.tsv")
    table = call("corpus", "convert", folder / "corpus.jsonl", tmp_path / "again", *asking)
    assert "1 pair judged on an earlier line: the last judgement counts: line 4: q0 -> c0 with 0, before 1" in table.out
    again = call("evaluate", "bm25", "--corpus", tmp_path / "again", "--runs", tmp_path / "runs", "--json", "-")
    figures = [done.json()["measures"]["bm25"]["nDCG@10"] for done in (before, after, again)]
    assert figures == [0.5, 0.5, 0.5]
    assert "1 of 2 test queries have no relevant document (e.g. 'q0'); as in BEIR, they count 0" in after.err


def test_convert_gives_the_same_corpus(tiny_corpus: Path, tmp_path: Path, call: Call) -> None:
    record = call("corpus", "convert", tiny_corpus, tmp_path / "copy", "--json").json()
    assert record["splits"] == {"dev": 20, "test": 24, "train": 40}
    digests = [
        call("corpus", "check", folder, "--json").json()["digest"] for folder in (tiny_corpus, tmp_path / "copy")
    ]
    assert digests == [record["digest"], record["digest"]]
    again = call("corpus", "convert", tiny_corpus, tmp_path / "copy")
    assert again.code == 2
    assert "exists and is not empty" in again.err


def test_convert_refuses_a_target_before_it_reads(
    tiny_corpus: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sdretrieval.corpus.import_corpus", None)  # it is not asked for anything
    for target, message in ((".", "that is the folder you are in"), ("/proc/x/y", "nothing can be written there")):
        done = call("corpus", "convert", tiny_corpus, target)
        assert (done.code, done.out) == (2, "") and message in done.err
    assert not list(tmp_path.iterdir())


def test_what_a_killed_convert_left_is_removed_and_said(tiny_corpus: Path, tmp_path: Path, call: Call) -> None:
    (tmp_path / ".out.partial-12345678").mkdir()
    (tmp_path / ".out.partial-12345678" / "corpus.jsonl").write_text("half of it")
    done = call("corpus", "convert", tiny_corpus, tmp_path / "out")
    assert done.code == 0 and [path.name for path in tmp_path.iterdir()] == ["out"]
    assert f"{tmp_path / 'out'}: removed what a killed command left beside it (10 bytes)" in done.err


def test_python_stdlib_is_written_as_a_beir_folder(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    library = tmp_path / "library"
    library.mkdir()
    source = Path(sysconfig.get_path("stdlib"))
    for name in ("textwrap", "shlex", "heapq", "bisect", "calendar", "statistics", "fractions", "queue", "sched"):
        shutil.copy(source / f"{name}.py", library)
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(library))
    done = call("corpus", "python-stdlib", tmp_path / "stdlib", "--max-documents", 60)
    assert done.code == 0, done.err
    assert "60 documents" in done.out
    first = json.loads((tmp_path / "stdlib" / "corpus.jsonl").read_text().splitlines()[0])
    assert set(first) == {"_id", "title", "text"}


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = "".join(f"d{n};Heading {n};{'' if n == 7 else f'words of {n}'}\n" for n in range(20))
    (tmp_path / "docs.csv").write_text(f"nr;heading;words\n{lines}d1;again;x\nbroken\n")
    (tmp_path / "topics.txt").write_text(
        "<top><num> Number: 1 <title> first\n</top>\n<top><num>2<title>second\n</top>\n"
    )
    (tmp_path / "all.qrels").write_text("1 0 d1 1\n2 0 d2 2\n2 0 d99 1\n")
    (tmp_path / "log.tsv").write_text("query\tread\tcount\nThird\td3 d4\t5\nthird\t\t\n")
    return tmp_path / "docs.csv"


def test_convert_takes_tables_topics_qrels_and_logs(table: Path, tmp_path: Path, call: Call) -> None:
    columns = ("--id", "nr", "--title", "heading", "--text", "words")
    asking = (
        "--topics",
        tmp_path / "topics.txt",
        "--qrels",
        f"dev={tmp_path}/all.qrels",
        "--log",
        tmp_path / "log.tsv",
        "--column",
        "log.clicked=read",
    )
    done = call("corpus", "convert", table, tmp_path / "out", *columns, *asking)
    assert done.code == 0, done.err
    for expected in (
        "docs.csv: 22 read, 20 documents kept",
        "1 broken line, left out: line 23: 1 field, expected 3",
        "1 id of an earlier line, left out: line 22: 'd1' with another text",
        "topics.txt: 2 read, 2 topics kept",
        "log.tsv: 2 read, 1 distinct query kept",
        "all.qrels: 3 read, 2 dev judgements kept",
        "1 judgement pointing nowhere, left out: line 3: 2 -> d99 (no such document)",
        "out: 20 documents, 3 queries; judged queries: train 1, dev 2",
    ):
        assert expected in done.out
    record = call("corpus", "convert", table, tmp_path / "again", *columns, *asking, "--json").json()
    assert record["splits"] == {"train": 1, "dev": 2}
    assert [report["kept"] for report in record["imports"]] == [20, 2, 1, 2]
    assert call("corpus", "check", tmp_path / "out", "--json").json()["digest"] == record["digest"]


def test_convert_says_which_columns_there_are_and_writes_nothing(table: Path, tmp_path: Path, call: Call) -> None:
    done = call("corpus", "convert", table, tmp_path / "out", "--text", "word")
    assert done.code == 2 and not (tmp_path / "out").exists()
    assert "no column 'word'; the columns found are 'nr', 'heading', 'words'. Did you mean 'words'?" in done.err


def test_check_judges_a_table_and_says_what_was_left_out(tmp_path: Path, call: Call) -> None:
    (tmp_path / "docs.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n{"text": ""}\n')
    found = call("corpus", "check", tmp_path / "docs.jsonl", "--json").json()
    assert found["documents"] == 2
    assert "1 empty text, left out: line 3: (no id)" in found["warnings"][0]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder of text files, one of them empty."""
    pytest.importorskip("markdown_it")
    pytest.importorskip("selectolax")
    folder = tmp_path / "notes"
    (folder / "more").mkdir(parents=True)
    (folder / "bread.md").write_text("# Bread\n\n## Oven\n\nHeat the oven first.\n\n## Dough\n\nKnead it twice.\n")
    (folder / "more" / "sail.txt").write_text("Hoist the sail when the wind turns.\n")
    (folder / "more" / "empty.txt").write_text("")
    return folder


def test_a_folder_of_text_files_becomes_passages(notes: Path, tmp_path: Path, call: Call) -> None:
    done = call("corpus", "convert", notes, tmp_path / "out")
    assert done.code == 0, done.err
    assert "2 files read, 2 passages kept" in done.out
    assert "1 empty file: more/empty.txt: no text" in done.out
    records = [json.loads(line) for line in (tmp_path / "out" / "corpus.jsonl").read_text().splitlines()]
    assert "Hoist the sail when the wind turns." in [record["text"] for record in records]
    assert all(record["_id"].startswith(("bread.md#", "more/sail.txt#")) for record in records)
    found = call("corpus", "check", notes, "--json").json()
    assert found["documents"] == len(records)
    assert any("more/empty.txt" in warning for warning in found["warnings"])


def test_a_converted_folder_runs_with_the_settings_that_its_refusal_names(
    tiny_corpus: Path, config: Path, tmp_path: Path, call: Call
) -> None:
    texts = [json.loads(line) for line in (tiny_corpus / "corpus.jsonl").read_text().splitlines()]
    (tmp_path / "notes").mkdir()
    for record in texts[:40]:
        (tmp_path / "notes" / f"{record['_id']}.txt").write_text(f"{record['title']}\n\n{record['text']}\n")
    assert call("corpus", "convert", tmp_path / "notes", tmp_path / "converted").code == 0
    for source in ("notes", "converted"):
        asked = ("run", config, "--runs", tmp_path / "runs", "--set", f"corpus.source={tmp_path / source}")
        refused = call(*asked)
        assert refused.code == 2 and "has no split 'test'. Splits with judgements: none." in refused.err
        settings = re.search(r"sdretrieval run CONFIG ((?:--set \S+ ?)+)", refused.err)
        assert settings is not None
        assert call(*asked, *settings[1].split(), "--until", "0/corpus").code == 0


def test_a_broken_beir_folder_is_not_taken_for_text_files(notes: Path, call: Call) -> None:
    (notes / "qrels").mkdir()
    done = call("corpus", "check", notes)
    assert done.code == 2 and "is no BEIR folder: corpus.jsonl" in done.err
