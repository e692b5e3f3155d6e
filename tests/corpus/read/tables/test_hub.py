"""Hugging Face datasets: saved folders, and hf:NAME of a folder on this disk (never the network)."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest
from datasets import Dataset, DatasetDict

from sdretrieval.corpus import Columns, find_source, import_corpus, open_corpus
from sdretrieval.corpus.arrow import quiet_datasets
from sdretrieval.corpus.read.tables import QuerySources, import_documents, source_files, with_queries
from sdretrieval.errors import CorpusError
from tests.corpus.read.tables.conftest import WriteRows

ROWS = [{"_id": str(n), "title": f"t{n}", "text": f"text {n}"} for n in range(10)]
ASKED = [{"_id": "q0", "text": "which?"}]


def saved(found: Dataset | DatasetDict, folder: Path) -> str:
    with quiet_datasets():
        found.save_to_disk(str(folder))
    return str(folder)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's cache out of it, and the network."""
    import datasets.config

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)


def test_a_saved_dataset_is_a_corpus(tmp_path: Path) -> None:
    source = saved(Dataset.from_list(ROWS), tmp_path / "mine")
    corpus = open_corpus(source)
    assert (corpus.name, corpus.document_ids) == ("mine", [row["_id"] for row in ROWS])
    assert corpus.document_texts()[3] == "t3 text 3"
    assert [path.suffix for path in source_files(source)] == [".arrow"]


def test_a_saved_dataset_with_other_columns(tmp_path: Path) -> None:
    source = saved(Dataset.from_list([{"answer": "x"}, {"answer": "y"}, {"answer": ""}]), tmp_path / "mine")
    with pytest.raises(CorpusError, match=r"mine: no column for the text; the columns found are 'answer'"):
        open_corpus(source)
    found = import_corpus(source, columns=Columns(text=("answer",)))
    assert (len(found.corpus.documents), found.reports[0].read) == (2, 3)


def test_several_splits_ask_for_one_except_corpus(tmp_path: Path) -> None:
    rows, asked = Dataset.from_list(ROWS), Dataset.from_list(ASKED)
    source = saved(DatasetDict({"train": rows, "test": rows}), tmp_path / "two")
    with pytest.raises(CorpusError, match=r"two has the splits train, test: name one, such as .*two/train\."):
        open_corpus(source)
    assert len(open_corpus(f"{source}/train").documents) == 10
    source = saved(DatasetDict({"corpus": rows, "queries": asked}), tmp_path / "beir")
    found = with_queries(import_documents(source), QuerySources(queries=f"{source}/queries"))
    assert found.corpus.query_ids == ["q0"]


def test_a_damaged_saved_dataset(tmp_path: Path) -> None:
    source = saved(Dataset.from_list(ROWS), tmp_path / "mine")
    for path in Path(source).glob("*.arrow"):
        path.write_bytes(b"no arrow")
    with pytest.raises(CorpusError, match=r"mine: the saved dataset cannot be read \(ArrowInvalid: "):
        open_corpus(source)


def test_a_dataset_by_name(tmp_path: Path, write_rows: WriteRows) -> None:
    (tmp_path / "data").mkdir()
    Path(write_rows("docs.jsonl", ROWS)).rename(tmp_path / "data" / "train.jsonl")
    source = f"hf:{tmp_path / 'data'}"
    corpus = open_corpus(source)
    assert len(corpus.documents) == 10
    assert open_corpus(f"{source}::train[:5]").document_ids == ["0", "1", "2", "3", "4"]
    assert all(path.is_relative_to(tmp_path / "cache") for path in source_files(source))
    digests = {part: find_source(source + part).digest() for part in ("", "::train[:5]", "::train[:6]")}
    assert len(set(digests.values())) == 3, "a slice lies in the files of the whole"


def test_a_dataset_in_memory_alone_is_refused(
    tmp_path: Path, write_rows: WriteRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    Path(write_rows("docs.jsonl", ROWS)).rename(tmp_path / "data" / "train.jsonl")
    monkeypatch.setattr(datasets.config, "IN_MEMORY_MAX_SIZE", 10**9)
    with pytest.raises(CorpusError, match="holds it in memory, without files that say what it is; unset HF_DATASETS"):
        find_source(f"hf:{tmp_path / 'data'}").digest()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:", r"'hf:' names no dataset: expected hf:NAME, hf:NAME:config or hf:NAME:config:split"),
        ("hf::config", r"names no dataset"),
        (
            "hf:nobody/has-this",
            r"hf:nobody/has-this cannot be loaded \(\w+: .*Expected hf:NAME\[:config\[:split\]\]; without a network, "
            r"save it elsewhere with save_to_disk and give the folder",
        ),
    ],
)
def test_a_name_that_gives_nothing(source: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message):
        open_corpus(source)


def test_a_large_saved_dataset_takes_seconds(tmp_path: Path) -> None:
    numbers = range(100_000)
    columns = {"_id": [str(n) for n in numbers], "text": [f"text of document {n}" for n in numbers]}
    assert len(open_corpus(saved(Dataset.from_dict(columns), tmp_path / "large")).documents) == 100_000
