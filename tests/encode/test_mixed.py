"""Vectors of which some are new: what is written, what is only looked at, and what a kill costs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sdretrieval.encode import mixed
from sdretrieval.encode.known import DIGESTS, digests_of
from sdretrieval.encode.mixed import MixedVectors, Rows
from sdretrieval.errors import WorkError
from sdretrieval.ragged import Array

OLD = np.arange(40, dtype=np.float32).reshape(20, 2)
NEW = OLD + 100


class Encoder:
    """The new vectors; `fails_at` is the call that a kill interrupts."""

    def __init__(self, fails_at: int = -1) -> None:
        self.asked: list[list[int]] = []
        self.fails_at = fails_at

    def __call__(self, rows: Rows) -> Array:
        if len(self.asked) == self.fails_at:
            raise KeyboardInterrupt
        self.asked.append(rows.tolist())
        return NEW[rows]


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    folder.mkdir()
    np.save(folder / "vectors.npy", OLD)
    np.save(folder / "windows.npy", np.arange(21))
    return folder


def rows(*numbers: int) -> Rows:
    return np.asarray(numbers, dtype=np.int64)


def test_what_is_renewed_is_new_and_what_is_looked_at_stays_old(old: Path, tmp_path: Path) -> None:
    encode = Encoder()
    vectors = MixedVectors.begin(tmp_path / "new", old, encode)
    np.testing.assert_array_equal(vectors.look(rows(5, 3)), NEW[[5, 3]])
    np.testing.assert_array_equal(vectors.vectors_ND, OLD)
    assert vectors.renew(rows(3, 7, 3)) == 2
    assert vectors.renew(rows(7)) == 0
    assert encode.asked == [[3, 5], [7]], "no document is encoded twice"
    np.testing.assert_array_equal(vectors.vectors_ND[[3, 7]], NEW[[3, 7]])
    np.testing.assert_array_equal(np.delete(vectors.vectors_ND, [3, 7], axis=0), np.delete(OLD, [3, 7], axis=0))
    assert vectors.encoded.tolist() == [3, 5, 7]


def test_only_documents_that_are_not_fresh_are_carried_and_always_from_where_they_were(
    old: Path, tmp_path: Path
) -> None:
    vectors = MixedVectors.begin(tmp_path / "new", old, Encoder())
    vectors.renew(rows(0, 1))
    for _ in range(2):
        vectors.carry(lambda old_XD: old_XD + 1)
    np.testing.assert_array_equal(vectors.vectors_ND[:2], NEW[:2])
    np.testing.assert_array_equal(vectors.vectors_ND[2:], OLD[2:] + 1)


def test_what_is_reverted_is_old_again_and_still_known(old: Path, tmp_path: Path) -> None:
    encode = Encoder()
    vectors = MixedVectors.begin(tmp_path / "new", old, encode)
    vectors.renew(rows(4, 6))
    vectors.revert()
    np.testing.assert_array_equal(vectors.vectors_ND, OLD)
    assert not vectors.fresh_N.any()
    vectors.renew(rows(6))
    assert encode.asked == [[4, 6]]
    np.testing.assert_array_equal(vectors.vectors_ND[6], NEW[6])


def test_a_kill_costs_one_chunk_at_most(old: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixed, "WINDOWS_PER_CHUNK", 4)

    def work(encode: Encoder) -> MixedVectors:
        vectors = MixedVectors.begin(tmp_path / "new", old, encode)
        vectors.look(rows(1, 2))
        vectors.renew(np.arange(10))
        return vectors

    first, second = Encoder(fails_at=2), Encoder()
    with pytest.raises(KeyboardInterrupt):
        work(first)
    vectors = work(second)
    assert first.asked == [[1, 2], [0, 3, 4, 5]]
    assert second.asked == [[6, 7, 8, 9]]
    np.testing.assert_array_equal(vectors.vectors_ND[:10], NEW[:10])


def test_a_chunk_of_other_rows_is_not_taken(old: Path, tmp_path: Path) -> None:
    MixedVectors.begin(tmp_path / "new", old, Encoder()).renew(rows(1, 2))
    encode = Encoder()
    vectors = MixedVectors.begin(tmp_path / "new", old, encode)
    vectors.renew(rows(2, 3))
    assert encode.asked == [[2, 3]]
    np.testing.assert_array_equal(vectors.vectors_ND[[2, 3]], NEW[[2, 3]])


def test_a_later_encoding_may_copy_the_fresh_documents_alone(old: Path, tmp_path: Path) -> None:
    vectors = MixedVectors.begin(tmp_path / "new", old, Encoder())
    vectors.renew(rows(4, 6))
    digests = digests_of([b"four", b"six"], 2)
    vectors.finish(digests)
    written = np.load(tmp_path / "new" / DIGESTS)
    np.testing.assert_array_equal(written[[4, 6]], digests)
    assert set(np.delete(written, [4, 6]).tolist()) == {b""}
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["digests.npy", "vectors.npy", "windows.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "new" / "vectors.npy"), vectors.vectors_ND)


def test_documents_of_several_windows_are_refused(old: Path, tmp_path: Path) -> None:
    np.save(old / "windows.npy", np.asarray([0, 12, 20]))
    with pytest.raises(WorkError, match="20 vectors of 2 documents; expected one vector each: only those of the"):
        MixedVectors.begin(tmp_path / "new", old, Encoder())


@pytest.mark.parametrize("left", [b"", b"PK\x03\x04 torn"])
def test_what_a_crash_of_the_machine_left_of_a_chunk_is_computed_again(left: bytes, old: Path, tmp_path: Path) -> None:
    MixedVectors.begin(tmp_path / "new", old, Encoder()).renew(rows(1, 2))
    [chunk] = (tmp_path / "new" / "chunks").iterdir()
    chunk.write_bytes(left)
    encode = Encoder()
    vectors = MixedVectors.begin(tmp_path / "new", old, encode)
    vectors.renew(rows(1, 2))
    assert encode.asked == [[1, 2]]
    np.testing.assert_array_equal(vectors.vectors_ND[[1, 2]], NEW[[1, 2]])
