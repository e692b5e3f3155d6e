"""A bad input, and how the tables of this folder become them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.faults.place import Place

Spoil = Callable[[Path], object]
"""Spoils a copy of a folder."""
REFUSED, FAILED = (2,), (1, 2)


@dataclass(frozen=True)
class BadInput:
    """Its name (`topic: what`), its command line once what is needed is made, and the exit codes that are right."""

    name: str
    arguments: Callable[[Place], Sequence[object]]
    codes: tuple[int, ...] = REFUSED


def filled(line: str, place: Place, **more: object) -> list[str]:
    """A command line with its {names} filled in: corpus, student, cross_encoder, config, runs, bundle, new."""
    names = {
        "corpus": place.corpus, "student": place.student, "cross_encoder": place.cross_encoder, "config": place.config,
        "runs": place.runs, "bundle": place.bundle, "new": place.scratch() / "new", **more,
    }  # fmt: skip
    return [part.format(**names) for part in shlex.split(line)]


def lines(topic: str, table: Sequence[str], codes: tuple[int, ...] = REFUSED) -> Iterator[BadInput]:
    """Each command line of a table."""
    for line in table:
        yield BadInput(f"{topic}: {line[:100]}", lambda place, line=line: filled(line, place), codes)  # type: ignore[misc]


def spoilt(
    topic: str, table: Mapping[str, Spoil], of: str, commands: Sequence[str], codes: tuple[int, ...] = REFUSED
) -> Iterator[BadInput]:
    """Each fault of a table in a copy of `of` (a field of Place), met by each of `commands`, which call it {spoilt}."""
    for what, spoil in table.items():
        for command in commands:

            def arguments(place: Place, spoil: Spoil = spoil, command: str = command) -> list[str]:
                copy = place.copy(getattr(place, of))
                spoil(copy)
                return filled(command, place, spoilt=copy)

            yield BadInput(f"{topic}: {what} ({' '.join(command.split()[:2])})", arguments, codes)


def text(name: str, content: str) -> Spoil:
    """A file with that text."""
    return lambda folder: (folder / name).write_text(content, encoding="utf8")


def data(name: str, content: bytes) -> Spoil:
    """A file with those bytes."""
    return lambda folder: (folder / name).write_bytes(content)


def cut(name: str, share: float = 0.5) -> Spoil:
    """A file that ends early."""

    def spoil(folder: Path) -> None:
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: int(len(whole) * share)])

    return spoil


def gone(name: str) -> Spoil:
    """A file that is not there."""
    return lambda folder: (folder / name).unlink()


def folder_instead(name: str) -> Spoil:
    """A folder where a file belongs."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).mkdir()

    return spoil


def replaced(name: str, old: str, new: str) -> Spoil:
    """A file in which something stands instead of something else."""

    def spoil(folder: Path) -> None:
        content = (folder / name).read_text(encoding="utf8")
        assert old in content, f"{old!r} is not in {name}"
        (folder / name).write_text(content.replace(old, new), encoding="utf8")

    return spoil
