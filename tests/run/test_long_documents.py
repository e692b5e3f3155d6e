"""A document of 100,000 words: windowed for the teacher, cut for the student, and the run says so."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from sdretrieval.cli.corpus import check_source
from sdretrieval.encode import encoder
from sdretrieval.encode.encoder import Embeddings
from sdretrieval.encode.views import View
from sdretrieval.ragged import Array, Ragged
from sdretrieval.run.api import open_run, run_config
from sdretrieval.run.loop import prepare
from sdretrieval.stages.encode import Vectors
from sdretrieval.teachers.dense import DenseTeacher
from tests.helpers import tiny
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, ledger_of

WORDS = 100_000
FACT = " ".join(["astronomy comet telescope geneva"] * 8)
"""Stands at the very end: half of the last window."""
FACT_WORDS = len(FACT.split())


@pytest.fixture
def with_book(tiny_corpus: Path, tmp_path: Path) -> Path:
    """The tiny collection, and a book of filler words whose last words are the answer to its own test query."""
    folder = Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))
    filler = " ".join(tiny.FILLER[n % 7] for n in range(WORDS))
    with (folder / "corpus.jsonl").open("a") as file:
        file.write(json.dumps({"_id": "book", "title": "", "text": f"{filler} {FACT}"}) + "\n")
    with (folder / "queries.jsonl").open("a") as file:
        file.write(json.dumps({"_id": "asks", "text": FACT[:32]}) + "\n")
    with (folder / "qrels" / "test.tsv").open("a") as file:
        file.write("asks\tbook\t1\n")
    return folder


def test_the_teacher_finds_a_fact_at_the_end_that_the_student_cannot_see(
    with_book: Path, make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(logging.getLogger("sdretrieval"), "propagate", True)
    batches: list[int] = []
    plain = encoder.budget_batches

    def watched(lengths: list[int], batch_tokens: int) -> list[Array]:
        made = list(plain(lengths, batch_tokens))
        batches.extend(len(one) * max(lengths[i] for i in one) for one in made)
        return made

    monkeypatch.setattr(encoder, "budget_batches", watched)
    config = make_config(f"corpus.source={with_book}", "student.batch_tokens=4096")
    with caplog.at_level(logging.INFO, logger="sdretrieval"):
        assert run_config(config, runs=tmp_path / "runs", until="0/evaluate:teacher:test") is None
    folder = tmp_path / "runs" / "tiny"
    row, length = 120, WORDS + FACT_WORDS
    windows = 1 + -(-(length - 62) // 31)
    assert max(batches) <= 4096, "memory is bounded by the batch, not by the document"
    student = Embeddings.load(artifact(folder, "1/encode") / "documents")
    teacher = Embeddings.load(artifact(folder, "1/encode:teacher0") / "documents")
    assert student.one_window
    assert np.diff(teacher.windows)[row] == windows == View(64, "all").counts(np.array([length]), 2)[0]
    scores_W = teacher.vectors_WD[teacher.windows[row] : teacher.windows[row + 1]] @ query(folder)
    assert int(np.argmax(scores_W)) == windows - 1, "the fact is in the last window"
    assert teachers_score(folder, row) == pytest.approx(scores_W[-1], abs=1e-6)
    assert scores_W[-1] > float(student.vectors_WD[row] @ query(folder)) + 0.02
    said = [line for line in caplog.messages if "the student sees" in line]
    assert len(said) == 1
    assert "41 of 121 documents are longer; of the longest, book (100,032 tokens), it sees 0.1 %" in said[0]
    assert any(f"{windows:,} of the longest" in line for line in caplog.messages)
    with open_run(config, runs=tmp_path / "runs") as again:
        monkeypatch.setattr(again, "student", lambda folder: pytest.fail("all is in the store"))
        prepare(again)


def query(folder: Path) -> Array:
    """The vector of the query that asks for the fact: the last of the collection."""
    return np.asarray(Vectors("", artifact(folder, "1/encode")).queries_QD[-1])


def teachers_score(folder: Path, row: int) -> float:
    """Of the book, for that query, by its best window."""
    opened = Vectors("", artifact(folder, "1/encode:teacher0"))
    teacher = DenseTeacher("ema", opened.queries_QD, opened.documents)
    last = np.array([len(opened.queries_QD) - 1])
    return float(teacher.score(last, Ragged.of([np.array([row])], np.int64)).values_T[0])


def test_check_names_the_book_and_how_much_of_it_the_student_sees(with_book: Path, tiny_student: Path) -> None:
    found = check_source(str(with_book), str(tiny_student), 64)
    book = found.longest[0]
    assert (book.identifier, book.length, dict(book.seen)) == ("book", WORDS + FACT_WORDS + 2, {"student": 64})
    assert found.seen_by_view["student"] < 0.1


def test_the_bases_first_windows_are_encoded_once(make_config: MakeConfig, tmp_path: Path) -> None:
    """The base student is its own average: what the teacher sees first of a document is what the student sees."""
    run_config(make_config(), runs=tmp_path, until="1/encode:teacher0")
    counts = {record["stage"]: record["counts"] for record in ledger_of(tmp_path / "tiny")}
    windows = Embeddings.load(artifact(tmp_path / "tiny", "1/encode:teacher0") / "documents")
    own = Embeddings.load(artifact(tmp_path / "tiny", "1/encode") / "documents")
    assert counts["1/encode:teacher0"]["document_windows_reused"] == 120
    assert counts["1/encode:teacher0"]["document_windows"] > 120
    np.testing.assert_array_equal(windows.vectors_WD[windows.windows[:-1]], own.vectors_WD)


def test_queries_that_are_cut_are_counted(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("sdretrieval"), "propagate", True)
    with caplog.at_level(logging.INFO, logger="sdretrieval"):
        run_config(make_config("student.query_tokens=8"), runs=tmp_path, until="1/encode")
    said = [line for line in caplog.messages if "of a query" in line]
    assert len(said) == 1
    assert "the student sees the first 6 tokens of a query: 84 of 84 queries are longer, the longest, q" in said[0]
