"""Disk is asked for by what is to be made: it grows with the corpus, and a finished run needs next to none."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sdretrieval.corpus import TextSize
from sdretrieval.run.api import dry_run
from sdretrieval.run.disk_needs import RESERVE, disk_needs, text_size
from sdretrieval.store import Store
from sdretrieval.store.runner import Planned
from tests.helpers.runs.tiny_runs import MakeConfig

MILLION = TextSize(documents=10**6, queries=1000, bytes=10**9)


def made(*addresses: str, finished: bool = False) -> list[Planned]:
    return [Planned(address, finished, "", None, f"key-{address}") for address in addresses]


def test_vectors_of_a_full_context_teacher_take_a_window_every_stride(make_config: MakeConfig) -> None:
    config = make_config("teacher.members.0.view.stride=50")
    plain = disk_needs(config, made("1/encode"), MILLION, 384, 10**8)["vectors"]
    wide = disk_needs(config, made("1/encode:teacher0"), MILLION, 384, 10**8)["vectors"]
    assert plain == 4 * 384 * (10**6 + 1000)
    assert wide == 4 * 384 * (6 * 10**6 + 1000)  # 250 tokens a document


def test_vectors_of_another_bi_encoder_have_its_own_dims_and_windows(make_config: MakeConfig, tiny_guest: Path) -> None:
    def needs(**view: object) -> int:
        config = make_config(teacher={"kind": "dense", "model": str(tiny_guest), "view": view})
        return disk_needs(config, made("0/encode:teacher0", "0/tokens:teacher0"), MILLION, 384, 10**8)["vectors"]

    assert needs() == 4 * 48 * (10**6 + 1000)
    assert needs(windows="all", stride=50) == 4 * 48 * (6 * 10**6 + 1000)


def test_students_checkpoints_and_indexes(make_config: MakeConfig) -> None:
    stages = made("0/corpus", "0/tokens", "0/lexical", "1/index", "1/train", "1/train:hard_labels", "1/gate")
    assert disk_needs(make_config(), stages, MILLION, 384, 10**8) == {
        "texts, tokens and BM25": 3 * 10**9,
        "indexes": 4 * 384 * 10**6,
        "students": 5 * 10**8,
        "a training's checkpoints": 12 * 10**8,
        "lists, runs and the report": RESERVE,
    }


def test_a_trained_query_encoder_takes_no_room_for_documents_again(make_config: MakeConfig) -> None:
    config = make_config("student.train=query")
    needs = disk_needs(config, made("1/encode", "2/encode", "2/encode:teacher0", "1/train"), MILLION, 384, 10**8)
    assert needs["vectors"] == 4 * 384 * (10**6 + 3 * 1000)
    assert needs["students"] == 4 * 10**8, "student, average, and the run's copy of two encoders"


def test_an_index_takes_what_its_kind_takes(make_config: MakeConfig) -> None:
    def needed(**index: object) -> int:
        return disk_needs(make_config(index=index), made("1/index"), MILLION, 384, 10**8)["indexes"]

    assert needed(kind="HNSW32") == (4 * 384 + 8 * 32 + 16) * 10**6
    assert needed(kind="SQ8") == 384 * 10**6
    assert 16 * 10**6 < needed(kind="PQ16") < 17 * 10**6
    assert needed(kind="LSH", rescore=4, rescore_storage="int8") == (48 + 384) * 10**6
    assert needed(kind="auto", max_memory="1GB") >= needed(kind="exact")


def test_another_seed_takes_room_for_its_own_students_and_vectors(make_config: MakeConfig) -> None:
    one, two = (
        disk_needs(make_config("seeds=[13, 14]"), made(*stages), MILLION, 384, 10**8)
        for stages in (("1/train", "2/encode"), ("1/train", "2/encode", "1/train@14", "2/encode@14"))
    )
    assert two["vectors"] == 2 * one["vectors"]
    assert two["students"] - one["students"] == 2 * 10**8


def test_what_is_finished_or_one_artifact_under_two_names_is_not_counted_again(make_config: MakeConfig) -> None:
    stages = [Planned(address, False, "", None, "same") for address in ("2/index", "final/index")]
    needs = disk_needs(make_config(), [*stages, *made("1/train", finished=True)], MILLION, 10, 10**8)
    assert needs == {"indexes": 40 * 10**6, "students": 0, "lists, runs and the report": RESERVE}


def test_size_is_estimated_from_the_folder(make_config: MakeConfig, tiny_corpus: Path) -> None:
    size = (tiny_corpus / "corpus.jsonl").stat().st_size
    assert text_size(make_config()) == TextSize(120, 84, size)
    limited = text_size(make_config("corpus.max_documents=30", "corpus.labels=false", "corpus.generated_queries=7"))
    assert limited == TextSize(30, 84 + 7 + 300, -(-size * 30 // 120))
    assert text_size(make_config(corpus={"source": "python-stdlib"})).documents == 4000


@pytest.mark.parametrize("name", ["docs.csv", "docs.csv.gz", "docs.parquet"])
def test_size_of_a_table_is_estimated(make_config: MakeConfig, tmp_path: Path, name: str) -> None:
    content = ("text\n" + "".join(f"words of document {1000 + n}\n" for n in range(499))).encode()
    if name.endswith("parquet"):
        pq.write_table(pa.table({"text": [f"words of document {n}" for n in range(499)]}), tmp_path / name)
    else:
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    size = text_size(make_config("corpus.labels=false", corpus={"source": str(tmp_path / name)}))
    assert 100 < size.documents <= 1000 and size.queries == 300 and size.bytes > 1000


def test_until_leaves_out_what_comes_later(make_config: MakeConfig, tmp_path: Path) -> None:
    stages = {stage.address for stage in dry_run(make_config(), Store(tmp_path), "1/mine")}
    assert {"1/encode", "1/mine"} <= stages and "1/train" not in stages
    assert not list(tmp_path.iterdir())
