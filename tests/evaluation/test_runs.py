"""Runs and their TREC files."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdretrieval.errors import NumericError, RequestError
from sdretrieval.evaluation import read_trec, run_from_hits, write_trec

IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
SCORES = st.floats(allow_nan=False, allow_infinity=False)
RUNS = st.dictionaries(IDS, st.dictionaries(IDS, SCORES, min_size=1, max_size=5), max_size=5)


@given(run=RUNS)
@settings(max_examples=60, deadline=None)
def test_a_run_survives_its_file_to_the_last_digit(run: dict[str, dict[str, float]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "a.trec"
        write_trec(run, path, "student_0")
        assert read_trec(path) == run
        assert [file.name for file in path.parent.iterdir()] == ["a.trec"]


def test_lines_are_what_trec_eval_reads(tmp_path: Path) -> None:
    write_trec({"q 1": {"d1": 0.1, "50%": 2.5}}, tmp_path / "a.trec", "bm25")
    assert (tmp_path / "a.trec").read_text() == "q%201 Q0 50%25 1 2.5 bm25\nq%201 Q0 d1 2 0.1 bm25\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1 Q0 d2 2 0.5", r"a\.trec:2: 5 fields, expected 6"),
        ("q1 Q0 d2 2 high tag", r"a\.trec:2: the score is 'high', expected a finite number"),
        ("q1 Q0 d2 2 nan tag", r"a\.trec:2: the score is 'nan'"),
        ("q1 Q0 d1 2 0.5 tag", r"a\.trec:2: query 'q1' lists document 'd1' twice"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.trec"
    path.write_text(f"q1 Q0 d1 1 0.9 tag\n{line}\n")
    with pytest.raises(RequestError, match=message):
        read_trec(path)


def test_a_missing_file_and_an_empty_id_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="no run file"):
        read_trec(tmp_path / "none.trec")
    with pytest.raises(RequestError, match="an empty id"):
        write_trec({"": {"d": 1.0}}, tmp_path / "a.trec", "tag")


def test_hits_leave_out_the_query_itself_and_padding() -> None:
    rows_Qk = np.array([[1, 0, 2], [2, -1, -1]])
    scores_Qk = np.array([[0.9, 0.8, 0.7], [0.5, -np.inf, -np.inf]], dtype=np.float32)
    run = run_from_hits(["a", "q"], ["a", "b", "c"], rows_Qk, scores_Qk)
    assert run == {"a": {"b": pytest.approx(0.9), "c": pytest.approx(0.7)}, "q": {"c": 0.5}}
    assert list(run["a"]) == ["b", "c"]


def test_a_score_that_is_no_number_is_named() -> None:
    with pytest.raises(NumericError, match="query 'q': the score at rank 2 is nan"):
        run_from_hits(["q"], ["a", "b"], np.array([[0, 1]]), np.array([[1.0, np.nan]]))
