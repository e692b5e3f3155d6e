"""`corpus check | convert | python-stdlib`."""

from __future__ import annotations

import json
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


def test_convert_gives_the_same_corpus(tiny_corpus: Path, tmp_path: Path, call: Call) -> None:
    record = call("corpus", "convert", tiny_corpus, tmp_path / "copy", "--json").json()
    assert record["splits"] == {"dev": 16, "test": 24, "train": 40}
    digests = [
        call("corpus", "check", folder, "--json").json()["digest"] for folder in (tiny_corpus, tmp_path / "copy")
    ]
    assert digests == [record["digest"], record["digest"]]
    again = call("corpus", "convert", tiny_corpus, tmp_path / "copy")
    assert again.code == 2
    assert "exists and is not empty" in again.err


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
