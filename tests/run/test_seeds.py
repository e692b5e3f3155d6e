"""Several seeds: trainings are repeated, the rest is shared, and the report averages query by query."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdretrieval.cli.compare import compare_runs
from sdretrieval.cli.run import print_results_table
from sdretrieval.cli.show import lineage
from sdretrieval.corpus import load_corpus
from sdretrieval.errors import RequestError
from sdretrieval.evaluation import Measured, evaluate, paired_test, read_trec
from sdretrieval.run.api import RunResult, plan_config, run_config
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, figures, keys_of, ledger_of, made_in

SEEDS = ("seeds=[13, 14]", "evaluate.controls=[shuffled_teacher]")


def seeded(make_config: MakeConfig, runs: Path) -> RunResult:
    result = run_config(make_config(*SEEDS), runs=runs)
    assert result is not None
    return result


@pytest.fixture(scope="module")
def killed(finished: RunResult, make_config: MakeConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs: the finished one in a copy of its store, killed, as it were, after the training of another seed."""
    runs = Path(shutil.copytree(finished.folder.parent, tmp_path_factory.mktemp("seeds") / "runs"))
    assert run_config(make_config(*SEEDS), runs=runs, until="1/train@14") is None
    return runs


@pytest.fixture(scope="module")
def shown_when_killed(killed: Path) -> dict[str, Any]:
    """What `show` says then."""
    return lineage("tiny", killed)


@pytest.fixture(scope="module")
def both(killed: Path, shown_when_killed: dict[str, Any], make_config: MakeConfig) -> RunResult:
    """The run of both seeds, continued after the kill."""
    return seeded(make_config, killed)


def measured(run: RunResult, name: str) -> Measured:
    qrels = load_corpus(artifact(run.folder, "0/corpus") / "corpus").qrels["test"]
    return evaluate(qrels, read_trec(run.folder / "runs" / f"{name}.test.trec"), ["nDCG@10"])


def test_show_tells_the_finished_pass_from_one_that_was_killed_while_a_seed_was_added(
    shown_when_killed: dict[str, Any], both: RunResult, finished: RunResult
) -> None:
    stages = {one["stage"]: one["key"] for one in lineage("tiny", finished.folder.parent)["stages"]}
    assert {one["stage"]: one["key"] for one in shown_when_killed["stages"]} == stages
    (later,) = shown_when_killed["unfinished"]
    assert (shown_when_killed["finished"], later["last"]) == (True, "1/train@14")
    now = lineage("tiny", both.folder.parent)
    assert now["unfinished"] == [] and {"1/train", "1/train@14"} <= {one["stage"] for one in now["stages"]}


def test_another_seed_only_makes_what_its_trainings_decide(both: RunResult, finished: RunResult) -> None:
    lines = len(ledger_of(finished.folder))
    made = made_in(both.folder, after=lines)
    assert {"1/train@14", "2/encode@14", "1/gate@14", "1/train:shuffled_teacher@14", "1/targets:shuffled@14"} <= set(
        made
    )
    assert all(address.endswith("@14") for address in made)
    assert not any(address.startswith(("0/", "1/mine", "1/score", "1/encode")) for address in made)
    assert made.count("1/train@14") == 1, "what was finished before the kill is found"
    keys = keys_of(both.folder)
    assert keys["1/train@14"] != keys["1/train"] == keys_of(finished.folder)["1/train"]


def test_the_report_averages_each_query_and_tests_over_queries(both: RunResult) -> None:
    report = both.report
    assert report["seeds"] == [13, 14]
    seeds = [measured(both, name).of("nDCG@10") for name in ("final", "final@14")]
    average = {query: (seeds[0][query] + seeds[1][query]) / 2 for query in seeds[0]}
    assert report["measures"]["final"]["nDCG@10"] == pytest.approx(np.mean(list(average.values())))
    means = [np.mean(list(values.values())) for values in seeds]
    assert report["by_seed"]["final"]["nDCG@10"] == {"13": pytest.approx(means[0]), "14": pytest.approx(means[1])}
    assert report["spread"]["final"]["nDCG@10"] == pytest.approx(np.std(means, ddof=1)) and means[0] != means[1]
    assert set(report["spread"]) == {"shuffled_teacher", "generation_1", "final", "hybrid_final"}
    expected = paired_test(average, measured(both, "student_0").of("nDCG@10"), 13)
    row = next(row for row in report["tests"] if row["b"] == "student_0")
    assert (row["difference"], row["p"]) == (pytest.approx(expected.difference), expected.p)


def test_each_seed_has_its_own_gate_and_the_first_ones_student_is_served(both: RunResult, finished: RunResult) -> None:
    rows = [(one["generation"], one["seed"], one["decision"]) for one in both.report["generations"]]
    assert rows[0] == (1, 13, "accepted") and rows[1][:2] == (1, 14)
    for folder in (both.folder, finished.folder):
        assert (folder / "student" / "model.safetensors").is_file()
    student, alone = ((one.folder / "student" / "model.safetensors").read_bytes() for one in (both, finished))
    assert student == alone


def test_people_see_the_spread(both: RunResult, capsys: pytest.CaptureFixture[str]) -> None:
    print_results_table(both.report, both.details["table"])
    shown = capsys.readouterr().out
    spread = both.report["spread"]["final"]["nDCG@10"]
    assert "averages over seeds 13, 14" in shown
    assert f"{both.report['measures']['final']['nDCG@10']:.3f} ± {spread:.3f}" in shown
    assert (
        f"; the average of 2 seeds, standard deviation {spread:.4f}; the student of seed 13" in both.details["headline"]
    )
    page = (both.folder / "report.html").read_text()
    assert "seeds 13, 14" in page and f"± {spread:.3f}" in page and "Generation 1, seed 14" in page
    assert any(note.startswith("Generation 1, seed 14: ") for note in both.details["notes"])
    assert re.match(
        r"nDCG@10 of final by seed: 0\.\d{4} \(seed 13\), 0\.\d{4} \(seed 14\)\.$", both.details["notes"][0]
    )


def test_a_comparison_of_runs_is_of_their_averages(both: RunResult, finished: RunResult) -> None:
    compared = compare_runs(str(both.folder), str(finished.folder))["tests"][0]
    assert (compared["system"], compared["measure"]) == ("final", "nDCG@10")
    assert compared["value_a"] == pytest.approx(both.report["measures"]["final"]["nDCG@10"])
    assert compared["value_b"] == pytest.approx(finished.report["measures"]["final"]["nDCG@10"])


def test_nothing_is_left_to_make_and_a_plan_knows_the_repetition(both: RunResult, make_config: MakeConfig) -> None:
    runs = both.folder.parent
    assert all(line.cached for line in plan_config(make_config(*SEEDS), runs=runs))
    more = {line.address for line in plan_config(make_config("seeds=[13, 14, 15]"), runs=runs) if not line.cached}
    assert {"1/train@15", "2/encode@15", "final/evaluate:test@15"} <= more
    assert all(address.endswith("@15") for address in more)
    lines = len(ledger_of(both.folder))
    assert figures(seeded(make_config, runs).report) == figures(both.report)
    assert made_in(both.folder, after=lines) == []


def test_a_stage_of_a_seed_that_the_config_lacks_is_refused(make_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(
        RequestError, match=r"--until 1/train@15: this config has no such stage; did you mean 1/train@14"
    ):
        run_config(make_config(*SEEDS), runs=tmp_path, until="1/train@15")
