"""The ledger of a run: whole lines count, a torn last one does not."""

from __future__ import annotations

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


@pytest.mark.parametrize(("line", "said"), [("{broken", "is no JSON"), ("[1]", r"found \[1\]; expected a JSON object")])
def test_a_broken_line_before_the_last_is_named(ledger: Ledger, line: str, said: str) -> None:
    ledger.append({"stage": "1/mine"})
    with ledger.path.open("a") as stream:
        stream.write(f"{line}\n")
    ledger.append({"stage": "1/score"})
    with pytest.raises(WorkError, match=rf"ledger\.jsonl, line 2.*{said}"):
        ledger.read()


def test_the_keys_that_runs_refer_to(ledger: Ledger) -> None:
    ledger.append({"stage": "1/mine", "key": "a"})
    ledger.append({"stage": "1/gate"})
    Ledger(ledger.path.parents[1] / "other" / "ledger.jsonl").append({"stage": "1/mine", "key": "b"})
    assert keys_in_ledgers(ledger.path.parents[1]) == {"a", "b"}
    assert keys_in_ledgers(ledger.path / "nowhere") == set()
