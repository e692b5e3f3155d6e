"""Baselines as strong as the student: hybrid search mixed in other ways, hard labels at their best rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sdretrieval.evaluation import log_odds, read_trec, reciprocal_ranks
from sdretrieval.files import read_json
from sdretrieval.run.api import run_config
from tests.helpers.runs.tiny_runs import MakeConfig, artifact, ledger_of


def test_baselines_are_rows_and_hard_labels_have_their_best_rate(
    make_config: MakeConfig, finished_copy: Path, finished: Any
) -> None:
    config = make_config(
        "evaluate.controls=[hard_labels]", "evaluate.baselines=[hybrid_dev, hybrid_log_odds, hybrid_rrf]",
        "evaluate.hard_label_rates=[1e-5, 3e-3]",
    )  # fmt: skip
    done = run_config(config, runs=finished_copy)
    assert done.report["systems"] == [
        "bm25", "student_0", "hybrid_0", "hybrid_dev", "hybrid_rrf", "hybrid_log_odds", "teacher@student_0",
        "hard_labels", "generation_1", "final", "hybrid_final",
    ]  # fmt: skip
    runs = {name: read_trec(done.folder / "runs" / f"{name}.test.trec") for name in done.report["systems"]}
    both = [runs["student_0"], runs["bm25"]]
    for name, mix in (("hybrid_rrf", reciprocal_ranks), ("hybrid_log_odds", log_odds)):
        for query, hits in mix(both).items():
            assert runs[name][query] == pytest.approx(hits)
    chosen = read_json(artifact(done.folder, "1/evaluate:strength") / "strength.json")
    assert chosen["dev"][str(chosen["strength"])] == max(chosen["dev"].values())
    assert done.report["dev_measures"]["hybrid_dev"]["nDCG@10"] == pytest.approx(max(chosen["dev"].values()))
    # 3e-3 is the rate of the config: the control of the finished run, found in the store; 1e-5 hardly learns.
    assert done.report["measures"]["hard_labels"] == finished.report["measures"]["hard_labels"]
    rates = [one for one in ledger_of(done.folder) if one["stage"].endswith(":hard_labels") and "train" in one["stage"]]
    assert {(one["stage"], one["cached"]) for one in rates} >= {
        ("1/train:1e-05:hard_labels", False), ("1/train:0.003:hard_labels", True),
    }  # fmt: skip
    assert "learning rate 0.003, the best of 2 on dev" in (done.folder / "report.html").read_text()
