"""The memory that a piece of work held: its own where the system can tell, and never lost to work inside it."""

from __future__ import annotations

import ctypes
import mmap
import sys
from pathlib import Path

import pytest

from sdretrieval.store import memory
from sdretrieval.store.memory import peak_of_work, peak_rss_bytes

MUCH = 120_000_000
BLOCK = 60_000  # larger than the holes that stay resident, smaller than what glibc asks the system for by itself

needs_own_peak = pytest.mark.skipif(
    not memory._forgotten(), reason="this system cannot forget a process's peak (/proc/self/clear_refs)"
)
needs_glibc = pytest.mark.skipif(
    sys.platform != "linux" or not hasattr(ctypes.CDLL(None), "malloc_trim"),
    reason="only glibc's allocator keeps what is freed until it is asked",
)


def hold_and_let_go() -> None:
    """Pages of the system's own: an allocator could hand out what the tests before this one had made resident."""
    with mmap.mmap(-1, MUCH) as pages:
        pages.write(b"x" * MUCH)


@needs_own_peak
def test_work_after_a_peak_has_a_peak_of_its_own_and_the_work_around_keeps_it() -> None:
    with peak_of_work() as outer:
        hold_and_let_go()
        with peak_of_work() as inner:
            pass
    assert outer.rss_bytes - inner.rss_bytes > 0.8 * MUCH


def test_work_inside_counts_for_the_work_around_it() -> None:
    with peak_of_work() as outer:
        with peak_of_work() as inner:
            hold_and_let_go()
        with peak_of_work():
            pass
        after = list(memory._open)
    assert outer.rss_bytes >= inner.rss_bytes
    assert after == [outer], "of two works with one peak the inner one is closed"


@needs_own_peak
@needs_glibc
def test_what_was_freed_but_kept_does_not_count_for_the_next_work() -> None:
    # One block is kept at the end: the allocator cannot give the pages before it back by itself.
    blocks = [b"x" * BLOCK for _ in range(MUCH // BLOCK)]
    last = blocks[-1]
    del blocks
    with peak_of_work() as without:
        pass
    blocks = [b"x" * BLOCK for _ in range(MUCH // BLOCK)]
    with peak_of_work() as with_them:
        pass
    assert with_them.rss_bytes - without.rss_bytes > 0.8 * MUCH
    del blocks, last


def test_where_nothing_can_be_forgotten_the_peak_is_the_processs_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "FORGET", tmp_path / "no" / "such")
    hold_and_let_go()
    before = peak_rss_bytes()
    with peak_of_work() as peak:
        pass
    assert not peak.own
    assert peak.rss_bytes >= before


def test_without_proc_the_system_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "STATUS", tmp_path / "none")
    assert peak_rss_bytes() > 10**7
    with peak_of_work() as peak:
        pass
    assert not peak.own


def test_an_error_closes_the_work() -> None:
    with pytest.raises(ValueError, match="inside"), peak_of_work():
        raise ValueError("inside")
    assert memory._open == []
