"""The runner: what a dry run says, when a stage is made, and what the ledger keeps of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from sdretrieval.store import Ledger, Store, Work
from sdretrieval.store.runner import Artifact, Runner, Stopped, ledger_by_address


def runner(root: Path, **how: Any) -> Runner:
    ledger = Ledger(root / "ledger.jsonl")
    return Runner(Store(root / "store"), ledger, before=ledger_by_address(ledger), **how)


def write(work: Work) -> None:
    (work.folder / "file").write_text("made")
    work.counts["files"] = 1


def never(work: Work) -> None:
    raise AssertionError("was built")


def two_stages(one: Runner, colour: str = "red", size: int = 1, build: Any = write) -> tuple[Artifact, Artifact]:
    """`1/mine` and, made from it, `1/score`."""
    mined = one.stage("1/mine", 1, {"colour": colour, "size": size}, ["root"], build)
    return mined, one.stage("1/score", 1, {}, [mined], build)


def test_a_plan_checks_what_is_there_and_says_nothing(tmp_path: Path) -> None:
    told: list[str] = []

    def check_both(one: Runner) -> None:
        mined, _ = two_stages(one)
        one.after(mined, lambda: told.append("checked"))
        one.say(lambda: told.append("said"))

    check_both(runner(tmp_path, dry=True))
    assert told == []  # nothing is made yet that could be checked
    check_both(runner(tmp_path))
    assert told == ["checked", "said"]
    check_both(runner(tmp_path, dry=True))
    assert told == ["checked", "said", "checked"]


def test_a_plan_says_why_and_builds_nothing(tmp_path: Path) -> None:
    planning = runner(tmp_path, dry=True)
    two_stages(planning, build=never)
    assert [(line.address, line.cached, line.why) for line in planning.planned] == [
        ("1/mine", False, "not made yet"),
        ("1/score", False, "not made yet"),
    ]
    assert list(tmp_path.iterdir()) == []


def test_a_plan_names_finished_stages_with_their_seconds(tmp_path: Path) -> None:
    two_stages(runner(tmp_path))
    planning = runner(tmp_path, dry=True)
    two_stages(planning, build=never)
    assert {(line.cached, line.why) for line in planning.planned} == {(True, "finished earlier")}
    assert all(line.seconds is not None and line.seconds >= 0 for line in planning.planned)


def test_a_plan_names_changed_settings_and_what_follows_from_them(tmp_path: Path) -> None:
    two_stages(runner(tmp_path))
    planning = runner(tmp_path, dry=True)
    two_stages(planning, colour="blue", size=2, build=never)
    assert [line.why for line in planning.planned] == ["changed: colour, size", "an earlier stage changed"]
    assert all(line.seconds is not None for line in planning.planned), "the last time's seconds are the prediction"


def test_a_plan_tells_interrupted_from_removed(tmp_path: Path) -> None:
    first = runner(tmp_path)
    mined, scored = two_stages(first)
    for one in (mined, scored):
        shutil.rmtree(one.path)
    first.store.partial_of(scored.key).mkdir(parents=True)
    planning = runner(tmp_path, dry=True)
    two_stages(planning, build=never)
    assert [line.why for line in planning.planned] == [
        "its artifact was damaged or removed",
        "was not finished; starts over",
    ]


@pytest.mark.parametrize(("resumable", "why"), [(True, "continues"), (False, "starts over")])
def test_only_a_resumable_stage_is_said_to_continue(tmp_path: Path, resumable: bool, why: str) -> None:
    made = runner(tmp_path, dry=True).stage("1/train", 1, {}, [], never, resumable=resumable)
    planning = runner(tmp_path, dry=True)
    planning.store.partial_of(made.key).mkdir(parents=True)
    planning.stage("1/train", 1, {}, [], never, resumable=resumable)
    assert planning.planned[-1].why == f"was not finished; {why}"


def test_a_stage_is_made_once_and_written_into_the_ledger_each_time(tmp_path: Path) -> None:
    two_stages(runner(tmp_path))
    two_stages(runner(tmp_path), build=never)
    records = Ledger(tmp_path / "ledger.jsonl").read()
    assert [(r["stage"], r["cached"], r["counts"]) for r in records] == [
        ("1/mine", False, {"files": 1}),
        ("1/score", False, {"files": 1}),
        ("1/mine", True, {"files": 1}),
        ("1/score", True, {"files": 1}),
    ]


def test_what_was_asked_for_is_not_asked_of_the_store_again(tmp_path: Path) -> None:
    one = runner(tmp_path)
    assert two_stages(one) == two_stages(one, build=never)
    assert [record["stage"] for record in one.records] == ["1/mine", "1/score"]


def test_a_dry_run_believes_what_was_made_and_assumes_the_rest(tmp_path: Path) -> None:
    def decide(work: Work) -> None:
        (work.folder / "gate.json").write_text('{"accepted": false}')

    def asked(**how: Any) -> bool:
        one = runner(tmp_path, **how)
        made = one.stage("1/gate", 1, {}, [], decide)
        return bool(one.result(made, "gate.json", {"accepted": True})["accepted"])

    assert asked(dry=True), "nothing was decided yet"
    assert not asked()
    assert not asked(dry=True)
    assert asked(dry=True, assume=True)
    file = next(tmp_path.glob("store/artifacts/*/*/gate.json"))
    file.write_text('{"accepted": fal')
    assert asked(dry=True), "a damaged artifact is made again, so it says nothing"


def test_until_stops_after_the_stage_was_made(tmp_path: Path) -> None:
    with pytest.raises(Stopped, match="1/mine"):
        two_stages(runner(tmp_path, until="1/mine"))
    assert [record["stage"] for record in Ledger(tmp_path / "ledger.jsonl").read()] == ["1/mine"]


def test_the_last_ledger_line_of_an_address_counts(tmp_path: Path) -> None:
    two_stages(runner(tmp_path))
    two_stages(runner(tmp_path), colour="blue")
    assert runner(tmp_path).before["1/mine"]["identity"]["colour"] == "blue"
