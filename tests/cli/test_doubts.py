"""`doubts`: suspects in the terminal, in a file to mark, on a page; marks are never lost."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from sdretrieval.corpus import load_corpus
from sdretrieval.corpus.verdicts import COLUMNS
from tests.cli.conftest import Call, Finished
from tests.helpers.runs.tiny_runs import artifact


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t"))


def test_doubts_of_a_run_are_told_written_and_shown(finished: Finished, call: Call, tmp_path: Path) -> None:
    to_mark, page = tmp_path / "marks.tsv", tmp_path / "page.html"
    files = ["--tsv", to_mark, "--html", page]
    found = call("doubts", "tiny", "--runs", finished.runs, "--margin", 0.3, "-n", 7, "--json", *files).json()
    assert found["found"] > len(found["doubts"]) == 7
    excess = [one["teacher_score"] - one["threshold"] for one in found["doubts"]]
    assert excess == sorted(excess, reverse=True) and excess[-1] > 0
    rows = rows_of(to_mark)
    assert tuple(rows[0]) == COLUMNS and [row["verdict"] for row in rows] == [""] * 7
    assert [row["document_id"] for row in rows] == [one["document_id"] for one in found["doubts"]]
    text = page.read_text(encoding="utf8")
    assert found["doubts"][6]["query"] in text and found["curve"]["advice"] in text
    assert "<script" not in text and "http-equiv" in text


def test_a_run_may_be_named_by_the_folder_one_stands_in(
    finished: Finished, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(finished.runs / "tiny")
    found = call("doubts", ".", "--json")
    assert found.code == 0, found.err
    assert found.json() == call("doubts", "tiny", "--runs", finished.runs, "--json").json()
    assert not (finished.runs / "tiny" / "store").exists()


def test_marks_stay_and_come_first(finished: Finished, call: Call, tmp_path: Path) -> None:
    to_mark = tmp_path / "marks.tsv"
    ask = ["doubts", "tiny", "--runs", finished.runs, "--margin", 0.3, "--tsv", to_mark]
    call(*ask, "-n", 5)
    lines = to_mark.read_text(encoding="utf8").splitlines()
    lines[4] = "not" + lines[4]
    to_mark.write_text("\n".join(lines) + "\n", encoding="utf8")
    before = rows_of(to_mark)
    done = call(*ask, "-n", 3)
    assert "(1 marked line kept)" in done.out
    after = rows_of(to_mark)
    assert after == [before[3], *before[:3]]


def test_marks_are_truth_in_a_later_run_and_no_suspects_any_more(
    finished: Finished, call: Call, tmp_path: Path
) -> None:
    to_mark = tmp_path / "marks.tsv"
    ask = ["--runs", finished.runs, "--margin", 0.3, "-n", 4]
    call("doubts", "tiny", *ask, "--tsv", to_mark)
    text = to_mark.read_text(encoding="utf8").splitlines()
    marked = [text[0], "relevant" + text[1], "not" + text[2], *text[3:]]
    to_mark.write_text("\n".join(marked) + "\n", encoding="utf8")
    again = ["--set", f"corpus.verdicts={to_mark}", "--set", "name=judged"]
    found = call("doubts", finished.config, *ask, *again, "--json").json()
    assert found["verdicts"] == {"relevant": 1, "not": 1}
    pairs = [(one["query_id"], one["document_id"]) for one in found["doubts"]]
    first = [(row["query_id"], row["document_id"]) for row in rows_of(to_mark)]
    assert not set(first[:2]) & set(pairs)


def test_doubtful_labels_come_with_what_the_teacher_prefers(finished: Finished, call: Call, tmp_path: Path) -> None:
    to_mark, page = tmp_path / "marks.tsv", tmp_path / "page.html"
    ask = ["doubts", "tiny", "--runs", finished.runs, "--of", "labels", "-n", 3]
    found = call(*ask, "--json", "--tsv", to_mark, "--html", page).json()
    assert found["found"] >= 3 and [one["is"] for one in found["doubts"]] == ["label", "teacher's best"] * 3
    corpus = load_corpus(artifact(finished.runs / "tiny", "0/corpus") / "corpus")
    labels = {(query, document) for query, known in corpus.qrels["train"].items() for document in known}
    pairs = [(row["query_id"], row["document_id"]) for row in rows_of(to_mark)]
    assert [pair in labels for pair in pairs] == [True, False] * 3
    for label, best in zip(found["doubts"][::2], found["doubts"][1::2], strict=True):
        assert label["query"] == best["query"] and label["teacher_score"] < best["teacher_score"]
    assert found["sentence"] in page.read_text(encoding="utf8")
    assert found["sentence"] in call(*ask).out


def test_queries_to_label_are_marked_and_become_truth(finished: Finished, call: Call, tmp_path: Path) -> None:
    to_mark = tmp_path / "marks.tsv"
    ask = ["doubts", finished.config, "--runs", finished.runs, "--of", "queries", "--set", "name=unlabelled"]
    ask += ["--set", "corpus.labels=false", "--set", "corpus.dev_queries=20"]
    found = call(*ask, "-n", 2, "--json", "--tsv", to_mark).json()
    assert [one["is"] for one in found["doubts"]] == ["student's first", "teacher's first"] * 2
    lines = to_mark.read_text(encoding="utf8").splitlines()
    to_mark.write_text("\n".join([lines[0], "not" + lines[1], "relevant" + lines[2], *lines[3:]]) + "\n")
    again = call(*ask, "-n", 100, "--json", "--set", f"corpus.verdicts={to_mark}").json()
    assert again["verdicts"] == {"relevant": 1, "not": 1} and again["found"] == found["found"] - 1
    assert found["doubts"][0]["query"] not in {one["query"] for one in again["doubts"]}


def test_the_table_names_rule_curve_and_advice(finished: Finished, call: Call) -> None:
    out = call("doubts", "tiny", "--runs", finished.runs, "--rule", "percent_of_positive", "-n", 2).out
    assert "unlabelled candidates (percent 95)" in out
    assert "Caught: of 0 known positives" in out
    assert "No percent is recommended: it takes 20 known positives that are beside another one of their query" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--margin", "-1"], "margin is -1.0, expected a number of 0 or more"),
        (
            ["--margin", "0.1", "--percent", "90"],
            "--margin and --percent are numbers of two rules; expected one of them",
        ),
        (["--rule", "margin", "--percent", "90"], "--rule margin has no --percent; leave one of them out"),
        (["--rule", "none"], "--rule none: expected margin or percent_of_positive"),
        (["--of", "gaps"], "--of gaps: expected one of negatives, labels, queries"),
        (
            ["--of", "labels", "--margin", "0.1"],
            "--margin is of false negatives; found --of labels; leave one of them out",
        ),
        (["-n", "0"], "-n 0: expected at least 1"),
        (
            ["--set", "seeds=[1]"],
            "--set changes a config; tiny is a run, whose settings are fixed; name its YAML instead",
        ),
        (["--tsv", "marks.txt"], "--tsv marks.txt: found the ending '.txt'; expected one of .tsv, .csv, .jsonl"),
        (["--html", "nowhere/page.html"], "--html nowhere/page.html: there is no folder nowhere; make it first"),
    ],
)
def test_what_cannot_be_done_is_said_before_any_work(
    finished: Finished, call: Call, options: list[str], message: str
) -> None:
    done = call("doubts", "tiny", "--runs", finished.runs, *options)
    assert (done.code, done.err.strip()) == (2, f"error: {message}") or (message in done.err and done.code == 2)


def test_a_file_that_is_something_else_is_not_written_over(finished: Finished, call: Call, tmp_path: Path) -> None:
    other = tmp_path / "results.csv"
    other.write_text("a,b\n1,2\n")
    done = call("doubts", "tiny", "--runs", finished.runs, "--tsv", other)
    assert done.code == 2 and "found the columns a, b; expected verdict" in done.err
    assert other.read_text() == "a,b\n1,2\n"


def test_no_such_run(call: Call, tmp_path: Path) -> None:
    done = call("doubts", "nothing", "--runs", tmp_path)
    assert done.code == 2 and "no run 'nothing'" in done.err
