"""Queries that people asked come from a text file or a table; too few are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sdretrieval.corpus.read.example_queries import read_example_queries
from sdretrieval.errors import CorpusError

QUERIES = [f"how do I renew certificate {n}" for n in range(25)]


@pytest.mark.parametrize("name", ["asked.txt", "asked", "asked.jsonl", "asked.tsv"])
def test_each_text_once_from_lines_or_a_table(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name.endswith(".jsonl"):
        lines = [json.dumps({"query": query}) for query in QUERIES]
    else:
        lines = ["query", *QUERIES] if name.endswith(".tsv") else [*QUERIES, "", QUERIES[0].upper()]
    file.write_text("\n".join(lines) + "\n")
    assert sorted(text.lower() for text in read_example_queries(str(file))) == sorted(q.lower() for q in QUERIES)


def test_a_file_that_is_not_there_or_holds_too_few(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"corpus\.example_queries: there is no file .*none\.txt"):
        read_example_queries(str(tmp_path / "none.txt"))
    (tmp_path / "few.txt").write_text("\n".join(QUERIES[:3]))
    with pytest.raises(CorpusError, match="holds 3 different queries, expected at least 20; add more, or leave"):
        read_example_queries(str(tmp_path / "few.txt"))
