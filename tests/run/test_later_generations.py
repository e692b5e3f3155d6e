"""Generations after the first may cost less, or start from the base again."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from sdretrieval.config import Config
from sdretrieval.ragged import Array
from sdretrieval.run.api import RunResult, forecast_config, plan_config, run_config
from sdretrieval.units import counted
from tests.helpers.runs.nursery import Nursery
from tests.helpers.runs.tiny_runs import EMA, LEXICAL, MakeConfig, artifact, figures, keys_of, ledger_of, vectors_ND

ENOUGH = ("generations=2", "train.epochs=8", "gate.tolerance=1", "evaluate.controls=[shuffled_teacher]")

ASKED: dict[str, tuple[tuple[str, ...], str]] = {
    "as_much": ((), "frozen"),
    "fewer": (("train.later_epochs=4",), "frozen"),
    "base": (("evaluate.controls=[]",), "base"),
    "born_again": (("evaluate.controls=[]", "train.later_epochs=0.5"), "born_again"),
}


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
    return {
        name: run(make_config(*ENOUGH, *more, f"name={name}", teacher=teacher(mode)), root)
        for name, (more, mode) in ASKED.items()
    }


def updates_of(result: RunResult) -> dict[str, int]:
    return {
        record["stage"]: record["counts"]["updates"]
        for record in ledger_of(result.folder)
        if record["stage"].split("/")[1].startswith("train")
    }


def test_later_epochs_shorten_the_second_generation_and_the_control_with_it(runs: dict[str, RunResult]) -> None:
    much, fewer = updates_of(runs["as_much"]), updates_of(runs["fewer"])
    assert much["1/train"] == much["2/train"] == fewer["1/train"] == 2 * fewer["2/train"]
    assert much["1/train:shuffled_teacher"] == much["1/train"] + much["2/train"]
    assert fewer["1/train:shuffled_teacher"] == fewer["1/train"] + fewer["2/train"]


def test_the_first_generation_is_shared_by_all_of_them(runs: dict[str, RunResult]) -> None:
    assert len({keys_of(result.folder)["1/train"] for result in runs.values()}) == 1
    assert len({keys_of(result.folder)["2/train"] for result in runs.values()}) == len(runs)


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


def weights_of(folder: Path) -> dict[str, Array]:
    return load_file(folder / "model.safetensors")


def distance(one: dict[str, Array], other: dict[str, Array]) -> float:
    return float(sum(((one[name] - other[name]) ** 2).sum() for name in one))


def test_a_student_born_again_starts_from_the_base(runs: dict[str, RunResult], tiny_student: Path) -> None:
    folder, base = runs["born_again"].folder, weights_of(tiny_student)
    first, second = (weights_of(artifact(folder, f"{number}/train") / "student") for number in (1, 2))
    assert 0 < distance(second, base) < distance(first, base) / 3 < distance(second, first)
    assert keys_of(folder)["2/encode:teacher0"] == keys_of(runs["as_much"].folder)["2/encode:teacher0"]


def test_a_run_killed_while_a_student_is_born_again_ends_as_an_uninterrupted_one(
    runs: dict[str, RunResult], make_config: MakeConfig, nursery: Nursery, tmp_path: Path
) -> None:
    more, mode = ASKED["born_again"]
    config = make_config(*ENOUGH, *more, "name=born_again", teacher=teacher(mode))
    assert nursery.run(config, tmp_path, kill_at="2/train").code == -signal.SIGKILL
    ended = nursery.run(config, tmp_path)
    assert ended.code == 0, ended.said
    report = json.loads((tmp_path / "born_again" / "report.json").read_text())
    assert figures(report) == figures(runs["born_again"].report)


@pytest.mark.parametrize(("mode", "epochs"), [("frozen", 7), ("born_again", 3)])
def test_a_control_has_the_passes_that_the_final_student_has_had(
    mode: str, epochs: float, make_config: MakeConfig
) -> None:
    config = make_config("generations=3", "train.epochs=1", "train.later_epochs=3", teacher=teacher(mode))
    assert config.epochs_of([1, 2, 3]) == epochs and config.epochs_of([1]) == 1


@pytest.mark.parametrize("name", ["fewer", "base", "born_again"])
def test_the_work_of_later_generations_is_predicted(
    runs: dict[str, RunResult], name: str, make_config: MakeConfig, tmp_path: Path
) -> None:
    more, mode = ASKED[name]
    stages = forecast_config(make_config(*ENOUGH, *more, teacher=teacher(mode)), runs=tmp_path).forecast.stages
    assert ("2/encode:teacher0" in stages) == (name != "base")
    for record in ledger_of(runs[name].folder):
        kind = record["stage"].split("/")[1].split(":")[0]
        if kind in ("train", "encode") and record["stage"] in stages:
            amount = stages[record["stage"]].amount
            assert amount is not None and amount.count == counted(record["stage"], record["counts"]), record["stage"]


def test_another_half_life_of_the_average_is_another_training(make_config: MakeConfig, tmp_path: Path) -> None:
    """A base teacher leaves the average as it usually is: a frozen one with another half-life must not find it."""
    keys = {}
    for mode, half_life in (("base", 0.5), ("base", 0.25), ("frozen", 0.25), ("frozen", 0.5)):
        members = [{**EMA, "mode": mode, "half_life": half_life}, LEXICAL]
        config = make_config(teacher={"kind": "ensemble", "members": members})
        keys[mode, half_life] = next(p.key for p in plan_config(config, runs=tmp_path) if p.address == "1/train")
    assert keys["base", 0.5] == keys["base", 0.25] == keys["frozen", 0.25] != keys["frozen", 0.5]
