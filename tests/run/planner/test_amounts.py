"""What a plan says there is to do is what a run then does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdretrieval.run.api import forecast_config, run_config
from sdretrieval.run.planner.amounts import counted
from tests.run.helpers.tiny_runs import EMA, LEXICAL, MakeConfig, ledger_of

KINDS: dict[str, tuple[list[str], dict[str, Any]]] = {
    "two generations and controls": (
        ["generations=2", "train.epochs=8", "train.later_epochs=3", "evaluate.controls=[shuffled_teacher]"],
        {},
    ),
    "queries alone": (["student.train=query", "generations=2", "mine.keep=7"], {}),
    "accumulated, a cut in training": (["train.gradient_accumulation=2", "train.document_tokens=16"], {}),
    "the base teaches": (
        ["generations=2", "gate.tolerance=1"],
        {"teacher": {"kind": "ensemble", "members": [{**EMA, "mode": "base"}, LEXICAL]}},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_units_of_work_are_foretold(kind: str, make_config: MakeConfig, tmp_path: Path) -> None:
    asked, sections = KINDS[kind]
    config = make_config(*asked, "gate.tolerance=1", **sections)
    foretold = forecast_config(config, runs=tmp_path / "before").forecast.stages
    result = run_config(config, runs=tmp_path / "runs")
    assert result is not None
    compared = 0
    for record in ledger_of(result.folder):
        told, found = foretold.get(record["stage"]), counted(record["stage"], record["counts"])
        if told is None or told.amount is None or found is None or record["cached"]:
            continue
        assert told.amount.count == pytest.approx(found, rel=0.05, abs=1), record["stage"]
        compared += 1
    assert compared >= 15
    assert "1/train" in foretold and "1/encode" in foretold
