"""A folder is there whole, the old one or the new one, after any kill; writers wait for each other."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sdretrieval.errors import RequestError
from sdretrieval.store.whole_folder import check_target, whole_folder

KILLED = 9


def write(target: Path, text: str, *, pause: float = 0.0) -> None:
    with whole_folder(target) as work:
        (work / "first").write_text(text)
        time.sleep(pause)
        (work / "last").write_text(text)


def content(target: Path) -> tuple[str, str]:
    assert sorted(path.name for path in target.iterdir()) == ["first", "last"]
    return (target / "first").read_text(), (target / "last").read_text()


def child(work: Callable[[], object]) -> int:
    """Process id of a fork that does `work`."""
    process = os.fork()
    if process == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return process


def ended(process: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def killed_at_rename(target: Path, number: int, before: bool) -> Callable[[], None]:
    """Write `target`, and die before or after its rename of that number."""

    def work() -> None:
        rename, count = Path.rename, 0

        def fatal(self: Path, place: Path) -> Path:
            nonlocal count
            count += 1
            if count == number and before:
                os._exit(KILLED)
            moved = rename(self, place)
            if count == number:
                os._exit(KILLED)
            return moved

        Path.rename = fatal  # type: ignore[method-assign, assignment]
        write(target, "killed")

    return work


@pytest.mark.parametrize(
    ("number", "before", "left"), [(1, True, "old"), (1, False, None), (2, True, None), (2, False, "killed")]
)
def test_a_kill_at_any_rename_loses_nothing(
    number: int, before: bool, left: str | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = tmp_path / "out"
    write(target, "old")
    assert ended(child(killed_at_rename(target, number, before))) == KILLED
    assert target.exists() == (left is not None)
    caplog.set_level(logging.INFO, "sdretrieval")
    with pytest.raises(KeyError), whole_folder(target):  # the next one fails: what was there is there
        raise KeyError
    assert content(target) == (left or "old",) * 2
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert "removed what a killed command left beside it" in caplog.text
    assert ("put back" in caplog.text) == (left is None)
    write(target, "new")
    assert content(target) == ("new", "new")


def test_a_kill_before_there_was_anything_leaves_nothing(tmp_path: Path) -> None:
    target = tmp_path / "a" / "out"

    def work() -> None:
        with whole_folder(target) as folder:
            (folder / "first").write_text("half")
            os._exit(KILLED)

    assert ended(child(work)) == KILLED and not target.exists()
    write(target, "new")
    assert content(target) == ("new", "new") and [path.name for path in target.parent.iterdir()] == ["out"]


def test_two_writers_at_once_wait_for_each_other(tmp_path: Path) -> None:
    target = tmp_path / "out"
    writers = [child(lambda text=text: write(target, text, pause=0.1)) for text in "abc"]  # type: ignore[misc]
    assert [ended(one) for one in writers] == [0, 0, 0]
    first, last = content(target)
    assert first == last and [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_check_is_asked_once_the_other_writer_has_ended(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def refuse_if_there() -> None:
        if target.exists():
            raise RequestError("taken")

    def work() -> None:
        with whole_folder(target, refuse_if_there) as folder:
            (folder / "first").write_text("other")
            (tmp_path / "begun").touch()
            time.sleep(0.2)
            (folder / "last").write_text("other")

    other = child(work)
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    with pytest.raises(RequestError, match="taken"), whole_folder(target, refuse_if_there):
        raise AssertionError("the block is not entered")
    assert ended(other) == 0 and content(target) == ("other", "other")


def test_a_link_stays_and_its_folder_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(tmp_path / "link", "new")
    assert content(tmp_path / "real") == ("new", "new") and (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_what_is_written_obeys_the_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        with whole_folder(tmp_path / "out") as work:
            (work / "part").mkdir()
            (work / "part" / "closed").touch(0o600)  # as safetensors and mkstemp make them
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out", *(tmp_path / "out").rglob("*"))}
    assert modes == {"out": 0o777 & ~mask, "part": 0o777 & ~mask, "closed": (0o666 & ~mask) | 0o600}


def test_the_folder_one_is_in_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for target in (Path(), tmp_path, tmp_path / "x" / "..", tmp_path.parent):
        with pytest.raises(RequestError, match="the folder you are in, or above it, .*; name a new folder in it"):
            check_target(target, "export target")
    with pytest.raises(RequestError, match="export target /proc: that is a mount point"):
        check_target(Path("/proc"), "export target")
    with pytest.raises(RequestError, match="export target /proc/new: nothing can be written there"):
        check_target(Path("/proc/new"), "export target")
    check_target(Path("new/one"), "export target")
    assert not list(tmp_path.iterdir())
