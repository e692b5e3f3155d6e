"""Generations after the first may cost less: fewer passes, and a teacher that is not encoded again."""

from __future__ import annotations

from pathlib import Path

import pytest

from sdretrieval.run.api import RunResult, plan_config, run_config
from sdretrieval.run.config import Config
from tests.run.helpers.tiny_runs import EMA, LEXICAL, MakeConfig, keys_of, ledger_of, vectors_ND

ENOUGH = ("generations=2", "train.epochs=8", "gate.tolerance=1", "evaluate.controls=[shuffled_teacher]")


def teacher(mode: str) -> dict[str, object]:
    return {"kind": "ensemble", "members": [{**EMA, "mode": mode}, LEXICAL]}


def run(config: Config, runs: Path) -> RunResult:
    result = run_config(config, runs=runs)
    assert result is not None
    return result


@pytest.fixture(scope="module")
def runs(make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunResult]:
    """The same first generation; the second with as much work, with fewer passes, and taught by the base."""
    root = tmp_path_factory.mktemp("runs")
    asked = {"as_much": ((), "frozen"), "fewer": (("train.later_epochs=2",), "frozen"), "base": ((), "base")}
    return {
        name: run(make_config(*ENOUGH, *more, f"name={name}", teacher=teacher(mode)), root)
        for name, (more, mode) in asked.items()
    }


def updates_of(result: RunResult) -> dict[str, int]:
    return {
        record["stage"]: record["counts"]["updates"]
        for record in ledger_of(result.folder)
        if record["stage"].split("/")[1].startswith("train")
    }


def test_later_epochs_shorten_the_second_generation_and_the_control_with_it(runs: dict[str, RunResult]) -> None:
    much, fewer = updates_of(runs["as_much"]), updates_of(runs["fewer"])
    assert much["1/train"] == much["2/train"] == fewer["1/train"] == 4 * fewer["2/train"]
    assert much["1/train:shuffled_teacher"] == much["1/train"] + much["2/train"]
    assert fewer["1/train:shuffled_teacher"] == fewer["1/train"] + fewer["2/train"]


def test_the_first_generation_is_shared_by_all_of_them(runs: dict[str, RunResult]) -> None:
    assert len({keys_of(result.folder)["1/train"] for result in runs.values()}) == 1
    assert len({keys_of(result.folder)["2/train"] for result in runs.values()}) == 3


def test_a_base_teacher_is_not_encoded_again(runs: dict[str, RunResult]) -> None:
    stages = {record["stage"] for record in ledger_of(runs["base"].folder)}
    assert "1/encode:teacher0" in stages and "2/encode:teacher0" not in stages
    assert "2/encode:teacher0" in {record["stage"] for record in ledger_of(runs["as_much"].folder)}
    costs = {row["stage"]: row for row in runs["base"].report["generation_costs"]}
    assert costs["encode:teacher0"]["amount"] == 0 < costs["encode:teacher0"]["amount_first"]
    assert costs["all"]["seconds_first"] == pytest.approx(
        sum(row["seconds_first"] for name, row in costs.items() if name != "all"), abs=0.02
    )


def test_a_base_teacher_judges_with_the_vectors_of_the_first_generation(runs: dict[str, RunResult]) -> None:
    moved = vectors_ND(runs["as_much"].folder, "2/encode:teacher0")
    base = vectors_ND(runs["base"].folder, "1/encode:teacher0")
    assert moved.shape == base.shape and abs(moved - base).max() > 1e-3


def test_a_plan_knows_that_the_base_is_not_encoded_again(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config(*ENOUGH, "train.later_epochs=2", teacher=teacher("base"))
    result = run(config, tmp_path)
    foretold = {line.address for line in plan_config(config, runs=tmp_path / "none")}
    done = {record["stage"] for record in ledger_of(result.folder)}
    assert {name for name in done if "train" in name} <= foretold
    assert "2/encode:teacher0" not in foretold
