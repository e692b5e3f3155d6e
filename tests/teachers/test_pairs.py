"""Scored pairs are remembered by their texts, on disk, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.errors import NumericError
from sdretrieval.ragged import Ragged
from sdretrieval.teachers.imported import ImportedTeacher
from sdretrieval.teachers.pairs import PairCache, pair_key, read_pairs, write_pairs, write_scores
from sdretrieval.teachers.score_file import read_scores


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), unique=True, max_size=20))
def test_different_pairs_have_different_keys(pairs: list[tuple[str, str]]) -> None:
    keys = [pair_key(*pair) for pair in pairs if "\x1f" not in pair[0]]
    assert len(set(keys)) == len(keys)


def test_known_pairs_come_back_also_in_a_later_run(tmp_path: Path) -> None:
    keys = [pair_key("q", str(number)) for number in range(10)]
    cache = PairCache(tmp_path)
    cache.add(keys[:4], np.arange(4, dtype=np.float32))
    cache.add(keys[4:8], np.arange(4, 8, dtype=np.float32))
    cache.add([], np.empty(0))
    for known in (cache, PairCache(tmp_path)):
        found = known.get(keys)
        assert found[:8].tolist() == list(range(8)) and np.isnan(found[8:]).all()
        assert len(known) == 8 and found.dtype == np.float32


def test_nan_is_refused_since_it_stands_for_an_unknown_pair(tmp_path: Path) -> None:
    cache = PairCache(tmp_path)
    with pytest.raises(NumericError, match=r"pair cache: 1 of 2 scores are NaN, expected numbers"):
        cache.add([pair_key("q", "a"), pair_key("q", "b")], np.asarray([1.0, np.nan]))
    assert not len(cache) and not len(PairCache(tmp_path))


def test_a_file_cut_short_by_a_kill_is_not_read(tmp_path: Path) -> None:
    PairCache(tmp_path).add([pair_key("q", "a")], np.asarray([1.0]))
    (tmp_path / "half.123.new").write_bytes(b"half")
    assert len(PairCache(tmp_path)) == 1


@pytest.mark.parametrize("where", [-1, -9, 30])
def test_a_flipped_bit_in_a_shard_never_becomes_a_score(
    tmp_path: Path, where: int, caplog: pytest.LogCaptureFixture
) -> None:
    keys = [pair_key("q", str(number)) for number in range(4)]
    PairCache(tmp_path).add(keys, np.arange(4, dtype=np.float32))
    shard = next(tmp_path.glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[where] ^= 4
    shard.write_bytes(data)
    again = PairCache(tmp_path)
    assert np.isnan(again.get(keys)).all() and f"{shard} is damaged" in caplog.text
    again.add(keys, np.arange(4, dtype=np.float32))
    assert PairCache(tmp_path).get(keys).tolist() == [0, 1, 2, 3]


def test_a_shard_of_another_teacher_is_not_read(tmp_path: Path) -> None:
    PairCache(tmp_path / "one").add([pair_key("q", "a")], np.asarray([1.0]))
    shutil.copytree(tmp_path / "one", tmp_path / "other")
    assert not len(PairCache(tmp_path / "other")) and len(PairCache(tmp_path / "one")) == 1


def test_a_damaged_shard_is_named_and_its_pairs_are_new_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    PairCache(tmp_path).add([pair_key("q", "a")], np.asarray([1.0]))
    shard = next(tmp_path.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:40])
    again = PairCache(tmp_path)
    assert np.isnan(again.get([pair_key("q", "a")])).all()
    assert f"{shard} is damaged" in caplog.text


@pytest.mark.parametrize("name", ["scores.tsv", "scores.tsv.gz", "scores.parquet"])
def test_ids_that_look_like_formulas_survive_a_table_that_is_none(name: str, tmp_path: Path) -> None:
    pairs = [("=q", "-_x9"), ("'=p", "@d"), ("-5", "'tis"), ("q", "+1-1")]
    write_pairs(tmp_path / "pairs.tsv", pairs, lambda pair: ("=1+1", " -see below"))
    rows = [line.split("\t") for line in (tmp_path / "pairs.tsv").read_text().splitlines()]
    assert [cell for row in rows for cell in row if cell.lstrip().startswith(tuple("=+-@"))] == ["-5"]
    assert read_pairs(tmp_path / "pairs.tsv") == pairs
    score_P = np.asarray([0.5, -1.5, 2.5, 3.5])
    write_scores(tmp_path / name, pairs, {"score": score_P})
    # What another program writes beside the ids that it read, and a file that never saw a table of ours.
    copies = "".join(f"{row[0]}\t{row[1]}\t{score}\n" for row, score in zip(rows[1:], score_P, strict=True))
    (tmp_path / "copied.tsv").write_text(copies)
    own = "".join(f"{query}\t{document}\t{score}\n" for (query, document), score in zip(pairs, score_P, strict=True))
    (tmp_path / "own.tsv").write_text(own.replace("=q\t-_x9", "q2\t-_x9", 1))
    for file in (name, "copied.tsv"):
        assert scored(tmp_path / file, pairs) == score_P.tolist()
    assert scored(tmp_path / "own.tsv", pairs[1:]) == score_P[1:].tolist()


def scored(file: Path, pairs: list[tuple[str, str]]) -> list[float]:
    """The scores that the teacher of a file gives, over a corpus of just these ids."""
    queries, documents = (list(ids) for ids in zip(*pairs, strict=True))
    teacher = ImportedTeacher(read_scores(str(file)), name="scores", query_ids=queries, document_ids=documents)
    lists = Ragged.of([[at] for at in range(len(pairs))], np.int64)
    return teacher.score(np.arange(len(pairs)), lists).values_T.tolist()
