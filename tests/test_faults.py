"""A small part of `python -m tests.faults`, in this process: a few bad inputs of each topic, a few flipped bits."""

from __future__ import annotations

import random
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import _call
from tests.faults.bad_inputs import bad_inputs, sample, try_bad_inputs
from tests.faults.flips import flip, flipped, try_run_folder
from tests.faults.forks import Ended
from tests.faults.place import Place, export_of, files_of, place_of
from tests.faults.tally import Tally, unclear

QUICK = ("settings", "config files", "command lines", "names", "runs", "bundles", "corpora")
"""Topics whose inputs are met before a model is loaded."""


def call(*arguments: object, **how: Any) -> Ended:
    """A command in this process; it cannot be killed."""
    started = time.monotonic()
    return Ended(*_call(*arguments), time.monotonic() - started)


@pytest.fixture(scope="module")
def place(
    finished: Any,
    tiny_corpus: Path,
    tiny_student: Path,
    tiny_cross_encoder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Place:
    folder = tmp_path_factory.mktemp("faults")
    runs = Path(shutil.copytree(finished.folder.parent, folder / "runs"))
    place = place_of(folder, tiny_corpus, tiny_student, tiny_cross_encoder, runs)
    assert call(*export_of(place)).code == 0
    return place


def test_bad_inputs_are_refused_with_one_clear_message(place: Place) -> None:
    everything = bad_inputs()
    assert len({one.name for one in everything}) == len(everything) >= 300
    few = [one for one in sample(everything, 60, seed=13) if one.name.split(":")[0] in QUICK]
    tally = try_bad_inputs(place, call, few, time.monotonic() + 600)
    assert tally.tried == len(few) > 30 and tally.failed == []


def test_flipped_bits_in_a_run_are_noticed_or_harmless(place: Place) -> None:
    runs, chance, tally = place.copy(place.runs), random.Random(13), Tally("flips")
    files = [path for path in files_of(runs / "tiny") if path.name in ("digests.json", "serving.json")]
    try_run_folder(place, runs, call, tally, chance, files, time.monotonic() + 600)
    assert tally.tried == 2 and tally.failed == []


def test_a_flip_is_one_bit_and_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(20))
    with flipped(path, random.Random(1)):
        assert sum(byte.bit_count() for byte in path.read_bytes()) == 1
    assert path.read_bytes() == bytes(20)
    flip(path, random.Random(2))
    assert path.read_bytes() != bytes(20)


@pytest.mark.parametrize(
    ("ended", "problem"),
    [
        (Ended(2, "", "warning: x\nerror: there is no such thing\n"), None),
        (Ended(0, "", "error: there is no such thing\n"), "exit code 0, expected 2"),
        (Ended(2, "", "Traceback (most recent call last):\nKeyError: 'x'\n"), "a traceback (KeyError: 'x')"),
        (Ended(2, "", "error: x\n"), "1 messages, expected one"),
        (Ended(2, "", "error: there is no such thing\nerror: nor any other\n"), "2 messages, expected one"),
        (Ended(124, "", "", 120.0), "it hung (120 s)"),
    ],
)
def test_what_counts_as_a_clear_refusal(ended: Ended, problem: str | None) -> None:
    found = unclear(ended)
    assert found is None if problem is None else str(found).startswith(problem)
