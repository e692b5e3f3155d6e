"""The ablation table: each row is trained and measured on dev alone, and rows of other settings do not mix."""

from __future__ import annotations

import json
from argparse import Namespace
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.ablation_rows import TABLES
from benchmarks.ablations import run
from sdretrieval import load_config
from tests.helpers.runs.tiny_runs import settings


@pytest.fixture
def asked(tiny_corpus: Path, tiny_student: Path, tmp_path: Path) -> Any:
    """The command's arguments, rows and overrides to be given."""
    config = tmp_path / "tiny.yaml"
    short = settings(tiny_corpus, tiny_student)
    short["train"]["epochs"] = 1
    short |= {"generations": 2, "evaluate": {"controls": ["hard_labels", "shuffled_teacher"]}}
    config.write_text(yaml.safe_dump(short))

    def arguments(rows: str, *overrides: str, table: str = "teachers") -> Namespace:
        given = {"config": str(config), "table": table, "rows": rows, "runs": tmp_path, "overrides": [*overrides]}
        return Namespace(**given, split="dev", most=None, against=None, stride=32, lexical=0.5, dense=str(tiny_student))

    return arguments


def test_rows_are_measured_on_dev_alone(asked: Any, tmp_path: Path) -> None:
    table = run(asked("lexical; hard_labels; generations-2", "train.later_epochs=0.5")).splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == ["| lexical", "| hard_labels", "| generations-2"]
    stages = (tmp_path / "ablations-tiny" / "ledger.jsonl").read_text()
    assert "evaluate:dev" in stages
    assert ":test" not in stages
    rows = json.loads((tmp_path / "ablations-tiny.json").read_text())["rows"]
    assert rows["lexical"]["base"] == rows["hard_labels"]["base"]
    students = [rows[name]["row"] for name in ("lexical", "hard_labels", "generations-2")]
    assert all(student != rows["lexical"]["base"] for student in students)
    assert all(one != other for one, other in combinations(students, 2)), "each row is a student of its own"
    # More rows of the same settings join the table; other settings begin a new one.
    assert len(run(asked("ema-same-view", "train.later_epochs=0.5")).splitlines()) == len(table) + 1
    assert len(run(asked("lexical", "train.warmup=0.2")).splitlines()) == 3


def test_an_unknown_row_is_named_with_those_there_are(asked: Any) -> None:
    with pytest.raises(SystemExit, match=r"unknown rows: lexcal; expected some of: cross-encoder, ema-same-view, "):
        run(asked("lexcal"))


def test_objectives_are_compared_on_the_same_teacher(asked: Any, tmp_path: Path) -> None:
    names = ["mixture: listwise_kl over batches", "mixture: margin_mse", "dense: embedding"]
    table = run(asked("; ".join(names), table="objectives")).splitlines()
    assert [line.split(" | ")[0] for line in table[2:]] == [f"| {name}" for name in names]
    rows = json.loads((tmp_path / "ablations-tiny.json").read_text())["rows"]
    assert rows[names[0]]["teacher"] == rows[names[1]]["teacher"] != rows[names[2]]["teacher"]
    trained = [json.loads(line) for line in (tmp_path / "ablations-tiny" / "ledger.jsonl").read_text().splitlines()]
    keys = {record["key"] for record in trained if record["stage"] == "1/train"}
    assert len(keys) == len(names), "each row is a student of its own"


def test_every_row_of_every_table_is_a_config_of_its_own(asked: Any) -> None:
    arguments = asked("")
    for make in TABLES.values():
        rows = {name: load_config(arguments.config, overrides) for name, overrides in make(arguments).items()}
        asked_for = {config.model_dump_json() for config in rows.values()}
        assert len(asked_for) == len(rows), "two rows ask for the same"


def test_asymmetries_are_measured_once_on_some_of_the_test_queries(
    asked: Any, tiny_corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ["corpus.labels=false", "corpus.generated_queries=30", "corpus.dev_queries=20", "student.train=adapter"]
    arguments = asked("lexical; mixture: beside a lexical half", *small, table="asymmetries")
    arguments.split, arguments.most = "test", 10
    table = run(arguments)
    rows = json.loads((tmp_path / "ablations-tiny.json").read_text())["rows"]
    plain, half = rows["lexical"], rows["mixture: beside a lexical half"]
    test = {line.split("\t")[0] for line in (tiny_corpus / "qrels" / "test.tsv").read_text().splitlines()[1:]}
    assert len(plain["row"]) == 10 and {*plain["row"]} < test
    assert plain["base"] != half["base"], "a half finds something without any training"
    assert all(row["seconds"] > 0 for row in rows.values())
    made = [json.loads(line) for line in (tmp_path / "ablations-tiny" / "ledger.jsonl").read_text().splitlines()]
    assert plain["seconds"] < sum(one["seconds"] for one in made if not one["cached"]), "all rows share the base"
    monkeypatch.setattr("benchmarks.ablations.measure", lambda *_: pytest.fail("measured again"))
    arguments.overrides = small
    assert run(arguments) == table
    arguments.overrides, arguments.against = small, "lexical"
    [line] = run(arguments).splitlines()[2:]
    cells = [cell.strip() for cell in line.split("|")]
    means = [sum(row["row"].values()) / 10 for row in (half, plain)]
    assert cells[1] == "mixture: beside a lexical half" and float(cells[5]) == pytest.approx(
        means[0] - means[1], abs=1e-4
    )
