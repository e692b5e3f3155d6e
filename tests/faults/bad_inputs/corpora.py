"""Collections with a fault in one file, met by every command that reads them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tests.faults.bad_inputs.kinds import (
    BadInput,
    Spoil,
    cut,
    data,
    folder_instead,
    gone,
    lines,
    replaced,
    spoilt,
    text,
)

HEAD = "query-id\tcorpus-id\tscore\n"
BROKEN: dict[str, Spoil] = {
    "no texts": gone("corpus.jsonl"),
    "empty texts": text("corpus.jsonl", ""),
    "texts that are blank lines": text("corpus.jsonl", "\n\n\n"),
    "a folder of texts": folder_instead("corpus.jsonl"),
    "texts cut in a line": cut("corpus.jsonl", 0.4),
    "binary texts": data("corpus.jsonl", bytes(range(256)) * 20),
    "texts in UTF-16": data("corpus.jsonl", '{"_id": "d1", "title": "", "text": "x"}\n'.encode("utf-16")),
    "texts as a list": text("corpus.jsonl", '["d1", "x"]\n'),
    "texts as numbers": text("corpus.jsonl", "1\n2\n3\n"),
    "texts as null": text("corpus.jsonl", "null\n"),
    "one document without an id": text("corpus.jsonl", '{"title": "", "text": "x"}\n'),
    "one document whose id is a list": text("corpus.jsonl", '{"_id": ["d1"], "text": "x"}\n'),
    "texts that are nested": text("corpus.jsonl", "[" * 100_000 + "\n"),
    "an id of all documents": replaced("corpus.jsonl", '"_id"', '"number"'),
    "no queries": gone("queries.jsonl"),
    "a folder of queries": folder_instead("queries.jsonl"),
    "queries cut in a line": cut("queries.jsonl", 0.4),
    "binary queries": data("queries.jsonl", bytes(range(256)) * 20),
    "queries as a list": text("queries.jsonl", '["q1", "x"]\n'),
    "empty queries": text("queries.jsonl", ""),
    "test judgements cut to the heading": text("qrels/test.tsv", HEAD),
    "test judgements of words": text("qrels/test.tsv", f"{HEAD}q1\td1\tyes\n"),
    "test judgements with two columns": text("qrels/test.tsv", f"{HEAD}q1\td1\n"),
    "binary test judgements": data("qrels/test.tsv", bytes(range(256)) * 20),
    "test judgements of infinity": text("qrels/test.tsv", f"{HEAD}q1\td1\tinf\n"),
    "test judgements of half": text("qrels/test.tsv", f"{HEAD}q1\td1\t0.5\n"),
    "test judgements of nobody": text("qrels/test.tsv", f"{HEAD}nobody\tnothing\t1\n"),
    "a folder of test judgements": folder_instead("qrels/test.tsv"),
}
"""No command takes these."""
UNTAUGHT: dict[str, Spoil] = {
    "no train judgements": gone("qrels/train.tsv"),
    "train judgements of 0": replaced("qrels/train.tsv", "\t1\n", "\t0\n"),
    "train judgements that are the test's": lambda folder: _copy(folder, "test", "train"),
    "no test judgements": gone("qrels/test.tsv"),
}
"""These cannot train, or not be measured."""
RUN = "run {config} --runs {new} --until 0/corpus --set corpus.source={spoilt}"
EVALUATE = "evaluate bm25 --corpus {spoilt} --runs {new}"
TABLES: dict[str, Spoil] = {
    "an empty table": text("t.csv", ""),
    "a table of one heading": text("t.csv", "id,text\n"),
    "a table without a column of texts": text("t.csv", "id,number\n1,2\n"),
    "a table without rows of one width": text("t.csv", 'id,text\n1,"open\n'),
    "a table that is binary": data("t.csv", bytes(range(256)) * 20),
    "a Parquet file that is none": text("t.parquet", "id,text\n"),
    "an empty Parquet file": text("t.parquet", ""),
    "a gzip file that is none": text("t.jsonl.gz", "x"),
    "a gzip file cut short": data("t.jsonl.gz", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xab"),
    "a zstd file that is none": text("t.jsonl.zst", "x"),
    "a folder of documents without text": lambda folder: _only(folder, "a.txt", ""),
    "a PDF that is none": lambda folder: _only(folder, "a.pdf", "no PDF"),
    "a Word file that is none": lambda folder: _only(folder, "a.docx", "no ZIP"),
    "a presentation that is none": lambda folder: _only(folder, "a.pptx", "no ZIP"),
    "a folder of an unknown kind": lambda folder: _only(folder, "a.odt", "x"),
}
"""Made in a copy of the collection; the first file of that ending is named."""


def bad_inputs() -> Iterator[BadInput]:
    """Each fault, met by each command."""
    yield from spoilt("corpora", BROKEN | UNTAUGHT, "corpus", [RUN])
    yield from spoilt("corpora", {**BROKEN, "no test judgements": UNTAUGHT["no test judgements"]}, "corpus", [EVALUATE])
    for what, spoil in TABLES.items():
        target = next((f"{{spoilt}}/{name}" for name in _names(what) if name), "{spoilt}")
        yield from spoilt(
            "tables", {what: spoil}, "corpus", [f"corpus convert {target} {{new}}/c", f"corpus check {target}"]
        )
    yield from lines("scores", SCORES)


SCORES = tuple(
    "run {config} --runs {new} --set 'teacher={{kind: scores, file: " + file + "}}'"
    for file in (
        "/nowhere.tsv",
        "{corpus}",
        "{corpus}/corpus.jsonl",
        "{config}",
        "/dev/null",
        "{student}/model.safetensors",
    )
)


def _names(what: str) -> list[str]:
    endings = {"Parquet": "t.parquet", "gzip": "t.jsonl.gz", "zstd": "t.jsonl.zst", "table": "t.csv"}
    return [name for word, name in endings.items() if word in what]


def _copy(folder: Path, source: str, target: str) -> None:
    (folder / "qrels" / f"{target}.tsv").write_text((folder / "qrels" / f"{source}.tsv").read_text())


def _only(folder: Path, name: str, content: str) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    (folder / name).write_text(content)
