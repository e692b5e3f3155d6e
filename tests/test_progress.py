"""Progress: log lines off a terminal, a bar on one, an estimate that a resumed run does not flatter, a line a stage."""

from __future__ import annotations

import logging

import pytest

from sdretrieval import progress
from sdretrieval.progress import Progress, RunProgress, run_progress, track
from sdretrieval.units import dev_figure, stage_line


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that the progress sees; a test moves them."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    """What is logged; `main` of the command line may have stopped propagation in another test."""
    monkeypatch.setattr(logging.getLogger("sdretrieval"), "propagate", True)
    caplog.set_level(logging.INFO, logger="sdretrieval")
    return caplog


def test_short_work_is_silent(clock: list[float], lines: pytest.LogCaptureFixture) -> None:
    assert list(track(range(5), "read", "lines")) == [0, 1, 2, 3, 4]
    assert lines.messages == []


def test_long_work_says_how_far_it_is_and_how_long_it_will_take(
    clock: list[float], lines: pytest.LogCaptureFixture
) -> None:
    with Progress("encode", 4000, "windows") as shown:
        for clock[0] in (10.0, 40.0, 41.0):
            shown.advance(500)
    assert lines.messages == ["encode: 1,000 of 4,000 windows, 40 s, about 120 s left"]


def test_what_an_earlier_run_did_does_not_count_towards_the_speed(
    clock: list[float], lines: pytest.LogCaptureFixture
) -> None:
    with Progress("encode", 4000, "windows") as shown:
        shown.resume(2000)
        clock[0] = 40.0
        shown.advance(500)
    assert lines.messages == ["encode: 2,500 of 4,000 windows, 40 s, about 120 s left"]


def test_without_a_total_there_is_no_estimate(clock: list[float], lines: pytest.LogCaptureFixture) -> None:
    with Progress("read", None, "lines") as shown:
        clock[0] = 31.0
        shown.advance(7)
    assert lines.messages == ["read: 7 lines, 31 s"]


def test_figures_of_the_work_stand_in_its_line(clock: list[float], lines: pytest.LogCaptureFixture) -> None:
    with Progress("train", 60, "updates") as shown:
        shown.figures.update({"loss": "0.21", "learning rate": "5e-05"})
        clock[0] = 30.0
        shown.advance(20)
    assert lines.messages == ["train: 20 of 60 updates, 30 s, about 60 s left, loss 0.21, learning rate 5e-05"]


def test_a_run_says_its_place_and_what_is_left_of_it(clock: list[float]) -> None:
    run = RunProgress()
    assert (run.line(), run.stopped_at()) == ("", "")
    run.expect(["0/corpus", "1/encode", "1/train", "2/encode"])
    run.begin("1/encode")
    assert (run.line(), run.stopped_at()) == ("stage 2 of 4", " in 1/encode (stage 2 of 4)")
    run.expect(run.addresses, {"1/encode": 60.0, "1/train": 300.0, "2/encode": 60.0})
    clock[0] = 50.0
    assert run.line() == "stage 2 of 4, about 6 min left"  # 10 s of this one, 360 s of the others
    clock[0] = 100.0
    assert run.seconds_left() == 360.0  # longer than predicted: nobody knows how much longer
    run.begin("1/train")
    run.works.append(Progress("train", 100, "updates"))
    clock[0] = 200.0
    run.works[0].done = 10
    assert run.line() == "stage 3 of 4, about 16 min left"  # by its pace of 10 s an update, not as predicted
    assert run.stopped_at() == " in 1/train (stage 3 of 4) at 10 of 100 updates"
    run.begin("1/merge:0.5")  # nobody could know that the gate would refuse
    assert (run.line(), run.stopped_at()) == ("stage 3 of 4, about 1 min left", " in 1/merge:0.5")


def test_what_an_interrupt_ended_is_remembered_and_other_work_is_not() -> None:
    run_progress.restart()
    with Progress("read", 3, "files"):
        pass
    with pytest.raises(ValueError, match="broken"), Progress("read", 3, "files"):
        raise ValueError("broken")
    assert run_progress.work is None
    with pytest.raises(KeyboardInterrupt), Progress("encode", 100, "windows") as shown:
        _advance_and_stop(shown)
    assert run_progress.stopped_at() == " at 40 of 100 windows"
    run_progress.restart()
    assert run_progress.work is None


def _advance_and_stop(shown: Progress) -> None:
    shown.advance(40)
    raise KeyboardInterrupt


def test_the_dev_figure_is_a_students_first_measure() -> None:
    counts = {"queries": 20, "nDCG@10": 0.51234, "Recall@100": 0.9}
    assert dev_figure("2/evaluate:dev", counts) == {"dev nDCG@10": "0.5123 (2/evaluate:dev)"}
    for other in ("2/evaluate:test", "0/evaluate:bm25:dev", "2/encode"):
        assert dev_figure(other, counts) == {}


def test_a_bar_that_is_resumed_stands_where_the_earlier_run_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress.sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("encode", 100, "windows") as shown:
        shown.resume(40)
        shown.advance(10)
        assert shown._bar is not None
        task = shown._bar.tasks[0]
        assert (task.completed, task.total) == (50, 100)


def test_an_interrupt_that_was_swallowed_comes_with_the_next_unit_of_work() -> None:
    with Progress("encode", 100, "windows") as shown:
        shown.advance()
        progress.want_interrupt()
        try:
            with pytest.raises(KeyboardInterrupt):
                shown.advance()
        finally:
            progress.want_interrupt(False)
        shown.advance()
        assert shown.done == 2


@pytest.mark.parametrize(
    ("address", "counts", "expected"),
    [
        ("1/score", {"pairs": 12800, "newly_scored_pairs": 0}, "1/score 12,800 scores 4.2 s"),
        ("1m0.25/encode:teacher0", {"document_windows": 280, "document_windows_reused": 120},
         "1m0.25/encode:teacher0 280 windows of documents, 120 reused 4.2 s"),
        ("1/evaluate:dev", {"queries": 16, "nDCG@10": 0.0}, "1/evaluate:dev 16 queries, nDCG@10 0.0000 4.2 s"),
        ("0/new", {"some_kind": "x", "ok": True}, "0/new some kind x, ok True 4.2 s"),
        ("0/probe", {"queries": 1, "mixtures": 1}, "0/probe 1 query, 1 mixture 4.2 s"),
        ("0/corpus", {"documents": 1, "train_queries": 1, "dev_queries": 2},
         "0/corpus 1 document, 1 train query, 2 dev queries 4.2 s"),
        ("1/targets", {"lists": 1, "temperature": 1.0},
         "1/targets 1 list, temperature 1 4.2 s"),
    ],
)  # fmt: skip
def test_a_stage_is_told_in_one_line(address: str, counts: dict[str, object], expected: str) -> None:
    assert " ".join(stage_line(address, counts, 4.21).split()) == expected


def test_a_long_stage_that_is_made_again_says_why() -> None:
    line = stage_line("1/train", {"updates": 60, "queries": 960}, 90.0, "changed: epochs")
    assert " ".join(line.split()) == "1/train 60 updates, 960 queries seen (changed: epochs) 1 min 30 s"
