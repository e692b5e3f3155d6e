"""The ledger of a run: whole lines count, a torn last one does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sdretrieval.errors import WorkError
from sdretrieval.store import Ledger, keys_in_ledgers


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "runs" / "scifact" / "ledger.jsonl")


def test_what_is_appended_is_read_in_order(ledger: Ledger) -> None:
    assert ledger.read() == []
    ledger.append({"stage": "1/mine", "key": "a", "text": "naïve\nline"})
    ledger.append({"stage": "1/score", "key": "b"})
    assert [record["stage"] for record in ledger.read()] == ["1/mine", "1/score"]
    assert ledger.read()[0]["text"] == "naïve\nline"


@pytest.mark.parametrize("torn", ['{"stage": "1/sc', '{"stage": "1/score"}', "\ud83d".encode("utf8", "surrogatepass")])
def test_a_torn_last_line_is_ignored_and_then_overwritten(ledger: Ledger, torn: str | bytes) -> None:
    ledger.append({"stage": "1/mine"})
    with ledger.path.open("ab") as stream:
        stream.write(torn.encode() if isinstance(torn, str) else torn)
    assert ledger.read() == [{"stage": "1/mine"}]
    ledger.append({"stage": "1/targets"})
    assert ledger.read() == [{"stage": "1/mine"}, {"stage": "1/targets"}]


@pytest.mark.parametrize(
    "line", ["{broken", "[1]", "{}", "\x00", '{"stage": "1/mine", "blake2b": "0"}', "[" * 5000, ""]
)
def test_a_damaged_line_before_the_last_is_named_or_passed_over(
    ledger: Ledger, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    ledger.append({"stage": "1/mine"})
    with ledger.path.open("a") as stream:
        stream.write(f"{line}\n")
    ledger.append({"stage": "1/score"})
    said = (
        r"ledger\.jsonl, line 2 is damaged \(.*\); run the config again, which lists all its stages again, then remove"
    )
    with pytest.raises(WorkError, match=said):
        ledger.read()
    assert ledger.read(skip_damaged=True) == [{"stage": "1/mine"}, {"stage": "1/score"}]
    assert "line 2 is damaged" in caplog.text and "it is passed over" in caplog.text


def test_a_flipped_bit_in_a_line_is_noticed(ledger: Ledger) -> None:
    ledger.append({"stage": "1/mine", "key": "a"})
    ledger.path.write_text(ledger.path.read_text().replace('"key": "a"', '"key": "c"'))
    with pytest.raises(WorkError, match="line 1 is damaged"):
        keys_in_ledgers(ledger.path.parents[1])


APPENDS = """
import sys
from pathlib import Path
from sdretrieval.store.ledger import Ledger
for number in range(150):
    Ledger(Path(sys.argv[1])).append({"stage": sys.argv[2], "number": number})
"""


def test_two_workers_of_a_run_lose_none_of_each_others_lines(ledger: Ledger) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", APPENDS, str(ledger.path), name]) for name in "ab"]
    assert [process.wait() for process in processes] == [0, 0]
    assert sorted((one["stage"], one["number"]) for one in ledger.read()) == [(s, n) for s in "ab" for n in range(150)]


def test_the_keys_that_runs_refer_to(ledger: Ledger) -> None:
    ledger.append({"stage": "1/mine", "key": "a"})
    ledger.append({"stage": "1/gate"})
    Ledger(ledger.path.parents[1] / "other" / "ledger.jsonl").append({"stage": "1/mine", "key": "b"})
    assert keys_in_ledgers(ledger.path.parents[1]) == {"a", "b"}
    assert keys_in_ledgers(ledger.path / "nowhere") == set()
