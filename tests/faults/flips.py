"""One flipped bit in each file of store, run folder and bundle: noticed, made again, or without influence."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.faults.place import QUERY, Call, Place, evaluate_of, expect_done, files_of, results_of, run_of
from tests.faults.tally import Tally, unclear

REFUSED = (1, 2)
AT_ONCE = 5
"""Files of the store, of different artifacts, that are flipped before one run."""


def flip(path: Path, chance: random.Random) -> None:
    """Flip one bit."""
    data = bytearray(path.read_bytes())
    data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    path.write_bytes(data)


@contextmanager
def flipped(path: Path, chance: random.Random) -> Iterator[None]:
    """The file with one bit flipped; as it was afterwards, unless it was replaced or removed."""
    before = path.read_bytes()
    flip(path, chance)
    try:
        yield
    finally:
        if path.parent.is_dir():
            path.write_bytes(before)


def try_flips(place: Place, call: Call, seed: int, until: float, part: tuple[int, int] = (0, 1)) -> Tally:
    """A flip in each file that is not empty. `part`: (n, of), so that several processes share them."""
    tally, chance = Tally("flips"), random.Random(seed)
    runs, bundle = place.copy(place.runs), place.copy(place.bundle)
    try_store(place, runs, call, tally, chance, _share(files_of(runs / "store"), part), until)
    try_half_made(place, call, tally, chance, part, until)
    try_run_folder(place, runs, call, tally, chance, _share(files_of(runs / "tiny"), part), until)
    try_bundle(bundle, call, tally, chance, _share(files_of(bundle), part), until)
    tally.cut_short = time.monotonic() > until
    return tally


def _share(files: Iterable[Path], part: tuple[int, int]) -> list[Path]:
    return [path for path in files if path.stat().st_size][part[0] :: part[1]]


def try_store(
    place: Place, runs: Path, call: Call, tally: Tally, chance: random.Random, files: Iterable[Path], until: float
) -> None:
    """Flip in a few artifacts, run and evaluate again: all results are as they were, whatever had to be made again."""
    expected = results_of(runs)
    evaluated = json.loads(expect_done(call(*evaluate_of(place, runs))).out)
    files = list(files)
    batches = -(-len(files) // AT_ONCE)
    for batch in (files[at::batches] for at in range(batches)):
        there = [path for path in batch if path.exists()]  # tables that were made again may have other names
        if time.monotonic() > until:
            return
        for path in there:
            flip(path, chance)
        problem = None
        again = [call(*run_of(place, runs)), call(*evaluate_of(place, runs))]
        for ended in again:
            if ended.code != 0:
                problem = f"exit code {ended.code}: {ended.err.strip()[-300:]}"
        if problem is None and results_of(runs) != expected:
            problem = "other results of the run, without a word"
        if problem is None and json.loads(again[1].out) != evaluated:
            problem = "other results of the evaluation, without a word"
        names = [str(path.relative_to(runs / "store")) for path in there]
        for name in names:
            tally.add(f"store: {name}", problem and f"{problem} (flipped in {', '.join(names)})")
        if problem is not None:  # start again, or every later file would fail too
            shutil.rmtree(runs)
            shutil.copytree(place.runs, runs)


HALF_MADE = {
    "a training": "store/partial/*/trainer/checkpoint-6/complete.json",
    "tokens": "store/partial/*/documents/made.json",
    "vectors": "store/partial/*/documents/chunks.json",
}
"""Work that is continued, by a file that says how far it has come."""


def try_half_made(
    place: Place, call: Call, tally: Tally, chance: random.Random, part: tuple[int, int], until: float
) -> None:
    """Kill where work would be continued, flip in what there is of it, continue: all results are as they were."""
    expected = results_of(place.runs)
    for what, sign in HALF_MADE.items():
        half = place.scratch() / "runs"
        call(*run_of(place, half), kill_when=(half, sign))
        for path in _share(files_of(half / "store" / "partial"), part):
            if time.monotonic() > until:
                return
            runs = place.copy(half)
            flip(runs / path.relative_to(half), chance)
            ended = call(*run_of(place, runs))
            problem = None if ended.code == 0 else f"exit code {ended.code}: {ended.err.strip()[-300:]}"
            if problem is None and results_of(runs) != expected:
                problem = "other results, without a word"
            name = "/".join(path.relative_to(half / "store" / "partial").parts[1:])
            tally.add(f"half-made {what}: {name}", problem)
            shutil.rmtree(runs)


def try_run_folder(
    place: Place, runs: Path, call: Call, tally: Tally, chance: random.Random, files: Iterable[Path], until: float
) -> None:
    """Flip, then ask every command that reads a run: the same answer, or a refusal."""
    target = place.scratch() / "exported"
    readers: list[Sequence[object]] = [
        ("show", "tiny", "--json", "--runs", runs),
        ("search", "tiny", QUERY, "--json", "--runs", runs),
        ("search", "tiny", QUERY, "--base", "--json", "--runs", runs),
        ("evaluate", "tiny", "--corpus", place.corpus, "--json", "-", "--runs", runs),
        ("compare", "tiny", "tiny", "--json", "--runs", runs),
        ("report", "tiny", "--runs", runs),
        ("export", "tiny", target, "--json", "--runs", runs),
        ("gc", "--pretend", "--runs", runs),
    ]
    expected = [expect_done(call(*arguments)).out for arguments in readers]
    for path in files:
        if time.monotonic() > until or path.name == "config.yaml":  # which is for people, and read by no command
            continue
        with flipped(path, chance):
            problem = _answers(call, readers, expected)
        tally.add(f"run folder: {path.relative_to(runs / 'tiny')}", problem)


def try_bundle(
    bundle: Path, call: Call, tally: Tally, chance: random.Random, files: Iterable[Path], until: float
) -> None:
    """Flip, then verify and search: noticed by the first, unless it changes nothing of the second."""
    search = ("search", bundle, QUERY, "--json")
    expected = [expect_done(call(*search)).out]
    expect_done(call("verify", bundle))
    for path in files:
        if time.monotonic() > until:
            continue
        with flipped(path, chance):
            verified = call("verify", bundle)
            problem = None
            if verified.code != 0:
                problem = unclear(verified, REFUSED) or _unclear_search(call, search)
            else:
                problem = _answers(call, [search], expected)
        tally.add(f"bundle: {path.relative_to(bundle)}", problem)


def _unclear_search(call: Call, search: Sequence[object]) -> str | None:
    """Of a bundle that verify refuses, search may say what it finds, but not fail without a word."""
    ended = call(*search)
    return None if ended.code == 0 else unclear(ended, REFUSED)


def _answers(call: Call, commands: Sequence[Sequence[object]], expected: Sequence[str]) -> str | None:
    """Why one of the commands answers neither as before nor with a clear refusal."""
    for arguments, answer in zip(commands, expected, strict=True):
        ended = call(*arguments)
        if ended.code != 0:
            if problem := unclear(ended, REFUSED):
                return f"{arguments[0]}: {problem}"
        elif ended.out != answer:
            return f"{arguments[0]}: another answer, without a word"
    return None
