"""Work that becomes far slower than it was, or than the machine can: said once, and fewer threads are tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from sdretrieval.encode import pace as pace_module
from sdretrieval.encode.pace import Pace


class Machine:
    """A machine whose clock is moved by work: a unit takes `seconds(threads)`."""

    def __init__(self) -> None:
        self.now = 0.0
        self.seconds: Callable[[int], float] = lambda threads: 4.0 / threads
        self.threads: list[int] = []

    def work(self, pace: Pace, units: int) -> None:
        for _ in range(units):
            self.threads.append(torch.get_num_threads())
            self.now += self.seconds(torch.get_num_threads())
            pace.step()

    def busy(self) -> None:
        """Other processes use the cores: several threads wait for each other, eight times as long."""
        self.seconds = lambda threads: 5.0 if threads == 1 else 16.0


@pytest.fixture
def machine() -> Machine:
    return Machine()


@pytest.fixture
def two_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_freed_memory_goes_back_at_each_look(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    given = []
    monkeypatch.setattr(pace_module, "give_back_freed", lambda: given.append(machine.now))
    machine.seconds = lambda threads: 0.5
    with Pace("train", "cpu", clock=lambda: machine.now) as pace:
        machine.work(pace, 20)
    assert given == [2.0, 4.0, 6.0, 8.0, 10.0], "not after each unit: it takes its time"


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


@pytest.mark.usefixtures("two_threads")
def test_a_load_that_comes_is_noticed_and_one_thread_goes_on(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    with Pace("train (teacher)", "cpu", clock=lambda: machine.now) as pace:
        machine.work(pace, 5)
        machine.busy()
        machine.work(pace, 20)
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2, "the next stage chooses for itself"
    assert machine.threads == [2] * 7 + [1] * 18, "a single slow look may be a machine that slept"
    slow, chosen = said(caplog)
    assert "train (teacher): 8.0 times slower than at first" in slow and "fewer than 2 are tried" in slow
    assert "1 thread is 3.2 times as fast as 2 here and now" in chosen and "OMP_NUM_THREADS=1" in chosen


@pytest.mark.usefixtures("two_threads")
def test_a_load_that_is_there_from_the_start_is_noticed_by_what_the_machine_can(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    machine.busy()
    with Pace("1/encode documents", "cpu", expected=2.0, clock=lambda: machine.now) as pace:
        machine.work(pace, 10)
        assert torch.get_num_threads() == 1
    assert "8.0 times slower than this machine can" in said(caplog)[0]
    caplog.clear()
    with Pace("without a trial", "cpu", clock=lambda: machine.now) as pace:
        machine.work(pace, 10)
    assert said(caplog) == [], "nobody knows that it could be faster"


@pytest.mark.usefixtures("two_threads")
def test_if_fewer_threads_are_no_faster_the_number_stays(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    with Pace("train", "cpu", clock=lambda: machine.now) as pace:
        machine.work(pace, 5)
        machine.seconds = lambda threads: 40.0 / threads
        machine.work(pace, 20)
        assert torch.get_num_threads() == 2
    assert "fewer threads are no faster; it goes on with 2" in said(caplog)[-1]
    assert len(said(caplog)) == 2, "said once"


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(
    ("device", "threads", "remedy"),
    [("cpu", 2, "OMP_NUM_THREADS=1 may be faster"), ("cpu", 1, "on this processor"), ("cuda", 2, "nvidia-smi")],
)
def test_what_cannot_be_chosen_is_said(
    machine: Machine, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, device: str, threads: int,
    remedy: str,
) -> None:  # fmt: skip
    torch.set_num_threads(threads)
    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))
    with Pace("train", device, clock=lambda: machine.now) as pace:
        machine.work(pace, 5)
        machine.seconds = lambda threads: 30.0
        machine.work(pace, 9)
    assert [remedy in line for line in said(caplog)] == [True]
    assert set(machine.threads) == {threads}


@pytest.mark.usefixtures("two_threads")
def test_an_even_pace_and_short_units_say_nothing(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    machine.seconds = lambda threads: 0.01 * (1 + machine.now % 2)  # texts of other lengths
    with Pace("encode", "cpu", clock=lambda: machine.now) as pace:
        machine.work(pace, 3000)
    assert said(caplog) == []
