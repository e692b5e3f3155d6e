"""What an earlier result holds of a collection: found by content, whatever its place; copied, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdretrieval.encode import encoder
from sdretrieval.encode.encoder import Encoded, encode_texts
from sdretrieval.encode.reuse import DIGESTS, ReusableArtifact, find_reused, rows_to_make, text_digests
from sdretrieval.encode.student import Student, load_student
from sdretrieval.encode.tokens import load_tokens, tokenize, tokenize_into
from sdretrieval.encode.views import View
from tests.encode.test_encoder import TEXTS, Counting

OLD = TEXTS[:100]
NEW = [*reversed(TEXTS[40:]), *TEXTS[:35], "flour oven", ""]
"""20 later texts, 5 left out, 2 of its own; in another order."""
ADDED = 22
WHOLE = View(64, "all")

words = st.lists(st.text(alphabet="ab", max_size=2), max_size=12)


@pytest.fixture(scope="module")
def student(tiny_student: Path) -> Student:
    return load_student(str(tiny_student), max_tokens=64, device="cpu")


def donor(folder: Path, texts: list[str]) -> ReusableArtifact:
    folder.mkdir(exist_ok=True)
    np.save(folder / DIGESTS, text_digests(texts))
    return ReusableArtifact(folder)


@given(words, st.lists(words, max_size=3))
def test_each_known_text_is_had_from_the_first_donor_that_holds_it(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[str], held: list[list[str]]
) -> None:
    root = tmp_path_factory.mktemp("reusable")
    reusable = [donor(root / str(n), texts) for n, texts in enumerate(held)]
    known = find_reused(text_digests(wanted), reusable)
    had = {int(row): (one.folder, int(their)) for one in known for row, their in zip(*one[1:], strict=True)}
    assert sum(len(one.rows_N) for one in known) == len(had), "no row twice"
    for row, text in enumerate(wanted):
        holders = [n for n, texts in enumerate(held) if text in texts]
        assert (row in had) == bool(holders)
        if holders:
            folder, their = had[row]
            assert (folder, held[holders[0]][their]) == (root / str(holders[0]), text)
    assert rows_to_make(len(wanted), known).tolist() == [row for row in range(len(wanted)) if row not in had]


def test_a_donor_that_is_unsound_or_has_no_digests_gives_nothing(tmp_path: Path) -> None:
    sound = donor(tmp_path / "sound", ["a", "b"])
    broken = ReusableArtifact(donor(tmp_path / "broken", ["a", "b", "c"]).folder, lambda: False)
    (tmp_path / "old").mkdir()
    known = find_reused(text_digests(["c", "b"]), [ReusableArtifact(tmp_path / "old"), broken, sound])
    assert [(one.folder, one.rows_N.tolist(), one.their_rows_N.tolist()) for one in known] == [(sound.folder, [1], [1])]


def test_a_donor_is_not_read_through_for_one_text_in_thousands(tmp_path: Path) -> None:
    asked: list[int] = []
    large = donor(tmp_path / "large", [f"text {n}" for n in range(3000)])
    watched = ReusableArtifact(large.folder, lambda: not asked.append(1))
    assert find_reused(text_digests(["text 7"]), [watched]) == []
    assert asked == []
    assert len(find_reused(text_digests([f"text {n}" for n in range(4)]), [watched])) == 1
    assert asked == [1]


# --- tokens


def test_tokens_of_known_texts_are_copied_and_equal_a_fresh_computation(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = student.model.tokenizer
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
    assert tokenize_into(tmp_path / "old", OLD, tokenizer)[1] == 0
    asked: list[str] = []

    def counted(texts: list[str], **how: Any) -> Any:
        asked.extend(texts)
        return tokenizer(texts, **how)

    with caplog.at_level("INFO", "sdretrieval"):
        found, reused = tokenize_into(tmp_path / "new", NEW, counted, "0/tokens", [ReusableArtifact(tmp_path / "old")])
    assert sorted(asked) == sorted(set(NEW) - set(OLD)) and reused == len(NEW) - ADDED
    assert f"0/tokens: {len(NEW) - ADDED} of {len(NEW)} texts reused" in caplog.text
    fresh = tokenize(NEW, tokenizer)
    for one in (found, load_tokens(tmp_path / "new")):
        np.testing.assert_array_equal(one.values_T, fresh.values_T)
        np.testing.assert_array_equal(one.offsets, fresh.offsets)
        assert one.values_T.dtype == np.int32


# --- vectors


def encode(student: Student, texts: list[str], folder: Path, view: View = WHOLE, **how: Any) -> Encoded:
    folder.mkdir(exist_ok=True)
    ids = tokenize(texts, student.model.tokenizer)
    return encode_texts(student.model, ids, view, student.document_specials, folder, **how)


def windows_of(student: Student, texts: list[str]) -> list[bytes]:
    """What the model is given of each window."""
    ids = tokenize(texts, student.model.tokenizer)
    return [piece.tobytes() for one in ids for piece in WHOLE.cut(one, student.document_specials)]


def test_vectors_of_known_windows_are_copied_and_only_the_others_computed(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = encode(student, OLD, tmp_path / "old").embeddings
    fresh = encode(student, NEW, tmp_path / "fresh").embeddings
    counted = Counting(allowed=100)
    monkeypatch.setattr(encoder, "encode_sequences", counted)
    found, reused = encode(student, NEW, tmp_path / "new", reusable=[ReusableArtifact(tmp_path / "old")])

    had, wanted = windows_of(student, OLD), windows_of(student, NEW)
    new = [window not in set(had) for window in wanted]
    assert counted.windows == sum(new) == len(wanted) - reused and sum(new) > ADDED
    np.testing.assert_array_equal(found.windows, fresh.windows)
    np.testing.assert_allclose(found.vectors_WD, fresh.vectors_WD, atol=1e-6)
    for row, window in enumerate(wanted):
        if not new[row]:
            np.testing.assert_array_equal(found.vectors_WD[row], old.vectors_WD[had.index(window)])


def test_a_killed_run_continues_without_its_donor(
    student: Student, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(student, OLD, tmp_path / "old")
    whole, reused = encode(student, NEW, tmp_path / "whole", reusable=[ReusableArtifact(tmp_path / "old")])
    monkeypatch.setattr(encoder, "WINDOWS_PER_CHUNK", 10)
    counted = Counting(allowed=2)
    monkeypatch.setattr(encoder, "encode_sequences", counted)
    with pytest.raises(KeyboardInterrupt):
        encode(student, NEW, tmp_path / "killed", reusable=[ReusableArtifact(tmp_path / "old")])
    shutil.rmtree(tmp_path / "old")
    counted.allowed = 100
    found = encode(student, NEW, tmp_path / "killed")
    assert found.reused == reused and counted.windows == len(whole.vectors_WD) - reused
    np.testing.assert_allclose(found.embeddings.vectors_WD, whole.vectors_WD, atol=1e-6)
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {
        "chunks.json",
        "digests.npy",
        "vectors.npy",
        "windows.npy",
    }


def test_a_result_made_by_copying_is_a_donor_too(student: Student, tmp_path: Path) -> None:
    encode(student, OLD, tmp_path / "a")
    encode(student, NEW, tmp_path / "b", reusable=[ReusableArtifact(tmp_path / "a")])
    found = encode(student, NEW[::-1], tmp_path / "c", reusable=[ReusableArtifact(tmp_path / "b")])
    assert found.reused == len(found.embeddings.vectors_WD)


def test_what_an_earlier_version_left_half_done_starts_anew(student: Student, tmp_path: Path) -> None:
    expected = encode(student, OLD, tmp_path / "whole").embeddings.vectors_WD
    (tmp_path / "half").mkdir()
    np.save(tmp_path / "half" / "vectors.npy", np.zeros_like(expected))
    (tmp_path / "half" / "chunks.json").write_text('{"done": 1}')
    found = encode(student, OLD, tmp_path / "half").embeddings.vectors_WD
    np.testing.assert_array_equal(found, expected)
