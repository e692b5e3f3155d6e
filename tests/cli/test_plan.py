"""`plan` as users type it: the prediction in table and JSON, budgets, and what it says where none can be met."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Call
from tests.helpers.chat_server import chat_server


def test_a_plan_predicts_work_time_and_memory(config: Path, tmp_path: Path, call: Call) -> None:
    stages = {stage["stage"]: stage for stage in call("plan", config, "--runs", tmp_path, "--json").json()}
    predicted = stages["1/train"]["predicted"]
    assert (predicted["unit"], predicted["amount"]) == ("updates", 60)
    assert predicted["seconds"] > 0
    assert predicted["peak_rss_bytes"] > 10**7
    assert (stages["1/targets"]["predicted"]["amount"], stages["1/targets"]["predicted"]["seconds"]) == (40, None)
    assert stages["1/gate"]["predicted"] == {
        "unit": None,
        "amount": None,
        "seconds": None,
        "peak_rss_bytes": None,
        "peak_device_bytes": None,
    }
    table = call("plan", config, "--runs", tmp_path).out
    assert "60 updates" in table
    assert "of memory (5 predicted, those that encode, read pairs or train; " in table


def test_a_budget_that_is_met_gives_up_nothing(config: Path, tmp_path: Path, call: Call) -> None:
    record = call(
        "plan", config, "--runs", tmp_path, "--budget-minutes", "600", "--max-memory", "64GB", "--json"
    ).json()
    assert record["given_up"] == record["set"] == []
    assert record["seconds"] < 36_000


def test_a_budget_that_is_short_says_what_to_give_up_and_how(config: Path, tmp_path: Path, call: Call) -> None:
    plan = ("plan", config, "--runs", tmp_path, "--set", "train.epochs=4000")
    whole = call(*plan, "--budget-minutes", "100000", "--json").json()["seconds"]
    done = call(*plan, "--budget-minutes", whole / 120)
    assert done.code == 0, done.err
    assert "Settings changed to fit the budget:" in done.out
    assert f"sdretrieval run {config} --set train.epochs=4000 --set train.epochs=" in done.out


@pytest.mark.parametrize("budget", [(), ("--budget-minutes", "600")])
def test_what_is_doubtful_in_a_config_is_said_once(
    config: Path, tmp_path: Path, call: Call, budget: tuple[str, ...]
) -> None:
    done = call("plan", config, "--runs", tmp_path, "--set", "train.later_epochs=2", *budget)
    assert done.err.count("train.later_epochs: 2 has no effect") == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--budget-minutes", "0"), "--budget-minutes is 0; expected a number of minutes above 0"),
        (("--max-memory", "lots"), "--max-memory is 'lots'; expected a size such as 2GB, 512MB or 1.5GiB"),
        (("--budget-minutes", "0.001"), "a budget of 0.001 min: this config takes "),
        (("--max-memory", "10MB"), "--max-memory 10.0 MB: this config holds "),
    ],
)
def test_a_budget_that_cannot_be_met_is_refused(
    config: Path, tmp_path: Path, call: Call, options: tuple[str, str], said: str
) -> None:
    done = call("plan", config, "--runs", tmp_path, *options)
    assert done.code == 2
    assert said in done.err


def test_a_plan_says_what_language_models_will_cost_and_asks_none(
    config: Path, tmp_path: Path, call: Call, tiny_corpus: Path
) -> None:
    with chat_server(rest="500") as server:
        section = f"{{url: '{server.url}', model: some-model}}"
        changes = ["corpus.labels=false", "corpus.dev_queries=20", "corpus.generated_queries=40"]
        changes += ["corpus.generate.written=1", f"corpus.generate.writer={section}", f"evaluate.judge={section}"]
        options = [part for change in changes for part in ("--set", change)]
        table = call("plan", config, "--runs", tmp_path, *options)
        stages = {one["stage"]: one for one in call("plan", config, "--runs", tmp_path, *options, "--json").json()}
    assert not server.prompts
    assert f"corpus.generate.writer: some-model at {server.url} is asked for training queries: at most " in table.out
    assert "evaluate.judge: some-model at" in table.out
    writing, judging = stages["0/corpus"]["asked"], stages["0/judge:dev"]["asked"]
    assert 0 < writing[-1]["calls"] <= 60 and judging[0]["calls"] == 20 * 41
    assert all(one["prompt_tokens"] > 50 * one["calls"] for one in (*writing, *judging))
    assert stages["0/judge:dev"]["predicted"]["amount"] == 820
